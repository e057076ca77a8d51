//! Logs: reading what the shim wrote, and what it writes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use budu_runtime::log::{Entry, Reader, Start};
use budu_runtime::protocol;
use budu_spec::units;
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use tokio::sync::watch;

use super::record::{Record, Status};
use super::{Container, Progress};
use crate::log::{self, Changes, LogFiles, Watched};
use crate::{Engine, Error};

/// Which part of a log, and how it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Put the attributes before each line.
    pub details: bool,
    /// Nothing older, nanoseconds of Unix time.
    pub since: Option<i64>,
    /// Nothing younger, nanoseconds of Unix time.
    pub until: Option<i64>,
    /// This many lines at the end; all when absent.
    pub tail: Option<u64>,
}

/// A log being read, already in the form Docker's clients read.
#[derive(Debug)]
pub struct LogStream {
    options: LogOptions,
    tty: bool,
    reader: Reader,
    /// Set when following.
    follow: Option<Follow>,
    over: bool,
}

#[derive(Debug)]
pub(crate) struct Follow {
    changes: Watched,
    progress: watch::Receiver<Progress>,
    /// Keeps the progress channel open.
    _container: Arc<Container>,
}

impl Engine {
    /// A container's log files; `None` when its driver keeps nothing.
    pub(crate) fn log_files(&self, record: &Record) -> Option<LogFiles> {
        log::files(record, &self.data_dir(&record.id))
    }

    /// Reads a container's log.
    ///
    /// # Errors
    /// [`Error::Invalid`] without any stream, [`Error::UnreadableLog`] with
    /// the log driver `none` or where no cache is wanted.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<LogStream, Error> {
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let container = self.find(name)?;
        let record = container.record();
        if matches!(container.state().status, Status::Removing | Status::Dead) {
            let message = "can not get logs from container which is dead or marked for removal";
            return Err(Error::conflict(message));
        }
        let files = self.log_files(&record).filter(|files| files.readable).ok_or(Error::UnreadableLog)?;
        let follow = match options.follow {
            true => Some(self.follow_log(&files.path, &container).map_err(Error::io("watch", &files.path))?),
            false => None,
        };
        let start = Start::Search { since: options.since, tail: options.tail };
        let reader = Reader::open(&files.path, files.format, start).map_err(Error::io("open", &files.path))?;
        Ok(LogStream { options, tty: record.config.tty, reader, follow, over: false })
    }

    /// Waits for more of a container's log from now on.
    pub(crate) fn follow_log(&self, path: &Path, container: &Arc<Container>) -> io::Result<Follow> {
        Follow::new(&self.log_changes()?, path, container)
    }
}

impl Follow {
    fn new(changes: &Arc<Changes>, path: &Path, container: &Arc<Container>) -> io::Result<Follow> {
        let directory = path.parent().unwrap_or(path);
        log::make_directory(directory)?;
        let changes = changes.watch(directory)?;
        Ok(Follow { changes, progress: container.progress.subscribe(), _container: Arc::clone(container) })
    }

    /// Waits until something was written or the container ended. True when
    /// it runs.
    pub(crate) async fn changed(&mut self) -> bool {
        if !self.progress.borrow_and_update().running {
            return false;
        }
        tokio::select! {
            () = self.changes.changed() => {}
            _ = self.progress.changed() => {}
        }
        true
    }

    /// Waits until something was written.
    pub(crate) async fn written(&mut self) {
        self.changes.changed().await;
    }
}

impl LogStream {
    /// Whether the container has a terminal: plain bytes instead of frames.
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// The same without frames.
    pub(crate) fn plain(self) -> LogStream {
        LogStream { tty: true, ..self }
    }

    /// Returns the next piece; `None` at the end. A failing read ends the log.
    pub async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            // A long log of which nothing is wanted leaves others their time.
            tokio::task::coop::consume_budget().await;
            let mut out = BytesMut::new();
            self.show_all(&mut out);
            if !out.is_empty() {
                return Some(out.freeze());
            }
            if self.over || self.read_on().unwrap_or(false) {
                continue;
            }
            let Some(follow) = &mut self.follow else {
                self.over = true;
                break;
            };
            if !follow.changed().await {
                // One more look after the end: the last lines were written before it.
                self.follow = None;
            }
        }
        None
    }

    fn read_on(&mut self) -> io::Result<bool> {
        Ok(self.reader.fill()? || self.reader.refresh()?)
    }

    /// Turns the records that were read into output.
    fn show_all(&mut self, out: &mut BytesMut) {
        while let Some(entry) = self.reader.next_entry() {
            if !show(&entry, &self.options, self.tty, out) {
                self.over = true;
                return;
            }
        }
    }
}

