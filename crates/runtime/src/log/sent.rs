//! How far a log was sent on: a file beside it, written by whoever sends,
//! looked at by the shim before it gives anything up.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::with_suffix;

/// A place in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the file, from 1.
    pub segment: u64,
    /// Byte in it, before compression.
    pub offset: u64,
}

/// The note of what need not be sent again.
#[derive(Debug)]
pub struct Acknowledged {
    path: PathBuf,
    file: Option<File>,
}

impl Acknowledged {
    /// The note of the log at `path`.
    pub fn of(path: &Path) -> Acknowledged {
        Acknowledged { path: with_suffix(path, ".sent"), file: None }
    }

    /// Everything before this was sent. The beginning when nothing is noted.
    pub fn position(&mut self) -> Position {
        let mut bytes = [0u8; 16];
        if self.file.is_none() {
            self.file = OpenOptions::new().read(true).write(true).open(&self.path).ok();
        }
        match &self.file {
            Some(file) if file.read_exact_at(&mut bytes, 0).is_ok() => {}
            _ => return Position::default(),
        }
        let [segment, offset] = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default()));
        Position { segment, offset }
    }

    /// Notes that everything before `position` was sent.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn note(&mut self, position: Position) -> io::Result<()> {
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&position.segment.to_le_bytes());
        bytes[8..].copy_from_slice(&position.offset.to_le_bytes());
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            self.file = Some(options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?);
        }
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(&bytes, 0))
    }
}
