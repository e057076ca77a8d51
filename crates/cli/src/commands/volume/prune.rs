//! `volume prune`.

use budu_spec::docker::VolumesPruned;
use budu_spec::units::human_size;

use super::super::Command;
use super::super::lists::filters;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::confirm::confirm;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;

/// `volume prune`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Prune {
    /// Remove volumes that have names, too
    #[arg(short, long)]
    all: bool,
    /// Remove what matches these conditions (label=KEY)
    #[arg(long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

impl Command for Prune {
    const ABOUT: &'static str = "Remove volumes that no container uses";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let mut filters = filters(&self.filter);
        if self.all {
            if !filters.values("all").is_empty() {
                return Err(Error::new("conflicting options: cannot specify both --all and --filter all=1"));
            }
            filters.add("all", "true");
        }
        let all = matches!(filters.values("all").first().map(String::as_str), Some("1" | "true"));
        let which = if all { "all local volumes" } else { "anonymous local volumes" };
        if !self.force && !confirm(&format!("WARNING! This will remove {which} not used by at least one container."))? {
            return Err(Error::Status { message: "volume prune has been cancelled".to_owned(), code: 1 });
        }
        let query = Query::new("/volumes/prune").maybe("filters", Some(filters.to_json().as_str()));
        let pruned: VolumesPruned = cli.client()?.json(Call::post(query)).await?;
        let mut text = String::new();
        if !pruned.volumes_deleted.is_empty() {
            text = format!("Deleted Volumes:\n{}\n\n", pruned.volumes_deleted.join("\n"));
        }
        text.push_str(&format!("Total reclaimed space: {}\n", human_size(pruned.space_reclaimed as f64, 4)));
        put(&text)?;
        Ok(0)
    }
}
