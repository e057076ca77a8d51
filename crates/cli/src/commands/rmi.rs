//! `rmi`.

use budu_spec::docker::ImageDeleted;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query, escape_name};
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;

/// `rmi`.
#[derive(Debug, clap::Args)]
pub(super) struct Rmi {
    /// Remove even when in use by stopped containers or under several names
    #[arg(short, long)]
    force: bool,
    /// Keep parents without a name
    #[arg(long)]
    no_prune: bool,
    args: Vec<String>,
}

impl Command for Rmi {
    const ABOUT: &'static str = "Remove images";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let client = cli.client()?;
        let mut code = 0;
        for name in &self.args {
            let query = Query::new(format!("/images/{}", escape_name(name)))
                .flag("force", self.force)
                .flag("noprune", self.no_prune);
            match client.json::<Vec<ImageDeleted>>(Call::delete(query)).await {
                Ok(steps) => {
                    let untagged =
                        |step: &ImageDeleted| step.untagged.as_ref().map(|name| format!("Untagged: {name}\n"));
                    let deleted = |step: &ImageDeleted| step.deleted.as_ref().map(|id| format!("Deleted: {id}\n"));
                    put(&steps.iter().filter_map(|step| deleted(step).or_else(|| untagged(step))).collect::<String>())?;
                }
                Err(error) => {
                    eprintln!("{error}");
                    code = if self.force && error.is_status(404) { code } else { 1 };
                }
            }
        }
        Ok(code)
    }
}
