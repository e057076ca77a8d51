//! `volume rm`.

use super::super::Command;
use super::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;

/// `volume rm`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Remove {
    /// Say nothing about volumes that are not there
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

impl Command for Remove {
    const ABOUT: &'static str = "Remove volumes";
    const USAGE: &'static str = "[OPTIONS] VOLUME [VOLUME...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let mut code = 0;
        for name in &self.args {
            match client.done(Call::delete(Query::new(path_of(name)).flag("force", self.force))).await {
                Ok(()) => put_line(name)?,
                Err(error) => {
                    eprintln!("{error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
