//! `volume ls`.

use budu_spec::docker::{Volume, VolumeList};

use super::super::Command;
use super::super::lists::{filters, label_members};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{self, Listing};

/// `volume ls`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct List {
    /// Show volumes of a swarm
    #[arg(long)]
    cluster: bool,
    /// Show what matches these conditions
    #[arg(short, long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

const LISTING: Listing<'static> = Listing {
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    heads: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
};

impl Command for List {
    const ABOUT: &'static str = "List volumes";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let wished = self.format.clone().unwrap_or_default();
        let wished = if wished.is_empty() && !self.quiet { cli.config.volumes_format.clone() } else { wished };
        let format = LISTING.format(&wished, self.quiet)?;
        let filters = filters(&self.filter);
        let json = filters.to_json();
        let query = Query::new("/volumes").maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let list: VolumeList = cli.client()?.json(Call::get(query)).await?;
        for warning in list.warnings.iter().flatten() {
            eprintln!("WARNING: {warning}");
        }
        let mut volumes = if self.cluster { Vec::new() } else { list.volumes };
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let rows: Vec<Data> = volumes.iter().map(row).collect();
        table::put(&LISTING.render(&format, &rows)?)?;
        Ok(0)
    }
}

fn row(volume: &Volume) -> Data {
    let text = |name: &str, value: &str| (name.to_owned(), Data::from(value));
    let size = volume.usage_data.map(|usage| budu_spec::units::human_size(usage.size as f64, 4));
    let links = volume.usage_data.map(|usage| usage.ref_count.to_string());
    let mut members = vec![
        text("Availability", "N/A"),
        text("Driver", &volume.driver),
        text("Group", "N/A"),
        text("Links", links.as_deref().unwrap_or("N/A")),
        text("Mountpoint", &volume.mountpoint),
        text("Name", &volume.name),
        text("Scope", &volume.scope),
        text("Size", size.as_deref().unwrap_or("N/A")),
        text("Status", "N/A"),
    ];
    members.extend(label_members(&volume.labels.clone().unwrap_or_default()));
    Data::Row(members)
}
