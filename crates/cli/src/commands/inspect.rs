//! `inspect` and the `inspect` of each group.

use serde::Serialize as _;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Client, Query, escape, escape_name};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;
use crate::template::Template;

const USAGE: &str = "[OPTIONS] NAME|ID [NAME|ID...]";

/// Kinds of objects, in the order in which `inspect` looks for a name.
const KINDS: &[&str] = &["container", "image", "network", "volume"];

/// `inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Show the sizes of containers
    #[arg(short, long)]
    size: bool,
    /// Look for objects of this kind only
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    args: Vec<String>,
}

/// `container inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct InspectContainer {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Show sizes
    #[arg(short, long)]
    size: bool,
    args: Vec<String>,
}

/// `image inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct InspectImage {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    args: Vec<String>,
}

/// `network inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct InspectNetwork {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Show more
    #[arg(short, long)]
    verbose: bool,
    args: Vec<String>,
}

/// `volume inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct InspectVolume {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    args: Vec<String>,
}

impl Command for Inspect {
    const ABOUT: &'static str = "Show everything about objects";
    const USAGE: &'static str = USAGE;
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let kinds = match self.kind.as_deref() {
            None => KINDS,
            Some(kind) => match KINDS.iter().position(|known| *known == kind) {
                Some(at) => &KINDS[at..=at],
                None if ["service", "task", "node", "plugin", "secret", "config"].contains(&kind) => {
                    return Err(Error::new(format_args!(
                        "{}: inspecting a {kind} is not implemented yet",
                        cli.program
                    )));
                }
                None => return Err(Error::new(format_args!("unknown type: {kind:?}"))),
            },
        };
        let any = self.kind.is_none();
        inspect(cli, &self.args, self.format.as_deref(), |client, name| find(client, kinds, name, self.size, any)).await
    }
}

impl Command for InspectContainer {
    const ABOUT: &'static str = "Show everything about containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        inspect(cli, &self.args, self.format.as_deref(), |client, name| {
            find(client, &["container"], name, self.size, false)
        })
        .await
    }
}

impl Command for InspectImage {
    const ABOUT: &'static str = "Show everything about images";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        inspect(cli, &self.args, self.format.as_deref(), |client, name| find(client, &["image"], name, false, false))
            .await
    }
}

impl Command for InspectNetwork {
    const ABOUT: &'static str = "Show everything about networks";
    const USAGE: &'static str = "[OPTIONS] NETWORK [NETWORK...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        inspect(cli, &self.args, self.format.as_deref(), |client, name| {
            find(client, &["network"], name, self.verbose, false)
        })
        .await
    }
}

impl Command for InspectVolume {
    const ABOUT: &'static str = "Show everything about volumes";
    const USAGE: &'static str = "[OPTIONS] VOLUME [VOLUME...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        inspect(cli, &self.args, self.format.as_deref(), |client, name| find(client, &["volume"], name, false, false))
            .await
    }
}

/// Looks `name` up as each of `kinds`.
async fn find(
    client: &Client,
    kinds: &'static [&'static str],
    name: &str,
    more: bool,
    any: bool,
) -> Result<Data, Error> {
    let mut result = Err(Error::new(format_args!("Error: No such object: {name}")));
    for kind in kinds {
        let call = Call::get(match *kind {
            "container" => Query::new(format!("/containers/{}/json", escape(name))).flag("size", more),
            "image" => Query::new(format!("/images/{}/json", escape_name(name))),
            "network" => Query::new(format!("/networks/{}", escape(name))).flag("verbose", more),
            _ => Query::new(format!("/volumes/{}", escape(name))),
        });
        match client.bytes(call).await {
            Ok(body) => return Data::parse(&body).map_err(|error| Error::Transport { reason: error.to_string() }),
            // Not one of these, or a daemon that does not have this kind.
            Err(error) if any && (error.is_status(404) || error.is_status(501) || error.is_status(400)) => {}
            Err(error) => result = Err(error),
        }
        if !any || matches!(result, Err(Error::Connect { .. } | Error::Denied { .. } | Error::Transport { .. })) {
            break;
        }
    }
    result
}

/// Looks for all names.
async fn inspect<'a, F>(
    cli: &'a Cli,
    names: &'a [String],
    format: Option<&str>,
    mut find: impl FnMut(&'a Client, &'a str) -> F,
) -> Result<i32, Error>
where
    F: Future<Output = Result<Data, Error>>,
{
    // A template that is wrong is told before anybody is asked.
    Template::of_object(format)?;
    let client = cli.client()?;
    let mut results = Vec::new();
    for name in names {
        results.push(find(client, name).await);
    }
    show(format, results)
}

/// Shows what was found and says what was not.
pub(super) fn show(format: Option<&str>, results: Vec<Result<Data, Error>>) -> Result<i32, Error> {
    let template = Template::of_object(format)?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(data) => found.push(data),
            Err(error) => errors.push(error.to_string()),
        }
    }
    match template {
        None => put(&pretty(&Data::List(found)))?,
        Some(template) => {
            for data in &found {
                match template.render(data) {
                    Ok(text) => put(&(text + "\n"))?,
                    Err(error) => {
                        put("\n")?;
                        return Err(Error::new(format_args!("template parsing error: {error}")));
                    }
                }
            }
        }
    }
    if errors.is_empty() {
        return Ok(0);
    }
    Err(Error::Status { message: errors.join("\n"), code: 1 })
}

/// JSON with four spaces, as Docker indents it.
pub(super) fn pretty(data: &Data) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    // Writing to memory cannot fail.
    let _ = data.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter));
    out.push(b'\n');
    String::from_utf8(out).unwrap_or_default()
}
