//! Reading: from where on, and one record after the other, over rotations and
//! while the shim writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::index::{Index, Mark};
use super::{Entry, Position, aged, json, local, rotate};
use crate::plan::LogFormat;

/// Read at once.
const CHUNK: usize = 64 << 10;
/// More than any record of ours; without an end by then it is none.
const LIMIT: usize = 4 << 20;
/// Looks at a log whose files are being renamed, before it is read as it is.
const LOOKS: u32 = 50;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As late as possible without missing a record that is wanted.
    Search {
        /// Wanted is nothing older; Unix nanoseconds.
        since: Option<i64>,
        /// Wanted are this many records at the end.
        tail: Option<u64>,
    },
    /// Where somebody stopped.
    At(Position),
}

/// A log being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    format: LogFormat,
    /// Files, oldest first; the first is being read.
    files: VecDeque<Segment>,
    /// Number of the file being read.
    number: u64,
    buffer: Vec<u8>,
    place: Place,
}

/// What was read and not yet returned begins at `from` in the buffer; the byte
/// there is number `offset` of its file.
#[derive(Debug, Default)]
struct Place {
    from: usize,
    offset: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Plain(File),
    Packed(Box<MultiGzDecoder<File>>),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(file) => file.read(buffer),
            Source::Packed(decoder) => decoder.read(buffer),
        }
    }
}

/// The records at the end of a file.
pub(super) struct Tail {
    pub(super) records: u64,
    /// Where the last whole one ends.
    pub(super) end: u64,
}

/// Counts the records of the file at `path` from `offset` on.
pub(super) fn tail(path: &Path, format: LogFormat, offset: u64) -> io::Result<Tail> {
    let file = Segment { number: 1, source: Source::Plain(File::open(path)?) };
    let mut reader = Reader::new(path, format, VecDeque::from([file]));
    reader.seek(offset)?;
    let records = reader.skip(u64::MAX)?;
    Ok(Tail { records, end: reader.place.offset })
}

impl Reader {
    /// Opens a log. One without any file is empty until there is one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(path: &Path, format: LogFormat, start: Start) -> io::Result<Reader> {
        let (index, mut files) = snapshot(path)?;
        let position = match start {
            Start::At(position) => position,
            Start::Search { since, tail } => {
                let by_time = since.map_or(Position::default(), |since| search(&index, since));
                let by_count = match tail {
                    Some(tail) => count_back(path, format, &index, &mut files, tail)?,
                    None => Position::default(),
                };
                by_time.max(by_count)
            }
        };
        files.retain(|file| file.number >= position.segment);
        let mut reader = Reader::new(path, format, files);
        if reader.number == position.segment {
            reader.seek(position.offset)?;
        }
        Ok(reader)
    }

    fn new(path: &Path, format: LogFormat, files: VecDeque<Segment>) -> Reader {
        let number = files.front().map_or(0, |file| file.number);
        Reader { path: path.to_owned(), format, files, number, buffer: Vec::new(), place: Place::default() }
    }

    /// The next record of what was read; `None` when [`Reader::fill`] is due.
    /// What is no record is left out.
    pub fn next_entry(&mut self) -> Option<Entry<'_>> {
        let buffer = &self.buffer;
        loop {
            let (from, to) = self.place.locate(self.format, buffer, &mut self.files)?;
            let entry = match self.format {
                LogFormat::Json => json::parse(&buffer[from..to]),
                LogFormat::Local => local::parse(&buffer[from..to]),
            };
            if entry.is_some() {
                return entry;
            }
        }
    }

    /// Reads on. False at the end of what is there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fill(&mut self) -> io::Result<bool> {
        loop {
            let Some(file) = self.files.front_mut() else { return Ok(false) };
            self.buffer.drain(..self.place.from);
            self.place.from = 0;
            if self.buffer.len() > LIMIT {
                self.place.offset += self.buffer.len() as u64;
                self.buffer.clear();
            }
            let length = self.buffer.len();
            self.buffer.resize(length + CHUNK, 0);
            let read = file.source.read(&mut self.buffer[length..]);
            self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
            if read? > 0 {
                return Ok(true);
            }
            if self.files.len() == 1 {
                return Ok(false);
            }
            self.files.pop_front();
            self.enter();
        }
    }

    /// Looks for newer files, after [`Reader::fill`] said that it is at the
    /// end. True when it is worth reading on.
    ///
    /// # Errors
    /// When the log's files cannot be opened.
    pub fn refresh(&mut self) -> io::Result<bool> {
        let current = Index::state(&self.path)?.map_or(1, |(segment, _)| segment);
        if current <= self.number {
            return self.was_emptied();
        }
        let (_, newer) = snapshot(&self.path)?;
        let known = self.number;
        let before = self.files.len();
        self.files.extend(newer.into_iter().filter(|file| file.number > known));
        if before == 0 && !self.files.is_empty() {
            self.enter();
        }
        Ok(self.files.len() > before)
    }

    /// The first byte that was not returned.
    pub fn position(&self) -> Position {
        Position { segment: self.number, offset: self.place.offset }
    }

    /// Passes over records; returns how many there were, at most `count`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut passed = 0;
        while passed < count {
            if self.place.locate(self.format, &self.buffer, &mut self.files).is_some() {
                passed += 1;
            } else if !self.fill()? {
                break;
            }
        }
        Ok(passed)
    }

    /// Begins with the file that is now first.
    fn enter(&mut self) {
        self.number = self.files.front().map_or(self.number, |file| file.number);
        self.buffer.clear();
        self.place = Place::default();
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        match self.files.front_mut().map(|file| &mut file.source) {
            Some(Source::Plain(file)) => _ = file.seek(SeekFrom::Start(offset))?,
            Some(Source::Packed(decoder)) => _ = io::copy(&mut decoder.take(offset), &mut io::sink())?,
            None => {}
        }
        self.place.offset = offset;
        Ok(())
    }

    /// A file that somebody emptied is read from its beginning.
    fn was_emptied(&mut self) -> io::Result<bool> {
        let read = self.place.offset + (self.buffer.len() - self.place.from) as u64;
        match self.files.back().map(|file| &file.source) {
            Some(Source::Plain(file)) if self.files.len() == 1 && file.metadata()?.len() < read => {}
            _ => return Ok(false),
        }
        self.enter();
        self.seek(0)?;
        Ok(true)
    }
}

