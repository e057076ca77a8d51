//! `system df`.

use budu_spec::docker::{ContainerSummary, DiskLists, DiskUsage, ImageSummary};
use budu_spec::id::truncate;
use budu_spec::units::{human_duration, human_size};
use serde_json::Value;

use super::Command;
use crate::cli::Cli;
use crate::client::Call;
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{Format, Listing, align, ellipsis, put};

/// `system df`.
#[derive(Debug, clap::Args)]
pub(super) struct Df {
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    args: Vec<String>,
}

const HEADS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

impl Command for Df {
    const ABOUT: &'static str = "Show what takes room on the disk";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let usage: DiskUsage = cli.client()?.json(Call::get("/system/df")).await?;
        let lists = usage.lists.unwrap_or_default();
        let listing = Listing { table: TABLE, quiet: TABLE, heads: HEADS };
        let format = listing.format(self.format.as_deref().unwrap_or_default(), false)?;
        if self.verbose && matches!(format, Format::Table(_)) {
            put(&verbose(&lists, jiff::Timestamp::now().as_second()))?;
            return Ok(0);
        }
        let rows = summary(&lists);
        put(&listing.render(&format, &rows)?)?;
        Ok(0)
    }
}

fn bytes(size: i64) -> String {
    human_size(size.max(0) as f64, 4)
}

/// Bytes and their part of the whole.
fn part(size: i64, total: i64) -> String {
    match total {
        ..=0 => bytes(size),
        total => format!("{} ({}%)", bytes(size), size.saturating_mul(100) / total),
    }
}

fn is_active(container: &ContainerSummary) -> bool {
    matches!(container.state.as_str(), "running" | "paused" | "restarting")
}

fn summary(lists: &DiskLists) -> Vec<Data> {
    let row = |kind: &str, total: usize, active: usize, size: String, reclaimable: String| {
        let fields = [
            ("Active", active.to_string()),
            ("Reclaimable", reclaimable),
            ("Size", size),
            ("TotalCount", total.to_string()),
            ("Type", kind.to_owned()),
        ];
        Data::Row(fields.into_iter().map(|(name, text)| (name.to_owned(), Data::text(text))).collect())
    };
    let (images, containers) = (lists.images.iter().flatten(), lists.containers.iter().flatten());
    let used: Vec<&ImageSummary> = images.clone().filter(|image| image.containers > 0).collect();
    let kept: i64 = used.iter().filter(|i| i.size >= 0 && i.shared_size >= 0).map(|i| i.size - i.shared_size).sum();
    let layers = lists.layers_size;
    let size = |container: &ContainerSummary| container.size_rw.unwrap_or(0);
    let (all, idle): (i64, i64) =
        (containers.clone().map(size).sum(), containers.clone().filter(|c| !is_active(c)).map(size).sum());
    let volumes = lists.volumes.iter().flatten();
    let number = |volume: &Value, key: &str| volume["UsageData"][key].as_i64().unwrap_or(0).max(0);
    let volume_bytes: i64 = volumes.clone().map(|volume| number(volume, "Size")).sum();
    let loose: i64 =
        volumes.clone().filter(|volume| number(volume, "RefCount") == 0).map(|volume| number(volume, "Size")).sum();
    let cache = lists.build_cache.iter().flatten();
    let cached: i64 = cache.clone().map(|record| record["Size"].as_i64().unwrap_or(0)).sum();
    vec![
        row("Images", images.count(), used.len(), bytes(layers), part((layers - kept).max(0), layers)),
        row(
            "Containers",
            containers.clone().count(),
            containers.filter(|c| is_active(c)).count(),
            bytes(all),
            part(idle, all),
        ),
        row(
            "Local Volumes",
            volumes.clone().count(),
            volumes.filter(|volume| number(volume, "RefCount") > 0).count(),
            bytes(volume_bytes),
            part(loose, volume_bytes),
        ),
        row(
            "Build Cache",
            cache.clone().count(),
            cache.filter(|r| r["InUse"] == true).count(),
            bytes(cached),
            bytes(cached),
        ),
    ]
}

/// Everything one by one.
fn verbose(lists: &DiskLists, now: i64) -> String {
    let ago = |then: i64| format!("{} ago", human_duration(now - then));
    let mut images = "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\n".to_owned();
    for image in lists.images.iter().flatten() {
        let name = image.repo_tags.first().and_then(|tag| tag.rsplit_once(':')).unwrap_or(("<none>", "<none>"));
        let shared = image.shared_size.max(0);
        images.push_str(&format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            name.0,
            name.1,
            truncate(&image.id),
            ago(image.created),
            bytes(image.size),
            bytes(shared),
            bytes(image.size - shared),
            image.containers
        ));
    }
    let mut containers = "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES\n".to_owned();
    for container in lists.containers.iter().flatten() {
        let volumes = container.mounts.iter().filter(|mount| mount.kind == "volume").count();
        let names: Vec<&str> = container.names.iter().map(|name| name.trim_start_matches('/')).collect();
        containers.push_str(&format!(
            "{}\t{}\t\"{}\"\t{volumes}\t{}\t{}\t{}\t{}\n",
            truncate(&container.id),
            container.image,
            ellipsis(&container.command, 20),
            bytes(container.size_rw.unwrap_or(0)),
            ago(container.created),
            container.status,
            names.join(",")
        ));
    }
    let mut volumes = "VOLUME NAME\tLINKS\tSIZE\n".to_owned();
    for volume in lists.volumes.iter().flatten() {
        let usage = &volume["UsageData"];
        volumes.push_str(&format!(
            "{}\t{}\t{}\n",
            volume["Name"].as_str().unwrap_or_default(),
            usage["RefCount"].as_i64().unwrap_or(0),
            bytes(usage["Size"].as_i64().unwrap_or(0))
        ));
    }
    let cache = "CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED\n";
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: 0B\n\n{}",
        align(&images),
        align(&containers),
        align(&volumes),
        align(cache)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reclaimed_is_what_nobody_uses() {
        let image =
            |size, shared_size, containers| ImageSummary { size, shared_size, containers, ..ImageSummary::default() };
        let lists = DiskLists {
            layers_size: 3000,
            images: Some(vec![image(2000, 500, 1), image(1500, 500, 0)]),
            containers: Some(vec![ContainerSummary {
                state: "exited".into(),
                size_rw: Some(10),
                ..ContainerSummary::default()
            }]),
            ..DiskLists::default()
        };
        let rows = summary(&lists);
        let text = |row: usize, field: &str| rows[row].member(field).cloned();
        assert_eq!(text(0, "Reclaimable"), Some(Data::text("1.5kB (50%)")));
        assert_eq!(text(1, "Reclaimable"), Some(Data::text("10B (100%)")));
        assert_eq!(text(2, "Reclaimable"), Some(Data::text("0B")));
    }
}
