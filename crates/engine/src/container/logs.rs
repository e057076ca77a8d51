//! Logs: reading what the shim wrote, and what it writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use budu_runtime::protocol;
use budu_spec::{Id, units};
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::{Container, Progress};
use crate::{Engine, Error, clock};

/// How much of a file is read, and of output made, at once.
const CHUNK: usize = 32 << 10;

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
    pub tail: Option<usize>,
}

/// One line of the file.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    stream: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    time: std::borrow::Cow<'a, str>,
    #[serde(default)]
    attrs: Option<std::collections::BTreeMap<String, String>>,
}

/// A log being read, already in the form Docker's clients read.
#[derive(Debug)]
pub struct LogStream {
    options: LogOptions,
    tty: bool,
    path: PathBuf,
    /// Older files first; the last is the one being written.
    files: VecDeque<File>,
    buffer: BytesMut,
    /// Set when following.
    follow: Option<Follow>,
    over: bool,
}

#[derive(Debug)]
struct Follow {
    /// An inotify descriptor: read like a pipe, and nothing else is done with it.
    changes: pipe::Receiver,
    progress: watch::Receiver<Progress>,
    /// Keeps the progress channel open.
    _container: Arc<Container>,
}

impl Engine {
    /// Where a container's log lies.
    pub(crate) fn log_path(&self, id: &Id) -> PathBuf {
        self.data_dir(id).join(format!("{id}-json.log"))
    }

    /// Reads a container's log.
    ///
    /// # Errors
    /// [`Error::Invalid`] without any stream, [`Error::UnreadableLog`] with
    /// the log driver `none`.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<LogStream, Error> {
        let container = self.find(name)?;
        let record = container.record();
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        if record.host_config.log_config.kind == "none" {
            return Err(Error::UnreadableLog);
        }
        let path = self.log_path(&container.id);
        let follow = match options.follow {
            true => Some(Follow::new(&path, &container).map_err(Error::io("watch", &path))?),
            false => None,
        };
        let files = open(&path, options.tail).map_err(Error::io("open", &path))?;
        Ok(LogStream { options, tty: record.config.tty, path, files, buffer: BytesMut::new(), follow, over: false })
    }
}

impl Follow {
    fn new(path: &Path, container: &Arc<Container>) -> io::Result<Follow> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, path.parent().unwrap_or(path), flags)?;
        let progress = container.progress.subscribe();
        Ok(Follow {
            changes: pipe::Receiver::from_owned_fd_unchecked(fd)?,
            progress,
            _container: Arc::clone(container),
        })
    }

    /// Waits until something was written or the container ended. True when
    /// it runs.
    async fn changed(&mut self) -> bool {
        if !self.progress.borrow_and_update().running {
            return false;
        }
        tokio::select! {
            ready = self.changes.readable() => {
                let mut waste = [0u8; 1024];
                while ready.is_ok() && self.changes.try_read(&mut waste).is_ok_and(|n| n > 0) {}
            }
            _ = self.progress.changed() => {}
        }
        true
    }
}

/// Opens the rotated files, oldest first, at the `tail`th line from the end.
fn open(path: &Path, tail: Option<usize>) -> io::Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    let mut left = tail;
    for number in 0.. {
        let name = match number {
            0 => path.to_owned(),
            n => PathBuf::from(format!("{}.{n}", path.display())),
        };
        let mut file = match File::open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        };
        if let Some(wish) = left {
            let (offset, found) = tail_offset(&file, wish)?;
            file.seek(SeekFrom::Start(offset))?;
            left = Some(wish - found);
        }
        files.push_front(file);
        if left == Some(0) {
            break;
        }
    }
    Ok(files)
}

/// Where the last `wish` lines of a file begin, and how many there are.
fn tail_offset(file: &File, wish: usize) -> io::Result<(u64, usize)> {
    let mut at = file.metadata()?.len();
    if wish == 0 {
        return Ok((at, 0));
    }
    let end = at;
    let mut found = 0;
    let mut buffer = vec![0u8; CHUNK];
    while at > 0 {
        let size = (CHUNK as u64).min(at);
        let from = at - size;
        let piece = &mut buffer[..size as usize];
        file.read_exact_at(piece, from)?;
        for (i, byte) in piece.iter().enumerate().rev() {
            let offset = from + i as u64;
            if *byte == b'\n' && offset + 1 != end {
                found += 1;
                if found == wish {
                    return Ok((offset + 1, found));
                }
            }
        }
        at = from;
    }
    Ok((0, if end > 0 { found + 1 } else { 0 }))
}

