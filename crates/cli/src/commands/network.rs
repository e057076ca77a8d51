//! `network ls`.

use budu_spec::docker::Network;
use budu_spec::id::truncate;

use super::Command;
use super::lists::{filters, label_members};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{self, Listing};

/// `network ls`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Show what matches these conditions
    #[arg(short, long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

const LISTING: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    heads: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

impl Command for List {
    const ABOUT: &'static str = "List networks";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let wished = self.format.clone().unwrap_or_default();
        let wished = if wished.is_empty() && !self.quiet { cli.config.networks_format.clone() } else { wished };
        let format = LISTING.format(&wished, self.quiet)?;
        let filters = filters(&self.filter);
        let json = filters.to_json();
        let query = Query::new("/networks").maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let mut networks: Vec<Network> = cli.client()?.json(Call::get(query)).await?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let rows: Vec<Data> = networks.iter().map(|network| row(network, !self.no_trunc)).collect();
        table::put(&LISTING.render(&format, &rows)?)?;
        Ok(0)
    }
}

fn row(network: &Network, cut: bool) -> Data {
    let text = |name: &str, value: &str| (name.to_owned(), Data::from(value));
    let created = network.created.parse::<jiff::Timestamp>();
    let created = created.map_or_else(
        |_| network.created.clone(),
        |time| {
            let time = jiff::tz::Offset::UTC.to_datetime(time);
            time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
        },
    );
    let mut members = vec![
        text("CreatedAt", &created),
        text("Driver", &network.driver),
        text("ID", if cut { truncate(&network.id) } else { &network.id }),
        text("IPv4", &network.enable_ipv4.to_string()),
        text("IPv6", &network.enable_ipv6.to_string()),
        text("Internal", &network.internal.to_string()),
        text("Name", &network.name),
        text("Scope", &network.scope),
    ];
    members.extend(label_members(&network.labels));
    Data::Row(members)
}
