//! `system dial-stdio`, `system prune`.

use std::io::{Read as _, Write as _};

use budu_spec::Filters;
use budu_spec::units::human_size;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Command;
use super::lists::filters;
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::confirm::confirm;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{put, put_line};

/// `system dial-stdio`.
#[derive(Debug, clap::Args)]
pub(super) struct DialStdio {
    args: Vec<String>,
}

/// `system prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Only what matches these conditions (such as "label=<key>=<value>")
    #[arg(long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes, too
    #[arg(long)]
    volumes: bool,
    args: Vec<String>,
}

impl Command for DialStdio {
    const ABOUT: &'static str = "Connect standard input and output with the daemon";
    const USAGE: &'static str = "";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let stream = cli.client()?.dial().await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = input();
        let to_daemon = async {
            while let Some(piece) = input.recv().await {
                writer.write_all(&piece).await?;
            }
            // The end of input is told, and answers may still come.
            writer.shutdown().await
        };
        let from_daemon = async {
            let mut buffer = vec![0u8; 32 << 10];
            loop {
                let count = reader.read(&mut buffer).await?;
                if count == 0 {
                    return Ok::<_, std::io::Error>(());
                }
                // Whoever reads this is all there is to wait for.
                let mut out = std::io::stdout().lock();
                out.write_all(&buffer[..count])?;
                out.flush()?;
            }
        };
        tokio::pin!(to_daemon, from_daemon);
        let broken = |error: std::io::Error| Error::Transport { reason: error.to_string() };
        tokio::select! {
            ended = &mut from_daemon => ended.map_err(broken)?,
            sent = &mut to_daemon => {
                sent.map_err(broken)?;
                from_daemon.await.map_err(broken)?;
            }
        }
        Ok(0)
    }
}

/// Standard input, piece by piece, read by a thread of its own.
fn input() -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0u8; 32 << 10];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What pruning answers, by any of its names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pruned {
    containers_deleted: Option<Vec<String>>,
    networks_deleted: Option<Vec<String>>,
    volumes_deleted: Option<Vec<String>>,
    images_deleted: Option<Vec<budu_spec::docker::ImageDeleted>>,
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

impl Prune {
    fn warning(&self) -> String {
        let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            lines.push("all anonymous volumes not used by at least one container");
        }
        lines.push(match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        });
        lines.push(if self.all { "all build cache" } else { "unused build cache" });
        let mut text = "WARNING! This will remove:\n".to_owned();
        lines.iter().for_each(|line| text += &format!("  - {line}\n"));
        if !self.filter.is_empty() {
            text += "\n  Items to be pruned will be filtered with:\n";
            self.filter.iter().for_each(|filter| text += &format!("  - {filter}\n"));
        }
        text
    }

    /// What is pruned: the path, and the heading of what went.
    fn steps(&self) -> Vec<(&'static str, Filters)> {
        let filters = filters(&self.filter);
        let mut steps = vec![("/containers/prune", filters.clone()), ("/networks/prune", filters.clone())];
        if self.volumes {
            steps.push(("/volumes/prune", filters.clone()));
        }
        let mut images = filters.clone();
        images.add("dangling", if self.all { "false" } else { "true" });
        steps.extend([("/images/prune", images), ("/build/prune", filters)]);
        steps
    }
}

impl Command for Prune {
    const ABOUT: &'static str = "Remove unused data";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        if self.volumes && self.filter.iter().any(|filter| filter.starts_with("until=")) {
            return Err(Error::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
        }
        if !self.force && !confirm(&self.warning())? {
            return Err(Error::Status { message: "system prune has been cancelled".to_owned(), code: 1 });
        }
        let client = cli.client()?;
        let mut reclaimed = 0;
        for (path, filters) in self.steps() {
            let json = filters.to_json();
            let mut query = Query::new(path).maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
            if path == "/build/prune" {
                query = query.flag("all", self.all);
            }
            let pruned: Pruned = match client.json(Call::post(query)).await {
                Ok(pruned) => pruned,
                // A daemon without a builder has no cache either.
                Err(error) if path == "/build/prune" && error.is_status(501) => continue,
                Err(error) => return Err(error),
            };
            reclaimed += pruned.space_reclaimed;
            put(&report(pruned))?;
        }
        put_line(&format!("Total reclaimed space: {}", human_size(reclaimed as f64, 4)))?;
        Ok(0)
    }
}

fn report(pruned: Pruned) -> String {
    let images = pruned.images_deleted.unwrap_or_default().into_iter().flat_map(|image| {
        let untagged = image.untagged.map(|name| format!("untagged: {name}"));
        untagged.into_iter().chain(image.deleted.map(|id| format!("deleted: {id}")))
    });
    let mut text = String::new();
    for (heading, list) in [
        ("Containers", pruned.containers_deleted.unwrap_or_default()),
        ("Networks", pruned.networks_deleted.unwrap_or_default()),
        ("Volumes", pruned.volumes_deleted.unwrap_or_default()),
        ("Images", images.collect()),
        ("build cache objects", pruned.caches_deleted.unwrap_or_default()),
    ] {
        if !list.is_empty() {
            text += &format!("Deleted {heading}:\n{}\n\n", list.join("\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_listed() {
        let pruned: Pruned = serde_json::from_str(
            r#"{"ImagesDeleted":[{"Untagged":"a:1"},{"Deleted":"sha256:x"}],"ContainersDeleted":null,"SpaceReclaimed":5}"#,
        )
        .unwrap();
        assert_eq!(report(pruned), "Deleted Images:\nuntagged: a:1\ndeleted: sha256:x\n\n");
        assert_eq!(report(Pruned::default()), "");
    }
}
