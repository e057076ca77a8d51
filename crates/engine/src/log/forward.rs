//! Sending on: what a shim wrote goes to a receiver, from where the last
//! receipt was noted. The shim needs nobody for its part, so a daemon that
//! ends, or is ended, loses nothing: its successor goes on.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use budu_runtime::log::{Acknowledged, Position, Reader, Start};
use budu_runtime::plan::LogFormat;
use tokio::sync::Notify;

use super::about::About;
use super::driver::Driver;
use super::sink::Sink;
use crate::container::Container;
use crate::container::record::Record;
use crate::{Engine, Error};

/// Sent at once: more is not faster, and is sent twice after a crash.
const BATCH: usize = 64 << 10;
/// Whole files of a log that may wait for a receiver that is not there.
const PATIENCE: u64 = 1;
/// How long the end of a container waits for its last lines to be sent.
const FAREWELL: Duration = Duration::from_secs(10);
/// Pauses between attempts to reach a receiver.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A log being sent on.
#[derive(Debug)]
pub(crate) struct Forwarding {
    stage: Mutex<Stage>,
    /// Its receiver cannot be reached: nobody is to wait for it.
    stuck: AtomicBool,
    /// Something of the above changed.
    news: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The container runs: there will be more.
    Following,
    /// It does not: what is there is sent, then it is over.
    Finishing,
    /// Nothing is sent any more.
    Over,
}

impl Forwarding {
    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the stage unless it is over. False when it is.
    fn turn(&self, to: Stage) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = *stage != Stage::Over;
        if alive {
            *stage = to;
        }
        drop(stage);
        self.news.notify_waiters();
        alive
    }

    /// Over, if nobody wants it to go on.
    fn end(&self) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let over = *stage != Stage::Following;
        if over {
            *stage = Stage::Over;
        }
        drop(stage);
        self.news.notify_waiters();
        over
    }

    /// Waits until it is over, or not worth waiting for.
    async fn over(&self) {
        loop {
            let news = self.news.notified();
            if self.stage() == Stage::Over || self.stuck.load(Ordering::Relaxed) {
                return;
            }
            news.await;
        }
    }
}

/// A receiver that was reached, for a container about to start.
#[derive(Debug)]
pub(crate) struct Ready(Sink);

impl Engine {
    /// Reaches the receiver of a container's log before it starts; `None`
    /// when its driver has none.
    ///
    /// # Errors
    /// When the receiver cannot be reached, or an option is wrong.
    pub(crate) async fn reach_log_receiver(&self, record: &Record) -> Result<Option<Ready>, Error> {
        let failed = |e: String| Error::Runtime { message: format!("failed to initialize logging driver: {e}") };
        let Some(mut sink) = sink(record).map_err(|e| failed(e.to_string()))? else { return Ok(None) };
        sink.connect_first().await.map_err(failed)?;
        Ok(Some(Ready(sink)))
    }

    /// Sends on the log of a container that runs.
    pub(crate) fn forward_log(&self, container: &Arc<Container>, ready: Option<Ready>) {
        if let Some(Ready(sink)) = ready {
            self.forward(container, sink, Stage::Following);
        }
    }

    /// Goes on where an earlier daemon ended.
    pub(crate) fn resume_log(&self, container: &Arc<Container>, runs: bool) {
        match sink(&container.record()) {
            Ok(None) => {}
            Ok(Some(sink)) => self.forward(container, sink, if runs { Stage::Following } else { Stage::Finishing }),
            Err(error) => tracing::warn!(container = %container.id, %error, "its log is not sent on"),
        }
    }

