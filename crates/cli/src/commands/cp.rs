//! `cp`.

use std::io::{IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use budu_spec::docker::{MODE_DIR, PathStat};
use budu_spec::units::human_size;
use bytes::Bytes;

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query, Streaming, escape};
use crate::error::Error;
use crate::files::names::{self, Place, absolute, base, clean, keep_end, split};
use crate::files::receive::{Receive, receive};
use crate::files::send::send;
use crate::flags::Arity;
use crate::payload::Payload;
use crate::table::put_bytes;

/// `cp`.
#[derive(Debug, clap::Args)]
pub(super) struct Cp {
    /// Archive mode: in the container, everything belongs to its user
    #[arg(short, long)]
    archive: bool,
    /// Follow a symbolic link at the end of the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing when it is done
    #[arg(short, long)]
    quiet: bool,
    args: Vec<String>,
}

impl Command for Cp {
    const ABOUT: &'static str = "Copy files between a container and this machine";
    const USAGE: &'static str = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- SRC_PATH|- CONTAINER:DEST_PATH";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (source, target) = (End::parse(&self.args[0]), End::parse(&self.args[1]));
        for path in [&self.args[0], &self.args[1]] {
            if path.is_empty() {
                return Err(Error::new("source and destination can not be empty"));
            }
        }
        match (source.container, target.container) {
            (Some(_), Some(_)) => Err(Error::new("copying between containers is not supported")),
            (None, None) => Err(Error::new("must specify at least one container source")),
            (Some(container), None) => self.take_out(cli, container, source.path, target.path).await,
            (None, Some(container)) => self.put_in(cli, container, source.path, target.path).await,
        }
    }
}

/// One end of the copy, as it was typed.
#[derive(Debug, PartialEq, Eq)]
struct End<'a> {
    container: Option<&'a str>,
    path: &'a str,
}

impl End<'_> {
    fn parse(text: &str) -> End<'_> {
        let local = End { container: None, path: text };
        if text.starts_with('/') {
            return local;
        }
        match text.split_once(':') {
            // A path that has a colon in it.
            Some((container, _)) if container.starts_with('.') => local,
            Some((container, path)) => End { container: Some(container), path },
            None => local,
        }
    }
}

fn query(container: &str, path: &str) -> Query {
    Query::new(format!("/containers/{}/archive", escape(container))).set("path", path)
}

fn decode(streaming: &Streaming) -> Result<PathStat, Error> {
    let header = streaming.header("x-docker-container-path-stat").unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(header);
    let stat = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    stat.ok_or_else(|| Error::new("unable to decode container path stat header"))
}

async fn stat(cli: &Cli, container: &str, path: &str) -> Result<PathStat, Error> {
    let streaming = cli.client()?.stream(Call::head(query(container, path))).await;
    match streaming {
        Ok(streaming) => decode(&streaming),
        // An answer to HEAD has no text.
        Err(Error::Api { status: 404, .. }) => {
            Err(Error::Api { status: 404, message: format!("Could not find the file {path} in container {container}") })
        }
        Err(error) => Err(error),
    }
}

/// The path a link in a container leads to.
fn target_of(path: &str, stat: &PathStat) -> String {
    let link = &stat.link_target;
    if link.starts_with('/') { link.clone() } else { clean(&format!("{}/{link}", split(path).0)) }
}

impl Cp {
    fn say(&self, bytes: u64, target: &str) {
        if !self.quiet {
            eprintln!("Successfully copied {} to {target}", human_size(bytes as f64, 3));
        }
    }

