//! Attach: a client at a container's standard streams.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use budu_runtime::protocol::{Event, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Container;
use super::detach_keys::Scanner;
use super::logs::LogOptions;
use super::pump::{self, Manner, Peer, Reason};
use super::record::Status;
use super::shim::{self, Frames};
use crate::{Engine, Error};

/// What a client wants of a container's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Send standard input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// First what was logged so far.
    pub logs: bool,
    /// Then what comes.
    pub stream: bool,
    /// Keys that detach a terminal; empty for ctrl-p,ctrl-q.
    pub detach_keys: String,
    /// Bytes without frames, terminal or not.
    pub plain: bool,
}

/// A client that attached before the container runs.
#[derive(Debug)]
pub(crate) struct Waiting {
    request: Request,
    give: oneshot::Sender<Frames<UnixStream>>,
}

/// Where the streams come from.
#[derive(Debug)]
enum Source {
    /// It runs.
    Now(Frames<UnixStream>),
    /// It will be started.
    Later(oneshot::Receiver<Frames<UnixStream>>),
    /// Only the log was asked for.
    Never,
}

/// How an attached session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The container closed its streams.
    Streams,
    /// The user typed the detach keys.
    Detached,
    /// The client is gone.
    Client,
}

/// A client's place at a container's streams. From its making on no byte is
/// missed; [`AttachSession::run`] carries them.
#[derive(Debug)]
pub struct AttachSession {
    engine: Engine,
    container: Arc<Container>,
    options: AttachOptions,
    source: Source,
    manner: Manner,
}

impl Engine {
    /// Attaches to a container, running or about to be started.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is paused or restarting.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<AttachSession, Error> {
        let container = self.find(name)?;
        let keys = Scanner::new(&options.detach_keys)?;
        let record = container.record();
        let stdin = options.stdin && record.config.open_stdin;
        let request = Request::Attach { stdin, stdout: options.stdout, stderr: options.stderr };
        let source = if options.stream { self.source(&container, request).await? } else { Source::Never };
        let manner = Manner {
            plain: record.config.tty || options.plain,
            stdin,
            stdout: options.stdout || record.config.tty,
            stderr: options.stderr,
            keys: (record.config.tty && stdin).then_some(keys),
        };
        self.tell(&container, "attach", &[]);
        Ok(AttachSession { engine: self.clone(), container, options, source, manner })
    }

    async fn source(&self, container: &Arc<Container>, request: Request) -> Result<Source, Error> {
        {
            // Held while registering: start takes the waiting clients only
            // after it changed nothing here, and never between the two looks.
            let mut waiting = container.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let status = container.state().status;
            if !status.is_running() {
                let (give, take) = oneshot::channel();
                waiting.retain(|w: &Waiting| !w.give.is_closed());
                waiting.push(Waiting { request, give });
                return Ok(Source::Later(take));
            }
            if status != Status::Running {
                drop(waiting);
                container.require_running("attach")?;
                return Err(Error::not_running(container.id.as_str()));
            }
        }
        let run_dir = self.run_dir(&container.id);
        match join(&run_dir, &request).await {
            Some(frames) => Ok(Source::Now(frames)),
            None => Err(Error::not_running(container.id.as_str())),
        }
    }
}

/// Connects to the shim as one more client; `None` when it just ended.
async fn join(run_dir: &Path, request: &Request) -> Option<Frames<UnixStream>> {
    let mut frames = Frames::streams(shim::open(run_dir, request).await.ok()?);
    match frames.event().await {
        Ok(Some(Event::Attached)) => Some(frames),
        _ => None,
    }
}

/// Connects everybody who waits, before the program runs.
pub(super) async fn connect_waiting(container: &Container, run_dir: &Path) {
    for waiting in container.take_waiting() {
        if waiting.give.is_closed() {
            continue;
        }
        if let Some(frames) = join(run_dir, &waiting.request).await {
            let _ = waiting.give.send(frames);
        }
    }
}

impl AttachSession {
    /// Whether the container has a terminal: plain bytes instead of frames.
    pub fn tty(&self) -> bool {
        self.manner.plain
    }

    /// Carries the bytes until somebody ends it, then closes the writer.
    pub async fn run<R, W, G>(self, mut client: Peer<R, W, G>) -> End
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
        G: Future<Output = ()> + Unpin + Send,
    {
        let AttachSession { engine, container, options, source, mut manner } = self;
        if options.logs && replay(&engine, &container, &options, &mut client.writer).await.is_err() {
            return End::Client;
        }
        let frames = match source {
            Source::Now(frames) => Some(frames),
            Source::Later(take) => tokio::select! {
                frames = take => frames.ok(),
                // Nothing of what it sends is read before the start: its leaving is all that can be seen.
                () = &mut client.gone => return End::Client,
            },
            Source::Never => None,
        };
        let end = match frames {
            None => End::Streams,
            Some(frames) => {
                let (mut frames, mut to) = frames.split();
                match pump::run(&mut frames, &mut to, None, &mut manner, &mut client).await {
                    Reason::Shim(_) => End::Streams,
                    Reason::Keys => End::Detached,
                    Reason::Client => End::Client,
                }
            }
        };
        if end == End::Detached {
            engine.tell(&container, "detach", &[]);
        }
        let _ = client.writer.shutdown().await;
        end
    }
}

/// Writes the log so far.
async fn replay<W: AsyncWrite + Unpin>(
    engine: &Engine,
    container: &Container,
    options: &AttachOptions,
    writer: &mut W,
) -> Result<(), ()> {
    let wish = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
    let Ok(log) = engine.logs(container.id.as_str(), wish) else { return Ok(()) };
    let mut log = if options.plain { log.plain() } else { log };
    while let Some(chunk) = log.next().await {
        writer.write_all(&chunk).await.map_err(|_| ())?;
    }
    Ok(())
}
