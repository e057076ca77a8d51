//! `load`, `save`, `import`: images as archives.

use std::io::IsTerminal as _;

use budu_spec::docker::JsonMessage;

use super::Command;
use super::container_files::{check_output, write_out};
use crate::cli::Cli;
use crate::client::{Call, Query, Streaming, escape_name};
use crate::error::{Error, open_failed};
use crate::flags::Arity;
use crate::payload::Payload;
use crate::table::{put, put_line};

/// `load`.
#[derive(Debug, clap::Args)]
pub(super) struct Load {
    /// Read from a file instead of standard input
    #[arg(short, long, value_name = "string")]
    input: Option<String>,
    /// Load only the contents for this platform
    #[arg(long, value_name = "stringSlice")]
    platform: Option<String>,
    /// Say nothing but what was loaded
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

impl Command for Load {
    const ABOUT: &'static str = "Load images from an archive";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let payload = match self.input.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => Payload::read(std::fs::File::open(path).map_err(|error| open_failed(path, &error))?),
            None if std::io::stdin().is_terminal() => {
                return Err(Error::new("requested load from stdin, but stdin is empty"));
            }
            None => Payload::read(std::io::stdin()),
        };
        let query = Query::new("/images/load")
            .set("quiet", "1")
            .maybe("platform", platform(self.platform.as_deref())?.as_deref());
        agree(cli).await?;
        let streaming = cli.client()?.upload(Call::post(query), payload).await?;
        for message in messages(streaming).await? {
            put(&message.stream.unwrap_or_default())?;
        }
        Ok(0)
    }
}

/// Any request settles the API's version: what follows is sent once only.
async fn agree(cli: &Cli) -> Result<(), Error> {
    cli.client()?.done(Call::get("/_ping")).await
}

/// A platform in the form the API wants.
fn platform(text: Option<&str>) -> Result<Option<String>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let platform: budu_spec::image::Platform = text.parse().map_err(Error::new)?;
    serde_json::to_string(&platform).map(Some).map_err(Error::new)
}

/// All messages of a stream; the one that says what went wrong becomes an error.
async fn messages(mut streaming: Streaming) -> Result<Vec<JsonMessage>, Error> {
    let body = streaming.rest().await?;
    let mut messages = Vec::new();
    for message in serde_json::Deserializer::from_slice(&body).into_iter::<JsonMessage>() {
        let message =
            message.map_err(|error| Error::new(format_args!("the daemon's answer is not understood: {error}")))?;
        if let Some(error) = message.error {
            return Err(Error::new(error));
        }
        messages.push(message);
    }
    Ok(messages)
}

/// `save`.
#[derive(Debug, clap::Args)]
pub(super) struct Save {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    /// Save only the contents for this platform
    #[arg(long, value_name = "stringSlice")]
    platform: Option<String>,
    args: Vec<String>,
}

impl Command for Save {
    const ABOUT: &'static str = "Write images to an archive";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        check_output(self.output.as_deref(), "save image")?;
        let query = match self.args.as_slice() {
            [one] => Query::new(format!("/images/{}/get", escape_name(one))),
            many => many.iter().fold(Query::new("/images/get"), |query, name| query.set("names", name)),
        };
        let query = query.maybe("platform", platform(self.platform.as_deref())?.as_deref());
        let streaming = cli.client()?.stream(Call::get(query)).await?;
        write_out(streaming, self.output.as_deref()).await?;
        Ok(0)
    }
}

/// `import`.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    args: Vec<String>,
}

impl Command for Import {
    const ABOUT: &'static str = "Make an image of an archive of files";
    const USAGE: &'static str = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let source = self.args[0].as_str();
        let remote = source.starts_with("http://") || source.starts_with("https://");
        let mut query = Query::new("/images/create").set("fromSrc", if remote { source } else { "-" });
        if let Some(name) = self.args.get(1) {
            let name = budu_spec::Reference::parse(name).map_err(Error::new)?.with_default_tag();
            query = query.set("repo", &name.familiar_name()).maybe("tag", name.tag());
        }
        query = query.maybe("message", self.message.as_deref()).maybe("platform", self.platform.as_deref());
        for change in &self.change {
            query = query.set("changes", change);
        }
        let payload = match source {
            "-" => Payload::read(std::io::stdin()),
            _ if remote => Payload::Full(bytes::Bytes::new()),
            path => Payload::read(std::fs::File::open(path).map_err(|error| open_failed(path, &error))?),
        };
        agree(cli).await?;
        let streaming = cli.client()?.upload(Call::post(query), payload).await?;
        for message in messages(streaming).await? {
            put_line(&message.status.unwrap_or_default())?;
        }
        Ok(0)
    }
}