    fn forward(&self, container: &Arc<Container>, sink: Sink, stage: Stage) {
        let Some(files) = self.log_files(&container.record()) else { return };
        let mut slot = container.forwarding.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|before: &Arc<Forwarding>| before.turn(stage)) {
            return;
        }
        let forwarding =
            Arc::new(Forwarding { stage: Mutex::new(stage), stuck: AtomicBool::new(false), news: Notify::new() });
        *slot = Some(Arc::clone(&forwarding));
        drop(slot);
        let work = Work {
            engine: self.clone(),
            container: Arc::clone(container),
            sent: Acknowledged::of(&files.path),
            path: files.path,
            sink,
            forwarding,
        };
        tokio::spawn(work.run());
    }

    /// A container has ended: what it said last is sent before others hear of it.
    pub(crate) async fn finish_log(&self, container: &Container) {
        let slot = container.forwarding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(forwarding) = slot.filter(|forwarding| forwarding.turn(Stage::Finishing))
            && (tokio::time::timeout(FAREWELL, forwarding.over()).await.is_err() || forwarding.stage() != Stage::Over)
        {
            tracing::warn!(container = %container.id, "its last log lines are still on the way");
        }
    }

    /// A container is removed: nothing of its log is sent any more.
    pub(crate) fn drop_log(&self, container: &Container) {
        if let Some(forwarding) = container.forwarding.lock().unwrap_or_else(PoisonError::into_inner).take() {
            forwarding.turn(Stage::Over);
        }
    }
}

fn sink(record: &Record) -> Result<Option<Sink>, Error> {
    let config = &record.host_config.log_config;
    match Driver::named(&config.kind).filter(|driver| driver.sends()) {
        Some(driver) => Sink::new(driver, &config.config, &About::new(record)).map(Some),
        None => Ok(None),
    }
}

/// One log, one receiver.
struct Work {
    engine: Engine,
    container: Arc<Container>,
    path: PathBuf,
    sent: Acknowledged,
    sink: Sink,
    forwarding: Arc<Forwarding>,
}

impl Work {
    async fn run(mut self) {
        if let Err(error) = self.send_all().await {
            tracing::error!(container = %self.container.id, %error, "its log is not sent on any more");
        }
        self.forwarding.turn(Stage::Over);
    }

    async fn send_all(&mut self) -> io::Result<()> {
        let mut reader = Reader::open(&self.path, LogFormat::Local, Start::At(self.sent.position()))?;
        let mut follow = self.engine.follow_log(&self.path, &self.container)?;
        loop {
            while self.prepare(&mut reader) {
                self.deliver().await;
                if self.forwarding.stage() == Stage::Over {
                    return Ok(());
                }
                if let Err(error) = self.sent.note(reader.position()) {
                    // After a crash it would be sent twice: better than never again.
                    tracing::warn!(container = %self.container.id, %error, "what was sent of its log is not noted");
                }
            }
            // Asked before the last look: what is written after it is not the last.
            let finishing = self.forwarding.stage() != Stage::Following;
            if reader.fill()? || reader.refresh()? {
                continue;
            }
            if finishing && self.forwarding.end() {
                return Ok(());
            }
            let news = self.forwarding.news.notified();
            if self.forwarding.stage() != Stage::Following {
                continue;
            }
            tokio::select! {
                () = follow.written() => {}
                () = news => {}
            }
        }
    }

    /// Prints records that were read. False when there are none.
    fn prepare(&mut self, reader: &mut Reader) -> bool {
        let mut any = false;
        while self.sink.size() < BATCH {
            let Some(entry) = reader.next_entry() else { break };
            self.sink.print(&entry);
            any = true;
        }
        any
    }

    /// Sends until it is received, or given up.
    async fn deliver(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        while let Err(error) = self.sink.send().await {
            attempts += 1;
            if attempts == 1 {
                tracing::warn!(container = %self.container.id, %error, "a log line cannot be sent; it is kept");
            } else if attempts == 2 {
                self.forwarding.stuck.store(true, Ordering::Relaxed);
                self.forwarding.news.notify_waiters();
            }
            if self.sink.gives_up(attempts) || self.is_too_late() {
                tracing::error!(container = %self.container.id, %error, "log lines were not received");
                self.sink.forget();
                return;
            }
            let wait = self.sink.pause().unwrap_or(pause);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.forwarding.news.notified() => {}
            }
            if self.forwarding.stage() == Stage::Over {
                return;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        self.forwarding.stuck.store(false, Ordering::Relaxed);
    }

    /// The container is about to wait for a receiver that is not there, which
    /// only fluentd's settings may ask for.
    fn is_too_late(&mut self) -> bool {
        let Position { segment, .. } = self.sent.position();
        let waiting = budu_runtime::log::newest(&self.path).saturating_sub(segment.max(1));
        !self.sink.insists() && waiting >= PATIENCE
    }
}
