//! The daemons that the tests can run against.

use std::path::{Path, PathBuf};

use crate::{World, peers};

/// A program that speaks the Docker Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Ours.
    Budu,
    /// Docker's, from the peers' root directory.
    Dockerd,
}

impl Backend {
    /// The backend that `BUDU_E2E_BACKEND` names: `dockerd`, or else Budu.
    pub fn current() -> Backend {
        match std::env::var("BUDU_E2E_BACKEND").as_deref() {
            Ok("dockerd") => Backend::Dockerd,
            _ => Backend::Budu,
        }
    }

    /// The binary under test: `BUDU_BIN`, else `budu` beside or above the running test program.
    pub fn budu_binary() -> PathBuf {
        if let Some(path) = std::env::var_os("BUDU_BIN") {
            return PathBuf::from(path);
        }
        let own = std::env::current_exe().unwrap_or_default();
        let mut dirs = own.ancestors().skip(1).take(2);
        let found = dirs.find_map(|dir| Some(dir.join("budu")).filter(|path| path.exists()));
        found.unwrap_or_else(|| PathBuf::from("budu"))
    }

    pub(super) fn world(self, dir: &Path) -> World {
        match self {
            Backend::Budu => World::default(),
            Backend::Dockerd => peers::world(dir),
        }
    }

    pub(super) fn daemon(self, dir: &Path, flags: &[String]) -> Vec<String> {
        let path = |name: &str| dir.join(name).display().to_string();
        let own: Vec<String> = match self {
            Backend::Budu => vec![
                Backend::budu_binary().display().to_string(),
                "daemon".to_owned(),
                "--bridge".to_owned(),
                self.bridge().to_owned(),
            ],
            // --live-restore gives dockerd the behaviour that Budu has always: containers outlive the daemon.
            Backend::Dockerd => {
                vec!["dockerd".to_owned(), "--live-restore".to_owned(), "--pidfile".to_owned(), path("d.pid")]
            }
        };
        let host = format!("unix://{}", path("d.sock"));
        let common = ["-H", &host, "--data-root", &path("data"), "--exec-root", &path("exec")];
        let address = ["--bip", "10.88.0.1/16"];
        let words = common.iter().chain(&address).map(|word| (*word).to_owned());
        own.into_iter().chain(words).chain(flags.iter().cloned()).collect()
    }

    /// Mount points that stay after the last container, by design of the daemon.
    pub(super) fn kept_mounts(self, dir: &Path) -> Vec<String> {
        match self {
            Backend::Budu => Vec::new(),
            Backend::Dockerd => {
                ["exec/netns/default", "data"].map(|name| dir.join(name).display().to_string()).to_vec()
            }
        }
    }

    /// How many networks the daemon keeps ready for containers to come.
    pub(super) fn spare_networks(self) -> u32 {
        match self {
            Backend::Budu => 4,
            Backend::Dockerd => 0,
        }
    }

    /// Name of the bridge that containers are attached to.
    pub fn bridge(self) -> &'static str {
        match self {
            Backend::Budu => "budu-e2e",
            Backend::Dockerd => "docker0",
        }
    }
}