/// Writes one record if it is wanted. False when all that follows is too young.
fn show(entry: &Entry<'_>, options: &LogOptions, tty: bool, out: &mut BytesMut) -> bool {
    if options.until.is_some_and(|until| entry.time > until) {
        return false;
    }
    let unwanted = if entry.stream == protocol::STDERR { !options.stderr } else { !options.stdout };
    if unwanted || options.since.is_some_and(|since| entry.time < since) {
        return true;
    }
    let mut prefix = String::new();
    if options.timestamps {
        let time = Timestamp::from_nanosecond(entry.time.into()).unwrap_or_default();
        prefix = units::rfc3339_nano_padded(time);
        prefix.push(' ');
    }
    if options.details {
        let mut pairs: Vec<_> = entry.attributes.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
        pairs.sort();
        prefix.push_str(&pairs.join(","));
        prefix.push(' ');
    }
    if !tty {
        out.put_slice(&protocol::header(entry.stream, prefix.len() + entry.line.len()));
    }
    out.put_slice(prefix.as_bytes());
    out.put_slice(&entry.line);
    true
}

/// Escapes text as in the query of a URL.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::State;
    use crate::container::record::tests::record;
    use budu_runtime::plan::LogFormat;
    use std::fs::File;
    use std::io::Write;

    fn line(text: &str, stream: &str, second: u8) -> String {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"{stream}\",\"time\":\"2024-01-01T00:00:{second:02}.5Z\"}}\n")
    }

    fn stream(path: &Path, options: LogOptions) -> LogStream {
        let start = Start::Search { since: options.since, tail: options.tail };
        let reader = Reader::open(path, LogFormat::Json, start).unwrap();
        let options = LogOptions { stdout: true, ..options };
        LogStream { options, tty: true, reader, follow: None, over: false }
    }

    async fn all(mut stream: LogStream) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = stream.next().await {
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn since_until_and_timestamps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, (1..=4).map(|s| line(&s.to_string(), "stdout", s)).collect::<String>()).unwrap();
        let at = |second: i64| Some((1_704_067_200 + second) * 1_000_000_000);
        let options = LogOptions { since: at(2), until: at(4), timestamps: true, ..LogOptions::default() };
        assert_eq!(
            all(stream(&path, options)).await,
            "2024-01-01T00:00:02.500000000Z 2\n2024-01-01T00:00:03.500000000Z 3\n"
        );
    }

    #[tokio::test]
    async fn frames_without_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, line("e", "stderr", 1)).unwrap();
        let mut log = stream(&path, LogOptions { stderr: true, ..LogOptions::default() });
        log.tty = false;
        assert_eq!(&log.next().await.unwrap()[..], b"\x02\0\0\0\0\0\0\x02e\n");
    }

    #[tokio::test]
    async fn following_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        let container = Arc::new(Container::new(record("x"), State::default()));
        container.progress.send_modify(|p| p.running = true);
        let mut log = stream(&path, LogOptions::default());
        log.follow = Some(Follow::new(&Changes::start().unwrap(), &path, &container).unwrap());
        std::fs::write(&path, line("first", "stdout", 1)).unwrap();
        assert_eq!(log.next().await.unwrap(), "first\n");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(line("last", "stdout", 3).as_bytes()).unwrap();
        container.ended(false);
        assert_eq!(log.next().await.unwrap(), "last\n");
        assert!(log.next().await.is_none());
    }

    #[tokio::test]
    async fn details_are_escaped_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        let time = "2024-01-01T00:00:00.5Z";
        let text = format!("{{\"log\":\"x\\n\",\"attrs\":{{\"b\":\"1 &\",\"a\":\"é\"}},\"time\":\"{time}\"}}\n");
        std::fs::write(&path, text).unwrap();
        let options = LogOptions { details: true, timestamps: true, ..LogOptions::default() };
        let shown = all(stream(&path, options)).await;
        assert_eq!(shown, "2024-01-01T00:00:00.500000000Z a=%C3%A9,b=1+%26 x\n");
    }
}