impl LogStream {
    /// Whether the container has a terminal: plain bytes instead of frames.
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Returns the next piece; `None` at the end. A failing read ends the log.
    pub async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let mut out = BytesMut::new();
            let end = self.fill(&mut out).unwrap_or(true);
            if !out.is_empty() {
                return Some(out.freeze());
            }
            if !end {
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

    /// Reads one piece of the file into `out`. True at the end of what is there.
    fn fill(&mut self, out: &mut BytesMut) -> io::Result<bool> {
        let Some(file) = self.files.front_mut() else {
            return Ok(!self.reopen());
        };
        let start = self.buffer.len();
        self.buffer.resize(start + CHUNK, 0);
        let read = file.read(&mut self.buffer[start..]);
        self.buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        if read? > 0 {
            self.lines(out);
            return Ok(self.over);
        }
        if self.files.len() > 1 {
            self.files.pop_front();
            return Ok(false);
        }
        Ok(!self.reopen())
    }

    /// Goes on with the file that took the place of the one read to its end.
    fn reopen(&mut self) -> bool {
        let Some(new) = self.follow.as_ref().and_then(|_| File::open(&self.path).ok()) else { return false };
        let inode = |file: &File| file.metadata().map(|m| m.ino()).unwrap_or_default();
        if self.files.front().is_some_and(|old| inode(old) == inode(&new)) {
            return false;
        }
        self.files.clear();
        self.files.push_back(new);
        true
    }

    /// Turns the whole lines in the buffer into output.
    fn lines(&mut self, out: &mut BytesMut) {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let text = self.buffer.split_to(end + 1);
            let Ok(line) = serde_json::from_slice::<Line<'_>>(&text) else { continue };
            if !self.show(&line, out) {
                self.over = true;
                return;
            }
        }
    }

    /// Writes one line if it is wanted. False when all that follows is too young.
    fn show(&self, line: &Line<'_>, out: &mut BytesMut) -> bool {
        let options = &self.options;
        let stderr = line.stream == "stderr";
        let timed = options.timestamps || options.since.is_some() || options.until.is_some();
        let time = if timed { line.time.parse::<Timestamp>().unwrap_or_default() } else { Timestamp::UNIX_EPOCH };
        let nanos = clock::nanos(time);
        if options.until.is_some_and(|until| nanos > until) {
            return false;
        }
        let unwanted = if stderr { !options.stderr } else { !options.stdout };
        if unwanted || options.since.is_some_and(|since| nanos < since) {
            return true;
        }
        let mut prefix = String::new();
        if options.timestamps {
            prefix = units::rfc3339_nano_padded(time);
            prefix.push(' ');
        }
        if options.details {
            let pairs = line.attrs.iter().flatten().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
            prefix.push_str(&pairs.join(","));
            prefix.push(' ');
        }
        if !self.tty {
            let kind = if stderr { protocol::STDERR } else { protocol::STDOUT };
            out.put_slice(&protocol::header(kind, prefix.len() + line.log.len()));
        }
        out.put_slice(prefix.as_bytes());
        out.put_slice(line.log.as_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::State;
    use crate::container::record::tests::record;
    use std::io::Write;

    fn line(text: &str, stream: &str, second: u8) -> String {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"{stream}\",\"time\":\"2024-01-01T00:00:{second:02}.5Z\"}}\n")
    }

    fn stream(path: &Path, options: LogOptions) -> LogStream {
        let files = open(path, options.tail).unwrap();
        let options = LogOptions { stdout: true, ..options };
        LogStream {
            options,
            tty: true,
            path: path.to_owned(),
            files,
            buffer: BytesMut::new(),
            follow: None,
            over: false,
        }
    }

    async fn all(mut stream: LogStream) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = stream.next().await {
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn tail_goes_over_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(format!("{}.1", path.display()), line("a", "stdout", 1) + &line("b", "stdout", 2)).unwrap();
        std::fs::write(&path, line("c", "stdout", 3) + &line("d", "stderr", 4)).unwrap();
        for (tail, want) in [
            (None, "a\nb\nc\nd\n"),
            (Some(0), ""),
            (Some(1), "d\n"),
            (Some(2), "c\nd\n"),
            (Some(3), "b\nc\nd\n"),
            (Some(9), "a\nb\nc\nd\n"),
        ] {
            assert_eq!(
                all(stream(&path, LogOptions { tail, stderr: true, ..LogOptions::default() })).await,
                want,
                "{tail:?}"
            );
        }
        assert_eq!(all(stream(&path, LogOptions::default())).await, "a\nb\nc\n");
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
    async fn following_ends_with_the_container_and_survives_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        std::fs::write(&path, line("old", "stdout", 1)).unwrap();
        let container = Arc::new(Container::new(record("x"), State::default()));
        container.progress.send_modify(|p| p.running = true);
        let mut log = stream(&path, LogOptions::default());
        log.follow = Some(Follow::new(&path, &container).unwrap());
        assert_eq!(log.next().await.unwrap(), "old\n");
        std::fs::rename(&path, dir.path().join("x-json.log.1")).unwrap();
        std::fs::write(&path, line("new", "stdout", 2)).unwrap();
        assert_eq!(log.next().await.unwrap(), "new\n");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(line("last", "stdout", 3).as_bytes()).unwrap();
        container.ended();
        assert_eq!(log.next().await.unwrap(), "last\n");
        assert!(log.next().await.is_none());
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
}
