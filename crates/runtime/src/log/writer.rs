//! The shim's side: what streams say becomes records in a file.
//!
//! One write for everything that was read at once, no allocation that outlives
//! a busy time: a shim's memory is what a container costs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use budu_sys::process::SingleThreaded;

use super::index::{self, Index, Mark};
use super::json::Clock;
use super::read::{self, Tail};
use super::rotate::{self, Packer};
use super::{Acknowledged, BLOCK, MAX_LINE, Partial, json, local};
use crate::plan::{LogFormat, LogPlan};
use crate::protocol::STDERR;

/// Records are written when this much waits.
const FLUSH: usize = 128 << 10;
/// Room for records that is kept in idle times.
const IDLE: usize = 8 << 10;
/// Two records this close have different times, though the clock may say otherwise.
const CLOSE: i64 = 1_000_000;

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) plan: LogPlan,
    pub(super) file: File,
    /// Bytes and records in the file, and where its last mark is.
    pub(super) size: u64,
    pub(super) entries: u64,
    pub(super) marked: u64,
    /// Time of the youngest record.
    pub(super) latest: i64,
    /// Number of the file.
    pub(super) segment: u64,
    pub(super) index: Option<index::Open>,
    pub(super) packer: Option<Packer>,
    /// Who has to have sent files on before they are given up.
    pub(super) sent: Option<Acknowledged>,
    /// Records that are not in the file yet, and how many.
    out: Vec<u8>,
    waiting: u64,
    clock: Clock,
    /// Standard output, standard error.
    streams: [Stream; 2],
}

/// What a stream has said since its last record.
#[derive(Debug, Default)]
struct Stream {
    begun: Vec<u8>,
    /// The piece before, of a line that was too long.
    piece: Option<Partial>,
}

impl Log {
    /// Opens the log for appending, mode 0640, and mends what a crash left.
    pub(crate) fn open(plan: &LogPlan) -> io::Result<Log> {
        let mut log = Log {
            file: append_to(&plan.path)?,
            size: 0,
            entries: 0,
            marked: 0,
            latest: 0,
            segment: rotate::unnumbered(&plan.path)?,
            index: None,
            packer: None,
            sent: plan.hold.then(|| Acknowledged::of(&plan.path)),
            out: Vec::new(),
            waiting: 0,
            clock: Clock::default(),
            streams: Default::default(),
            plan: plan.clone(),
        };
        log.take_up()?;
        Ok(log)
    }

    /// Goes on where an earlier run of the container ended.
    fn take_up(&mut self) -> io::Result<()> {
        let index = Index::load(&self.plan.path)?;
        let length = self.file.metadata()?.len();
        if let Some(mut index) = index {
            if index.rotating {
                // Cut off in the middle: which mark is whose is not known any more.
                index = Index { segment: index.segment + 1, rotating: false, marks: Vec::new() };
            }
            self.segment = index.segment;
            index.marks.retain(|mark| mark.segment != self.segment || mark.offset <= length);
            let last = index.of(self.segment).last().copied().unwrap_or_default();
            (self.marked, self.size, self.entries, self.latest) = (last.offset, last.offset, last.entries, last.latest);
            self.index = Some(index.replace(&self.plan.path)?);
        }
        if length > self.size {
            let Tail { records, end } = read::tail(&self.plan.path, self.plan.format, self.size)?;
            self.entries += records;
            if end < length {
                // The power went while a record was written.
                self.file.set_len(end)?;
            }
            self.size = end;
            self.latest = self.latest.max(now());
        }
        Ok(())
    }

    /// Appends what a stream said. Failures (a full disk) lose log lines, not
    /// output. Without `token` nothing is compressed.
    pub(crate) fn write(&mut self, token: Option<&SingleThreaded>, stream: u8, mut data: &[u8]) {
        let mut time = now();
        if (0..CLOSE).contains(&(self.latest - time)) {
            time = self.latest + 1;
        }
        let at = usize::from(stream == STDERR);
        while !data.is_empty() {
            let begun = self.streams[at].begun.len();
            let limit = data.len().min(MAX_LINE - begun);
            let (take, whole, kept) = match memchr::memchr(b'\n', &data[..limit]) {
                Some(end) => (end + 1, true, Vec::new()),
                None if begun + limit == MAX_LINE => self.split(at, &data[..limit]),
                None => {
                    self.streams[at].begun.extend_from_slice(data);
                    break;
                }
            };
            self.make_room(token);
            self.record(stream, &data[..take], whole, time);
            self.streams[at].begun = kept;
            time += 1;
            data = &data[take..];
        }
        self.flush();
    }

    /// Where a line that is too long with this `data` is split: how much of it is of the piece, and what of the bytes
    /// before is not. What is JSON has whole characters: each half of one would become another.
    fn split(&mut self, at: usize, data: &[u8]) -> (usize, bool, Vec<u8>) {
        let begun = &mut self.streams[at].begun;
        let early = match self.plan.format {
            LogFormat::Json => unfinished(begun, data),
            LogFormat::Local => 0,
        };
        let kept = begun.split_off(begun.len() - early.saturating_sub(data.len()));
        (data.len().saturating_sub(early), false, kept)
    }

