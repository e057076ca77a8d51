//! `volume create`.

use std::collections::BTreeMap;

use budu_spec::docker::{Volume, VolumeCreate};

use super::super::Command;
use crate::cli::Cli;
use crate::client::Call;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `volume create`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Create {
    /// Driver that keeps the volume
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set labels
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Name of the volume
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Options of the driver (type, o, device, size)
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    args: Vec<String>,
}

impl Command for Create {
    const ABOUT: &'static str = "Create a volume";
    const USAGE: &'static str = "[OPTIONS] [VOLUME]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let name = match (self.name, self.args.into_iter().next()) {
            (Some(_), Some(_)) => {
                return Err(Error::new(
                    "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
                ));
            }
            (flag, argument) => argument.or(flag).unwrap_or_default(),
        };
        let wish = VolumeCreate {
            name,
            driver: self.driver,
            driver_opts: Some(pairs(&self.opt)),
            labels: Some(pairs(&self.label)),
            cluster_volume_spec: None,
        };
        let volume: Volume = cli.client()?.json(Call::post("/volumes/create").json(&wish)).await?;
        put_line(&volume.name)?;
        Ok(0)
    }
}

pub(super) fn pairs(list: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    };
    list.iter().map(split).collect()
}
