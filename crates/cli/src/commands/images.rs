//! `images`.

use budu_spec::docker::ImageSummary;
use budu_spec::id::truncate;
use budu_spec::units::{human_duration, human_size};

use super::Command;
use super::lists::{created_at, filters};
use crate::cli::Cli;
use crate::client::{Call, Query};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{self, Format, Listing};

/// `images`.
#[derive(Debug, clap::Args)]
pub(super) struct Images {
    /// Show intermediate images too
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show what matches these conditions
    #[arg(short, long, value_name = "filter", value_parser = crate::flags::parse_filter)]
    filter: Vec<String>,
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json', 'raw'
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

const HEADS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";

impl Command for Images {
    const ABOUT: &'static str = "List images";
    const USAGE: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let table = if self.digests { TABLE_WITH_DIGESTS } else { TABLE };
        let listing = Listing { table, quiet: "{{.ID}}", heads: HEADS };
        let wished = self.format.clone().unwrap_or_default();
        let wished = if wished.is_empty() && !self.quiet { cli.config.images_format.clone() } else { wished };
        let format = listing.format(if wished == "raw" { RAW } else { &wished }, self.quiet)?;
        let digests = self.digests
            || match &format {
                Format::Table(template) | Format::Plain(template) => template.uses("Digest"),
                Format::Json => false,
            };
        let mut filters = filters(&self.filter);
        if let Some(name) = self.args.first() {
            filters.add("reference", name);
        }
        let json = filters.to_json();
        let query = Query::new("/images/json")
            .flag("all", self.all)
            .maybe("filters", (!filters.is_empty()).then_some(json.as_str()));
        let images: Vec<ImageSummary> = cli.client()?.json(Call::get(query)).await?;
        let now = jiff::Timestamp::now().as_second();
        let mut rows = Vec::new();
        for image in &images {
            rows.extend(names(image, digests).into_iter().map(|name| row(image, name, !self.no_trunc, now)));
        }
        table::put(&listing.render(&format, &rows)?)?;
        Ok(0)
    }
}

/// One row's name.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    tag: String,
    digest: String,
}

const NONE: &str = "<none>";

/// The rows of an image: one per tag, with digests one per tag and digest; nameless images have one.
fn names(image: &ImageSummary, digests: bool) -> Vec<Name> {
    let name = |repository: &str, tag: &str, digest: &str| Name {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    };
    let tags: Vec<(&str, &str)> =
        image.repo_tags.iter().filter(|tag| !tag.starts_with(NONE)).filter_map(|tag| tag.rsplit_once(':')).collect();
    let known: Vec<(&str, &str)> = image
        .repo_digests
        .iter()
        .filter(|digest| !digest.starts_with(NONE))
        .filter_map(|digest| digest.split_once('@'))
        .collect();
    let mut rows: Vec<Name> = Vec::new();
    for (repository, tag) in &tags {
        let of_it: Vec<&str> = known.iter().filter(|(name, _)| name == repository).map(|(_, digest)| *digest).collect();
        match of_it.as_slice() {
            many if digests && !many.is_empty() => rows.extend(many.iter().map(|digest| name(repository, tag, digest))),
            _ => rows.push(name(repository, tag, NONE)),
        }
    }
    for (repository, digest) in &known {
        if !tags.iter().any(|(name, _)| name == repository)
            && (digests || !rows.iter().any(|row| row.repository == *repository))
        {
            rows.push(name(repository, NONE, if digests { digest } else { NONE }));
        }
    }
    if rows.is_empty() {
        rows.push(name(NONE, NONE, NONE));
    }
    rows
}

fn row(image: &ImageSummary, name: Name, cut: bool, now: i64) -> Data {
    let text = |name: &str, value: String| (name.to_owned(), Data::Text(value));
    let size = |bytes: i64| if bytes < 0 { "N/A".to_owned() } else { human_size(bytes as f64, 3) };
    let unique = if image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    Data::Row(vec![
        text("Containers", if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() }),
        text("CreatedAt", created_at(image.created)),
        text("CreatedSince", format!("{} ago", human_duration(now - image.created))),
        text("Digest", name.digest),
        text("ID", if cut { truncate(&image.id).to_owned() } else { image.id.clone() }),
        text("Repository", name.repository),
        text("SharedSize", size(image.shared_size)),
        text("Size", size(image.size)),
        text("Tag", name.tag),
        text("UniqueSize", size(unique)),
        text("VirtualSize", human_size(image.size as f64, 4)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_tag_or_per_digest() {
        let image = ImageSummary {
            repo_tags: vec!["r:5000/a:1".into(), "r:5000/a:2".into()],
            repo_digests: vec!["r:5000/a@sha256:x".into(), "b@sha256:x".into()],
            ..ImageSummary::default()
        };
        let show = |digests| {
            names(&image, digests)
                .iter()
                .map(|n| format!("{} {} {}", n.repository, n.tag, n.digest))
                .collect::<Vec<_>>()
        };
        assert_eq!(show(false), ["r:5000/a 1 <none>", "r:5000/a 2 <none>", "b <none> <none>"]);
        assert_eq!(show(true), ["r:5000/a 1 sha256:x", "r:5000/a 2 sha256:x", "b <none> sha256:x"]);
        assert_eq!(names(&ImageSummary::default(), false).len(), 1);
    }
}