    /// Writes unfinished lines: the streams have ended.
    pub(crate) fn finish(&mut self) {
        let time = now();
        for stream in [crate::protocol::STDOUT, STDERR] {
            if !self.streams[usize::from(stream == STDERR)].begun.is_empty() {
                self.record(stream, b"", false, time);
            }
        }
        self.flush();
    }

    /// Whether nothing may be written now: the log is full, and what it would
    /// have to give up was not sent on yet.
    pub(crate) fn is_blocked(&mut self) -> bool {
        self.plan.max_size.is_some_and(|max| self.size >= max) && !self.may_rotate()
    }

    /// Gives memory back in idle times.
    pub(crate) fn rest(&mut self) {
        self.out = Vec::new();
    }

    /// Something to look at while the container runs: a file being compressed.
    pub(crate) fn packer(&self) -> Option<&Packer> {
        self.packer.as_ref()
    }

    fn record(&mut self, stream: u8, piece: &[u8], whole: bool, time: i64) {
        let LogPlan { format, attributes, .. } = &self.plan;
        let said = &mut self.streams[usize::from(stream == STDERR)];
        match format {
            LogFormat::Json => {
                json::write(&mut self.out, stream, [&said.begun, piece], attributes, time, &mut self.clock)
            }
            LogFormat::Local => {
                let line = if whole { &piece[..piece.len() - 1] } else { piece };
                if let Some(partial) = &mut said.piece {
                    partial.ordinal += 1;
                    partial.last = whole;
                } else if !whole {
                    said.piece = Some(Partial { id: budu_spec::Id::random().to_string(), ordinal: 1, last: false });
                }
                local::write(&mut self.out, stream, [&said.begun, line], attributes, time, said.piece.as_ref());
                if whole {
                    said.piece = None;
                }
            }
        }
        if !said.begun.is_empty() {
            said.begun = Vec::new();
        }
        self.latest = self.latest.max(time);
        self.waiting += 1;
    }

    /// Writes what waits, or rotates, when it is time to.
    fn make_room(&mut self, token: Option<&SingleThreaded>) {
        let full = self.plan.max_size.is_some_and(|max| self.size + self.out.len() as u64 >= max);
        if full || self.out.len() >= FLUSH {
            self.flush();
        }
        if full && self.size > 0 && self.may_rotate() {
            self.rotate(token);
        }
    }

    /// Puts the records that wait into the file.
    pub(super) fn flush(&mut self) {
        if self.waiting == 0 {
            return;
        }
        // Else they are lost: a program is not to wait for somebody to clean up a disk.
        if write_whole(&mut self.file, &self.out).is_ok() {
            self.size += self.out.len() as u64;
            self.entries += self.waiting;
        }
        self.waiting = 0;
        self.out.clear();
        self.out.shrink_to(if self.out.capacity() > FLUSH / 2 { FLUSH } else { IDLE });
        if self.size - self.marked >= BLOCK {
            // Without a mark, reading is slower; nothing else.
            let _ = self.mark();
        }
    }

    fn mark(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.size {
            return self.was_truncated();
        }
        let mark = self.here();
        match &mut self.index {
            Some(index) => index.append(&mark)?,
            None => {
                let start = Mark { segment: self.segment, ..Mark::default() };
                let marks = vec![Mark { latest: i64::MIN, ..start }, mark];
                let index = Index { segment: self.segment, rotating: false, marks };
                self.index = Some(index.replace(&self.plan.path)?);
            }
        }
        self.marked = self.size;
        Ok(())
    }

    /// A mark for the end of what is written.
    pub(super) fn here(&self) -> Mark {
        Mark { segment: self.segment, offset: self.size, entries: self.entries, latest: self.latest }
    }

    /// Somebody emptied the file under us: as good as a new one.
    fn was_truncated(&mut self) -> io::Result<()> {
        let Tail { records, end } = read::tail(&self.plan.path, self.plan.format, 0)?;
        let mut index = Index::load(&self.plan.path)?.unwrap_or_default();
        index.marks.retain(|mark| mark.segment < self.segment);
        self.segment += 1;
        index.segment = self.segment;
        self.index = Some(index.replace(&self.plan.path)?);
        (self.size, self.entries, self.marked) = (end, records, 0);
        Ok(())
    }
}

/// How many bytes at the end are a character's whose last ones are not there.
fn unfinished(before: &[u8], data: &[u8]) -> usize {
    const LONGEST: usize = 3;
    let mut end: Vec<u8> = data.iter().rev().chain(before.iter().rev()).take(LONGEST).copied().collect();
    end.reverse();
    let begins = |bytes: &[u8]| {
        std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=end.len()).find(|count| begins(&end[end.len() - count..])).unwrap_or(0)
}

/// Writes everything, or takes back what was written.
fn write_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if written > 0 {
                    let length = file.metadata()?.len();
                    file.set_len(length.saturating_sub(written as u64))?;
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
