//! Debian's `docker-registry` on a loopback address.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Cage, wait};

/// A registry that lives as long as the cage it was started in.
#[derive(Debug)]
pub struct Registry;

impl Registry {
    /// Where it answers.
    pub const ADDRESS: &str = "127.0.0.1:5000";

    /// Starts a registry in `cage` that keeps its data in `storage`, and waits until it answers.
    pub fn start(cage: &Cage, storage: &Path, log: &Path) -> Result<Registry> {
        std::fs::create_dir_all(storage)?;
        let config = log.with_extension("yml");
        let storage = storage.display();
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\n\
                 http: {{addr: '{}'}}\n",
                Self::ADDRESS
            ),
        )?;
        let argv = ["docker-registry".to_owned(), "serve".to_owned(), config.display().to_string()];
        let path = std::env::var("PATH").unwrap_or_default();
        cage.spawn(&argv, &[("PATH".to_owned(), path)], log)?;
        cage.in_network(|| {
            wait::until("the registry's port", Duration::from_secs(20), || TcpStream::connect(Self::ADDRESS).ok())
        })?
        .with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(Registry)
    }
}
