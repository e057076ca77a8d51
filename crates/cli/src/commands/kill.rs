//! `kill`.

use super::Command;
use super::lists::each;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;

/// `kill`.
#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    /// Signal to send
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    args: Vec<String>,
}

impl Command for Kill {
    const ABOUT: &'static str = "Kill running containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let query = |name| Query::new(format!("{}/kill", path_of(name))).maybe("signal", self.signal.as_deref());
        each(&self.args, |name| client.done(Call::post(query(name)))).await
    }
}
