//! `history`.

use budu_spec::docker::HistoryItem;
use budu_spec::id::truncate;
use budu_spec::units::{human_duration, human_size};

use super::Command;
use super::lists::created_at;
use crate::cli::Cli;
use crate::client::{Call, Query, escape_name};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{Listing, ellipsis, put};

/// `history`.
#[derive(Debug, clap::Args)]
pub(super) struct History {
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print sizes and dates for people
    #[arg(short = 'H', long, value_name = "bool", action = clap::ArgAction::Set)]
    human: bool,
    /// Do not cut anything
    #[arg(long)]
    no_trunc: bool,
    /// Show the history for this platform
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

const HEADS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

impl Command for History {
    const ABOUT: &'static str = "Show how an image came to be";
    const USAGE: &'static str = "[OPTIONS] IMAGE";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let table = if self.human { TABLE } else { EXACT };
        let listing = Listing { table, quiet: "{{.ID}}", heads: HEADS };
        let format = listing.format(self.format.as_deref().unwrap_or_default(), self.quiet)?;
        let query = Query::new(format!("/images/{}/history", escape_name(&self.args[0])))
            .maybe("platform", self.platform.as_deref());
        let items: Vec<HistoryItem> = cli.client()?.json(Call::get(query)).await?;
        let now = jiff::Timestamp::now().as_second();
        let rows: Vec<Data> = items.iter().map(|item| self.row(item, now)).collect();
        put(&listing.render(&format, &rows)?)?;
        Ok(0)
    }
}

impl History {
    fn row(&self, item: &HistoryItem, now: i64) -> Data {
        let id = if self.no_trunc { item.id.clone() } else { truncate(&item.id).to_owned() };
        let by = item.created_by.replace('\t', " ");
        let by = if self.no_trunc { by } else { ellipsis(&by, 45) };
        let size = if self.human { human_size(item.size as f64, 3) } else { item.size.to_string() };
        let since = match item.created {
            ..=0 => "N/A".to_owned(),
            created => format!("{} ago", human_duration(now - created)),
        };
        let fields = [
            ("Comment", item.comment.clone()),
            ("CreatedAt", created_at(item.created)),
            ("CreatedBy", by),
            ("CreatedSince", since),
            ("ID", id),
            ("Size", size),
        ];
        Data::Row(fields.into_iter().map(|(name, text)| (name.to_owned(), Data::text(text))).collect())
    }
}
