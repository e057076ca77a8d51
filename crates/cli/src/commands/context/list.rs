//! `context ls`, `inspect`, `show`.

use super::super::Command;
use super::super::inspect::show;
use super::DEFAULT;
use crate::cli::Cli;
use crate::context::{DOCKER, Meta, Store};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::host::{DOCKER_SOCKET, variable};
use crate::table::{self, Listing};

/// `context ls`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct List {
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

/// `context inspect`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Inspect {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    args: Vec<String>,
}

/// `context show`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Show {
    args: Vec<String>,
}

const LISTING: Listing<'static> = Listing {
    table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
    heads: &[
        ("Name", "NAME"),
        ("Current", ""),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
};

/// The default context as it stands: what variables say.
fn default_host() -> String {
    variable("DOCKER_HOST").unwrap_or_else(|| format!("unix://{DOCKER_SOCKET}"))
}

impl Command for List {
    const ABOUT: &'static str = "List contexts";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let format = LISTING.format(self.format.as_deref().unwrap_or_default(), self.quiet)?;
        let current = cli.context();
        let row = |name: &str, description: &str, host: &str, error: &str| {
            let member = |key: &str, text: &str| (key.to_owned(), Data::from(text));
            Data::Row(vec![
                ("Current".to_owned(), Data::Bool(name == current)),
                member("Description", description),
                member("DockerEndpoint", host),
                member("Error", error),
                member("Name", name),
            ])
        };
        let list = Store::of(&cli.config).list()?;
        let mut rows: Vec<(String, Data)> = list
            .iter()
            .map(|meta| (meta.name.clone(), row(&meta.name, meta.description(), meta.docker_host(), "")))
            .collect();
        let default = row(DEFAULT, "Current DOCKER_HOST based configuration", &default_host(), "");
        rows.push((DEFAULT.to_owned(), default));
        if !rows.iter().any(|(name, _)| *name == current) {
            let error = format!("context {current:?}: context not found");
            rows.push((current.clone(), row(&current, "", "", &table::ellipsis(&error, 45))));
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let rows: Vec<Data> = rows.into_iter().map(|(_, row)| row).collect();
        table::put(&LISTING.render(&format, &rows)?)?;
        if variable("DOCKER_HOST").is_some() && !self.quiet && self.format.is_none() {
            eprintln!(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable."
            );
        }
        Ok(0)
    }
}

impl Command for Show {
    const ABOUT: &'static str = "Print the name of the current context";
    const USAGE: &'static str = "";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        table::put_line(&cli.context())?;
        Ok(0)
    }
}

impl Command for Inspect {
    const ABOUT: &'static str = "Show everything about contexts";
    const USAGE: &'static str = "[OPTIONS] [CONTEXT] [CONTEXT...]";
    const ARITY: Arity = Arity::AtLeast(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let store = Store::of(&cli.config);
        let names = if self.args.is_empty() { vec![cli.context()] } else { self.args.clone() };
        show(self.format.as_deref(), names.iter().map(|name| described(&store, name)).collect())
    }
}

fn described(store: &Store, name: &str) -> Result<Data, Error> {
    let text = |key: &str, text: &str| (key.to_owned(), Data::from(text));
    let (meta, material, places) = if name == DEFAULT {
        let endpoint = crate::context::Endpoint { host: default_host(), ..Default::default() };
        let meta =
            Meta { name: DEFAULT.to_owned(), endpoints: [(DOCKER.to_owned(), endpoint)].into(), ..Meta::default() };
        (meta, Vec::new(), ["<IN MEMORY>".to_owned(), "<IN MEMORY>".to_owned()])
    } else {
        let places = [store.meta_dir(name), store.tls_dir(name)].map(|path| path.display().to_string());
        (store.get(name)?, store.material(name).into_keys().collect(), places)
    };
    let json = serde_json::to_vec(&meta).map_err(Error::new)?;
    let mut data = Data::parse(&json).map_err(Error::new)?;
    if let Data::Map(members) = &mut data {
        let files = Data::List(material.into_iter().map(Data::text).collect());
        let by_kind = match &files {
            Data::List(list) if list.is_empty() => Vec::new(),
            _ => vec![(DOCKER.to_owned(), files)],
        };
        members.push(("TLSMaterial".to_owned(), Data::Map(by_kind)));
        let storage = vec![text("MetadataPath", &places[0]), text("TLSPath", &places[1])];
        members.push(("Storage".to_owned(), Data::Map(storage)));
    }
    Ok(data)
}
