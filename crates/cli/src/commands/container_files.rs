//! `export`, `diff`, `commit`: a container's files as a whole.

use std::io::{IsTerminal as _, Write as _};

use budu_spec::docker::FilesystemChange;
use serde::Deserialize;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query, Streaming, escape};
use crate::error::{Error, open_failed};
use crate::flags::Arity;
use crate::table::{put, put_bytes, put_line};

/// `export`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    args: Vec<String>,
}

impl Command for Export {
    const ABOUT: &'static str = "Write a container's files as an archive";
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        check_output(self.output.as_deref(), "export")?;
        let call = Call::get(format!("/containers/{}/export", escape(&self.args[0])));
        let streaming = cli.client()?.stream(call).await?;
        write_out(streaming, self.output.as_deref()).await?;
        Ok(0)
    }
}

/// Refuses to write an archive to a terminal, or where no file can be.
pub(super) fn check_output(output: Option<&str>, verb: &str) -> Result<(), Error> {
    match output.filter(|output| !output.is_empty()) {
        None if std::io::stdout().is_terminal() => {
            Err(Error::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"))
        }
        None => Ok(()),
        Some(path) => {
            let path = std::path::Path::new(path);
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if parent.is_some_and(|parent| !parent.is_dir()) {
                let shown = parent.map(|parent| parent.display().to_string()).unwrap_or_default();
                return Err(Error::new(format_args!(
                    "failed to {verb}: invalid output path: directory \"{shown}\" does not exist"
                )));
            }
            Ok(())
        }
    }
}

/// Writes a body to a file, which appears when it is complete, or to standard output.
pub(super) async fn write_out(mut streaming: Streaming, output: Option<&str>) -> Result<(), Error> {
    let Some(path) = output.filter(|output| !output.is_empty()) else {
        while let Some(piece) = streaming.next().await? {
            put_bytes(&piece)?;
        }
        return Ok(());
    };
    let failed = |error: std::io::Error| open_failed(path, &error);
    // A device or pipe is written to as it is.
    if std::fs::metadata(path).is_ok_and(|state| !state.is_file()) {
        let mut file = std::fs::File::options().write(true).open(path).map_err(failed)?;
        while let Some(piece) = streaming.next().await? {
            file.write_all(&piece).map_err(failed)?;
        }
        return Ok(());
    }
    let temporary = format!("{path}.tmp-{}", std::process::id());
    let mut file = std::fs::File::create(&temporary).map_err(failed)?;
    let mut copy = async || -> Result<(), Error> {
        while let Some(piece) = streaming.next().await? {
            file.write_all(&piece).map_err(failed)?;
        }
        std::fs::rename(&temporary, path).map_err(failed)
    };
    let copied = copy().await;
    if copied.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    copied
}

/// `diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    args: Vec<String>,
}

impl Command for Diff {
    const ABOUT: &'static str = "Show what a container changed in its image's files";
    const USAGE: &'static str = "CONTAINER";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        if self.args[0].is_empty() {
            return Err(Error::new("Container name cannot be empty"));
        }
        let call = Call::get(format!("/containers/{}/changes", escape(&self.args[0])));
        let changes: Option<Vec<FilesystemChange>> = cli.client()?.json(call).await?;
        let letter = |kind| match kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        let rows = changes.iter().flatten().map(|change| format!("{} {}\n", letter(change.kind), change.path));
        put(&rows.collect::<String>())?;
        Ok(0)
    }
}

/// `commit`.
#[derive(Debug, clap::Args)]
pub(super) struct Commit {
    /// Author, as in 'Jane Doe <jane@example.org>'
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "bool", action = clap::ArgAction::Set)]
    pause: bool,
    args: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Committed {
    id: String,
}

impl Command for Commit {
    const ABOUT: &'static str = "Make an image of a container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]";
    const ARITY: Arity = Arity::Between(1, 2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let mut query = Query::new("/commit")
            .set("container", &self.args[0])
            .maybe("author", self.author.as_deref())
            .maybe("comment", self.message.as_deref());
        if let Some(name) = self.args.get(1) {
            let name = budu_spec::Reference::parse(name).map_err(Error::new)?.with_default_tag();
            query = query.set("repo", &name.familiar_name()).maybe("tag", name.tag());
        }
        if !self.pause {
            query = query.set("pause", "0");
        }
        for change in &self.change {
            query = query.set("changes", change);
        }
        let committed: Committed = cli.client()?.json(Call::post(query)).await?;
        put_line(&committed.id)?;
        Ok(0)
    }
}