    /// Out of a container.
    async fn take_out(&self, cli: &Cli, container: &str, path: &str, target: &str) -> Result<i32, Error> {
        let mut path = path.to_owned();
        let mut rename = None;
        if self.follow_link
            && let Ok(found) = stat(cli, container, &path).await
            && found.is_symlink()
        {
            let real = keep_end(&target_of(&path, &found), &path);
            rename = (base(&path) != base(&real)).then(|| base(&path));
            path = real;
        }
        let place = if target == "-" { None } else { Some(names::destination(&absolute(target)?)?) };
        let mut streaming = cli.client()?.stream(Call::get(query(container, &path))).await?;
        let found = decode(&streaming)?;
        let Some(place) = place else {
            if std::io::stdout().is_terminal() {
                return Err(Error::new("refusing to write an archive to a terminal"));
            }
            while let Some(piece) = streaming.next().await? {
                put_bytes(&piece)?;
            }
            return Ok(0);
        };
        let source = Place { path: path.clone(), exists: true, is_dir: found.is_dir(), rename };
        let plan = names::plan(&source, &place)?;
        let old = split(&path).1;
        let new = plan.name.or(source.rename);
        let (sender, input) = tokio::sync::mpsc::channel::<Bytes>(4);
        let directory = plan.directory.clone();
        let work = tokio::task::spawn_blocking(move || {
            let wish = Receive { directory: Path::new(&directory), old: &old, new: new.as_deref() };
            receive(Pieces { input, current: Bytes::new() }, &wish)
        });
        let mut broken = None;
        loop {
            match streaming.next().await {
                Ok(Some(piece)) => {
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let received = work.await.map_err(Error::new)?;
        if let Some(error) = broken {
            return Err(error);
        }
        self.say(received.map_err(Error::new)?, target);
        Ok(0)
    }

    /// Into a container.
    async fn put_in(&self, cli: &Cli, container: &str, source: &str, target: &str) -> Result<i32, Error> {
        let mut place = Place { path: target.to_owned(), ..Place::default() };
        let mut found = stat(cli, container, target).await;
        if let Ok(link) = &found
            && link.is_symlink()
        {
            place.path = target_of(target, link);
            found = stat(cli, container, &place.path).await;
        }
        // Else it is perhaps about to be made; if something else is wrong the upload will say so.
        if let Ok(found) = &found {
            // Neither a directory nor a file: a device, socket or pipe.
            const SPECIAL: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;
            if found.mode & MODE_DIR == 0 && found.mode & SPECIAL != 0 {
                return Err(Error::new(format_args!(
                    "destination \"{container}:{target}\" must be a directory or a regular file"
                )));
            }
            (place.exists, place.is_dir) = (true, found.is_dir());
        }
        let count = Arc::new(AtomicU64::new(0));
        let (directory, payload) = if source == "-" {
            if !place.is_dir {
                return Err(Error::new(format_args!("destination \"{container}:{target}\" must be a directory")));
            }
            (place.path.clone(), Payload::read(std::io::stdin()))
        } else {
            let from = names::source(&absolute(source)?, self.follow_link)?;
            let plan = names::plan(&from, &place)?;
            let name = plan.name.or_else(|| from.rename.clone()).unwrap_or_else(|| split(&from.path).1);
            let (path, written) = (from.path, Arc::clone(&count));
            let payload = Payload::produce(move |sink| {
                send(Path::new(&path), &name, Counting { output: &mut *sink, count: written })?;
                sink.flush()
            });
            (plan.directory, payload)
        };
        let query = query(container, &directory).set("noOverwriteDirNonDir", "true");
        let query = if self.archive { query.set("copyUIDGID", "true") } else { query };
        let mut streaming = cli.client()?.upload(Call::put(query), payload).await?;
        streaming.rest().await?;
        if source != "-" {
            self.say(count.load(Ordering::Relaxed), &format!("{container}:{}", place.path));
        }
        Ok(0)
    }
}

struct Counting<W> {
    output: W,
    count: Arc<AtomicU64>,
}

impl<W: std::io::Write> std::io::Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

/// Pieces of a body, read on another thread.
struct Pieces {
    input: tokio::sync::mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.input.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        for (text, container, path) in [
            ("web:/a", Some("web"), "/a"),
            ("/a:b", None, "/a:b"),
            ("./a:b", None, "./a:b"),
            ("file", None, "file"),
            ("-", None, "-"),
            ("web:", Some("web"), ""),
        ] {
            assert_eq!(End::parse(text), End { container, path });
        }
    }
}
