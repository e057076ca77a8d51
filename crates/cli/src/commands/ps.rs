//! `ps`.

use budu_spec::Filters;
use budu_spec::docker::ContainerSummary;
use budu_spec::id::truncate;
use budu_spec::units::{human_duration, human_size};

use super::Command;
use super::lists::{created_at, filters, label_members};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{self, Format, Listing, ellipsis};

/// `ps`.
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Show what matches these conditions
    #[arg(short, long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json', 'raw'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show the n last created containers, in any state
    #[arg(short = 'n', long, value_name = "int", default_value = "-1", value_parser = crate::flags::parse_int)]
    last: i64,
    /// Show the last created container, in any state
    #[arg(short, long)]
    latest: bool,
    /// Do not cut long texts
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show sizes
    #[arg(short, long)]
    size: bool,
    /// Show why containers ended or are unwell
    #[arg(long)]
    why: bool,
    args: Vec<String>,
}

const HEADS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Why", "WHY"),
];

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

impl Command for Ps {
    const ABOUT: &'static str = "List containers";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let table = if self.size { TABLE_WITH_SIZE } else { TABLE };
        let table = if self.why { format!("{table}\t{{{{.Why}}}}") } else { table.to_owned() };
        let listing = Listing { table: &table, quiet: "{{.ID}}", heads: HEADS };
        let wished = self.format.clone().unwrap_or_default();
        let wished = if wished.is_empty() && !self.quiet { cli.config.ps_format.clone() } else { wished };
        let format = listing.format(if wished == "raw" { RAW } else { &wished }, self.quiet)?;
        let shows_size = match &format {
            Format::Table(template) | Format::Plain(template) => template.uses("Size"),
            Format::Json => false,
        };
        let last = if self.latest && self.last == -1 { 1 } else { self.last };
        let filters: Filters = filters(&self.filter);
        let json = filters.to_json();
        let query = Query::new("/containers/json")
            .flag("all", self.all || last > 0)
            .maybe("limit", (last > 0).then(|| last.to_string()).as_deref())
            .flag("size", self.size || shows_size)
            .maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let containers: Vec<ContainerSummary> = cli.client()?.json(Call::get(query)).await?;
        let now = jiff::Timestamp::now().as_second();
        let shows_why = match &format {
            Format::Table(template) | Format::Plain(template) => template.uses("Why"),
            Format::Json => self.why,
        };
        let rows: Vec<Data> =
            containers.iter().map(|container| row(container, !self.no_trunc, now, shows_why)).collect();
        table::put(&listing.render(&format, &rows)?)?;
        Ok(0)
    }
}

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n";

fn row(container: &ContainerSummary, cut: bool, now: i64, why: bool) -> Data {
    let text = |name: &str, value: String| (name.to_owned(), Data::Text(value));
    let mut mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { &mount.source } else { &mount.name })
        .map(|name| if cut { ellipsis(name, 15) } else { name.clone() })
        .collect();
    mounts.sort();
    let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    let command = if cut { ellipsis(&container.command, 20) } else { container.command.clone() };
    let mut members = vec![
        text("Command", serde_json::to_string(&command).unwrap_or_default()),
        text("CreatedAt", created_at(container.created)),
        text("ID", if cut { truncate(&container.id).to_owned() } else { container.id.clone() }),
        text("Image", image(container, cut)),
        text("LocalVolumes", volumes.to_string()),
        text("Mounts", mounts.join(",")),
        text("Names", names(container, cut)),
        text("Networks", networks.join(",")),
        ("Platform".to_owned(), Data::Null),
        text("Ports", super::ports::displayed(&container.ports)),
        text("RunningFor", format!("{} ago", human_duration(now - container.created))),
        text("Size", size(container)),
        text("State", container.state.clone()),
        text("Status", container.status.clone()),
    ];
    if why {
        members.push(text("Why", container.why.clone().unwrap_or_default()));
    }
    members.extend(label_members(&container.labels));
    Data::Row(members)
}

fn names(container: &ContainerSummary, cut: bool) -> String {
    let own = |name: &&str| !cut || !name.contains('/');
    let names: Vec<&str> = container.names.iter().map(|name| name.trim_start_matches('/')).filter(own).collect();
    names.join(",")
}

fn image(container: &ContainerSummary, cut: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if !cut {
        return container.image.clone();
    }
    let short = truncate(&container.image_id);
    if truncate(&container.image) == short {
        return short.to_owned();
    }
    match container.image.split_once('@') {
        Some((name, _)) if !name.is_empty() => name.to_owned(),
        _ => container.image.clone(),
    }
}

fn size(container: &ContainerSummary) -> String {
    let own = human_size(container.size_rw.unwrap_or_default() as f64, 3);
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{own} (virtual {})", human_size(all as f64, 3)),
        _ => own,
    }
}
