//! `image prune` and `container prune`.

use budu_spec::docker::ImageDeleted;
use budu_spec::units::human_size;
use serde::Deserialize;

use super::Command;
use super::lists::filters;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::confirm::confirm;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;

/// `image prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Images {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove what matches these conditions (until=TIME, label=KEY)
    #[arg(long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    #[serde(default)]
    images_deleted: Option<Vec<ImageDeleted>>,
    #[serde(default)]
    containers_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

impl Command for Images {
    const ABOUT: &'static str = "Remove images that no container uses";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let warning = match self.all {
            true => "WARNING! This will remove all images without at least one container associated to them.",
            false => "WARNING! This will remove all dangling images.",
        };
        if !self.force && !confirm(warning)? {
            return Err(Error::Status { message: "image prune has been cancelled".to_owned(), code: 1 });
        }
        let mut filters = filters(&self.filter);
        filters.add("dangling", if self.all { "false" } else { "true" });
        let query = Query::new("/images/prune").set("filters", &filters.to_json());
        let pruned: Pruned = cli.client()?.json(Call::post(query)).await?;
        let mut text = String::new();
        for (n, step) in pruned.images_deleted.iter().flatten().enumerate() {
            if n == 0 {
                text.push_str("Deleted Images:\n");
            }
            match (&step.untagged, &step.deleted) {
                (Some(name), _) => text.push_str(&format!("untagged: {name}\n")),
                (_, Some(id)) => text.push_str(&format!("deleted: {id}\n")),
                _ => {}
            }
        }
        finish(text, pruned.space_reclaimed)
    }
}

fn finish(mut text: String, reclaimed: u64) -> Result<i32, Error> {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("Total reclaimed space: {}\n", human_size(reclaimed as f64, 4)));
    put(&text)?;
    Ok(0)
}

/// `container prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Containers {
    /// Remove what matches these conditions (until=TIME, label=KEY)
    #[arg(long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

impl Command for Containers {
    const ABOUT: &'static str = "Remove all containers that do not run";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        if !self.force && !confirm("WARNING! This will remove all stopped containers.")? {
            return Err(Error::Status { message: "container prune has been cancelled".to_owned(), code: 1 });
        }
        let filters = filters(&self.filter);
        let json = filters.to_json();
        let query = Query::new("/containers/prune").maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let pruned: Pruned = cli.client()?.json(Call::post(query)).await?;
        let mut text = String::new();
        if let Some(deleted) = pruned.containers_deleted.filter(|list| !list.is_empty()) {
            text = format!("Deleted Containers:\n{}\n", deleted.join("\n"));
        }
        finish(text, pruned.space_reclaimed)
    }
}
