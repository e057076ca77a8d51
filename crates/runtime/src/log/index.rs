//! The index beside a log: marks every [`BLOCK`](super::BLOCK) bytes, and the
//! number of the file being written.
//!
//! A small log has none: it is made with the first mark or rotation. One that
//! is missing or does not fit its log costs time, never lines.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::with_suffix;

const MAGIC: u64 = 0x3158_444e_494f_4c42;
const HEADER: usize = 24;
const MARK: usize = 40;

/// A place in a log where a record begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the file.
    pub(super) segment: u64,
    /// Byte in it, before compression.
    pub(super) offset: u64,
    /// Records before it in this file.
    pub(super) entries: u64,
    /// No record before it, in this file or an older one, is younger; Unix nanoseconds.
    pub(super) latest: i64,
}

/// What an index says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Number of the file being written.
    pub(super) segment: u64,
    /// Files are being renamed right now.
    pub(super) rotating: bool,
    pub(super) marks: Vec<Mark>,
}

fn file_of(log: &Path) -> PathBuf {
    with_suffix(log, ".index")
}

impl Index {
    /// Reads the index of a log; `None` when it has none that can be read.
    pub(super) fn load(log: &Path) -> io::Result<Option<Index>> {
        match std::fs::read(file_of(log)) {
            Ok(bytes) => Ok(Index::parse(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads the header only: number of the file being written, and whether
    /// files are being renamed.
    pub(super) fn state(log: &Path) -> io::Result<Option<(u64, bool)>> {
        let file = match File::open(file_of(log)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut header = [0u8; HEADER];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => Ok(Index::parse(&header).map(|index| (index.segment, index.rotating))),
            Err(_) => Ok(None),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Index> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if word(0)? != MAGIC {
            return None;
        }
        let mark = |at: usize| {
            Some(Mark {
                segment: word(at)?,
                offset: word(at + 8)?,
                entries: word(at + 16)?,
                latest: word(at + 24)?.cast_signed(),
            })
        };
        let marks = (HEADER..bytes.len()).step_by(MARK).map_while(|at| bytes.get(at + MARK - 1).and_then(|_| mark(at)));
        Some(Index { segment: word(8)?, rotating: word(16)? & 1 == 1, marks: marks.collect() })
    }

    fn print(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.marks.len() * MARK);
        for word in [MAGIC, self.segment, u64::from(self.rotating)] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        self.marks.iter().for_each(|mark| out.extend_from_slice(&mark.print()));
        out
    }

    /// Replaces the index of a log, whole or not at all, and returns it for appending.
    pub(super) fn replace(&self, log: &Path) -> io::Result<Open> {
        let (path, temporary) = (file_of(log), with_suffix(log, ".index.new"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        let bytes = self.print();
        file.write_all_at(&bytes, 0)?;
        std::fs::rename(&temporary, &path)?;
        Ok(Open { file, end: bytes.len() as u64 })
    }

    /// The marks of one file, in order.
    pub(super) fn of(&self, segment: u64) -> &[Mark] {
        let from = self.marks.partition_point(|mark| mark.segment < segment);
        let to = self.marks.partition_point(|mark| mark.segment <= segment);
        self.marks.get(from..to).unwrap_or_default()
    }
}

impl Mark {
    fn print(&self) -> [u8; MARK] {
        let mut out = [0u8; MARK];
        for (at, word) in [self.segment, self.offset, self.entries, self.latest.cast_unsigned()].into_iter().enumerate()
        {
            out[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}

/// An index being written.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    end: u64,
}

impl Open {
    /// Appends a mark.
    pub(super) fn append(&mut self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(&mark.print(), self.end)?;
        self.end += MARK as u64;
        Ok(())
    }

    /// Says that files are being renamed.
    pub(super) fn rotating(&self) -> io::Result<()> {
        self.file.write_all_at(&1u64.to_le_bytes(), 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_as_it_was() {
        let dir = budu_spec::Id::random();
        let dir = std::env::temp_dir().join(format!("budu-index-{}", dir.as_str()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("log");
        assert_eq!(Index::load(&log).unwrap(), None);
        let mark = |segment, offset| Mark { segment, offset, entries: offset / 2, latest: -5 };
        let mut index = Index { segment: 3, rotating: false, marks: vec![mark(2, 0), mark(2, 100)] };
        let mut open = index.replace(&log).unwrap();
        open.append(&mark(3, 0)).unwrap();
        open.append(&mark(3, 8)).unwrap();
        index.marks.extend([mark(3, 0), mark(3, 8)]);
        assert_eq!(Index::load(&log).unwrap(), Some(index.clone()));
        assert_eq!(index.of(2), [mark(2, 0), mark(2, 100)]);
        assert_eq!(index.of(4), []);
        open.rotating().unwrap();
        assert_eq!(Index::state(&log).unwrap(), Some((3, true)));
        // A mark that was cut short is no mark.
        let bytes = std::fs::read(file_of(&log)).unwrap();
        std::fs::write(file_of(&log), &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Index::load(&log).unwrap().unwrap().marks.len(), 3);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
