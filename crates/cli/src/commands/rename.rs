//! `rename`.

use super::Command;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;

/// `rename`.
#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    args: Vec<String>,
}

impl Command for Rename {
    const ABOUT: &'static str = "Give a container another name";
    const USAGE: &'static str = "CONTAINER NEW_NAME";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (old, new) = (self.args[0].trim(), self.args[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(Error::new("Error: Neither old nor new names may be empty"));
        }
        let query = Query::new(format!("{}/rename", path_of(old))).set("name", new);
        if let Err(error) = cli.client()?.done(Call::post(query)).await {
            eprintln!("{error}");
            return Err(Error::new(format_args!("Error: failed to rename container named {old}")));
        }
        Ok(0)
    }
}
