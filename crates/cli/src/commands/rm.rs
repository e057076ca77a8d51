//! `rm`.

use super::Command;
use super::lists::each;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::error::Error;
use crate::flags::Arity;

/// `rm`.
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Kill running containers first
    #[arg(short, long)]
    force: bool,
    /// Remove the link of this name
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    args: Vec<String>,
}

impl Command for Rm {
    const ABOUT: &'static str = "Remove containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        if self.args.iter().any(String::is_empty) {
            return Err(Error::new("container name cannot be empty"));
        }
        let remove = |name: &String| {
            let query = Query::new(path_of(name.trim_matches('/')))
                .flag("v", self.volumes)
                .flag("link", self.link)
                .flag("force", self.force);
            client.done(Call::delete(query))
        };
        if !self.force {
            return each(&self.args, remove).await;
        }
        // With --force a container that is not there is as good as removed.
        let mut code = 0;
        for name in &self.args {
            match remove(name).await {
                Ok(()) => crate::table::put_line(name)?,
                Err(error) => {
                    eprintln!("{error}");
                    code = if error.is_status(404) { code } else { 1 };
                }
            }
        }
        Ok(code)
    }
}