impl Place {
    /// Finds the next record in the buffer and passes over it.
    fn locate(&mut self, format: LogFormat, buffer: &[u8], files: &mut VecDeque<Segment>) -> Option<(usize, usize)> {
        let rest = &buffer[self.from..];
        let (from, to, size) = match format {
            LogFormat::Json => {
                let end = memchr::memchr(b'\n', rest)?;
                (0, end, end + 1)
            }
            LogFormat::Local => match local::find(rest) {
                local::Found::Record(message, size) => (4, 4 + message.len(), size),
                local::Found::Beginning => return None,
                local::Found::Nonsense => {
                    // Where the next one begins nobody can tell: on with the next file.
                    if let Some(Source::Plain(file)) = files.front_mut().map(|file| &mut file.source) {
                        self.offset = file.seek(SeekFrom::End(0)).unwrap_or(self.offset);
                    }
                    self.from = buffer.len();
                    return None;
                }
            },
        };
        let place = (self.from + from, self.from + to);
        self.from += size;
        self.offset += size as u64;
        Some(place)
    }
}

/// The index and all files, oldest first, as they belong together.
fn snapshot(path: &Path) -> io::Result<(Index, VecDeque<Segment>)> {
    for look in 0.. {
        let index = Index::load(path)?;
        if index.as_ref().is_some_and(|index| index.rotating) && look < LOOKS {
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        let index = match index {
            Some(index) => index,
            None => Index { segment: rotate::unnumbered(path)?, ..Index::default() },
        };
        let files = files(path, index.segment)?;
        let after = Index::state(path)?.unwrap_or((index.segment, false));
        if after == (index.segment, false) || look >= LOOKS {
            return Ok((index, files));
        }
    }
    unreachable!("the last look returns")
}

fn files(path: &Path, current: u64) -> io::Result<VecDeque<Segment>> {
    let mut files = Vec::new();
    for age in std::iter::once(0).chain(rotate::ages(path)?) {
        let found = match open(&aged(path, age))? {
            Some(file) => Some(Source::Plain(file)),
            None => open(&rotate::packed(path, age))?.map(|file| Source::Packed(Box::new(MultiGzDecoder::new(file)))),
        };
        // The newest may be missing for a moment; others were renamed since they were listed.
        files.extend(found.map(|source| Segment { number: current.saturating_sub(age.into()), source }));
    }
    files.reverse();
    Ok(files.into())
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The last mark before which everything is too old.
fn search(index: &Index, since: i64) -> Position {
    let place = |mark: &Mark| Position { segment: mark.segment, offset: mark.offset };
    // Their `latest` never falls.
    let at = index.marks.partition_point(|mark| mark.latest < since);
    at.checked_sub(1).map_or(Position::default(), |at| place(&index.marks[at]))
}

/// Where the last `left` records begin.
fn count_back(
    path: &Path,
    format: LogFormat,
    index: &Index,
    files: &mut VecDeque<Segment>,
    mut left: u64,
) -> io::Result<Position> {
    for at in (0..files.len()).rev() {
        let number = files[at].number;
        let marks = index.of(number);
        let last = marks.last().copied().unwrap_or_default();
        // A compressed file's last mark is its end.
        let total = match (&files[at].source, last.offset) {
            (Source::Packed(_), 1..) => last.entries,
            _ => last.entries + count(path, format, &files[at], last.offset)?.0,
        };
        if total < left {
            left -= total;
            continue;
        }
        let target = total - left;
        let before = marks.partition_point(|mark| mark.entries <= target);
        let mark = before.checked_sub(1).map_or(Mark::default(), |at| marks[at]);
        if mark.entries == target {
            return Ok(Position { segment: number, offset: mark.offset });
        }
        let offset = count_to(path, format, &files[at], mark.offset, target - mark.entries)?.1;
        return Ok(Position { segment: number, offset });
    }
    Ok(Position::default())
}

fn count(path: &Path, format: LogFormat, file: &Segment, offset: u64) -> io::Result<(u64, u64)> {
    count_to(path, format, file, offset, u64::MAX)
}

/// Passes over records of one file from `offset` on: how many, and where it ended.
fn count_to(path: &Path, format: LogFormat, file: &Segment, offset: u64, limit: u64) -> io::Result<(u64, u64)> {
    // A descriptor of its own: the other one's place is not to move.
    let source = match &file.source {
        Source::Plain(file) => Source::Plain(reopened(file)?),
        Source::Packed(decoder) => Source::Packed(Box::new(MultiGzDecoder::new(reopened(decoder.get_ref())?))),
    };
    let mut reader = Reader::new(path, format, VecDeque::from([Segment { number: file.number, source }]));
    reader.seek(offset)?;
    let records = reader.skip(limit)?;
    Ok((records, reader.place.offset))
}

fn reopened(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
