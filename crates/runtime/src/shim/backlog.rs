//! What waits for a client: some in memory, more in a file without a name.
//!
//! A client that does not read must not hold up the program, whose other
//! clients and log want to go on; one that reads slowly is to lose nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Mode, OFlags};

/// With more than this waiting, the rest goes to the file, if there may be one.
const MEMORY: usize = 256 << 10;
/// With more than this in the file, enough is enough.
const FILE: u64 = 64 << 20;

/// Bytes on their way to a client.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    memory: Vec<u8>,
    /// How much of `memory` is sent.
    sent: usize,
    file: Option<Spill>,
    /// Where a file may be made.
    directory: Option<PathBuf>,
}

#[derive(Debug)]
struct Spill {
    file: File,
    from: u64,
    to: u64,
}

impl Backlog {
    /// Allows a file in `directory`.
    pub(super) fn allow_file(&mut self, directory: &Path) {
        self.directory = Some(directory.to_owned());
    }

    /// What to send next.
    pub(super) fn next(&self) -> &[u8] {
        &self.memory[self.sent..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.memory.len()
    }

    /// No more should come.
    pub(super) fn is_full(&self) -> bool {
        match &self.file {
            Some(spill) => spill.to - spill.from > FILE,
            None => self.memory.len() - self.sent > MEMORY,
        }
    }

    /// Appends.
    pub(super) fn push(&mut self, data: &[u8]) {
        let large = self.memory.len() - self.sent + data.len() > MEMORY;
        if large && self.file.is_none() {
            self.file = self.directory.as_deref().and_then(|dir| Spill::new(dir).ok());
        }
        let Some(spill) = &mut self.file else {
            self.memory.extend_from_slice(data);
            return;
        };
        if spill.push(data).is_err() {
            // A full disk: memory it is, and the program waits.
            let mut rest = spill.take(usize::MAX);
            self.memory.append(&mut rest);
            self.memory.extend_from_slice(data);
            (self.file, self.directory) = (None, None);
        }
    }

    /// That many bytes of [`Backlog::next`] are sent.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent < self.memory.len() {
            if self.sent > MEMORY {
                self.memory.drain(..self.sent);
                self.sent = 0;
            }
            return;
        }
        // Give the memory back: most connections are idle most of the time.
        self.memory = Vec::new();
        self.sent = 0;
        if let Some(spill) = &mut self.file {
            self.memory = spill.take(MEMORY);
            if spill.from == spill.to || self.memory.is_empty() {
                self.file = None;
            }
        }
    }
}

impl Spill {
    fn new(directory: &Path) -> io::Result<Spill> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file: OwnedFd = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600))?;
        Ok(Spill { file: file.into(), from: 0, to: 0 })
    }

    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.to)?;
        self.to += data.len() as u64;
        Ok(())
    }

    /// Takes the first bytes out; none when they cannot be read.
    fn take(&mut self, limit: usize) -> Vec<u8> {
        let mut data = vec![0; limit.min(usize::try_from(self.to - self.from).unwrap_or(limit))];
        if self.file.read_exact_at(&mut data, self.from).is_err() {
            return Vec::new();
        }
        // Where holes are not known, the file is larger than it need be.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(self.file.as_fd(), flags, self.from, data.len() as u64);
        self.from += data.len() as u64;
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_through_memory_and_file() {
        let dir = std::env::temp_dir();
        for allowed in [true, false] {
            let mut backlog = Backlog::default();
            if allowed {
                backlog.allow_file(&dir);
            }
            let mut sent: u32 = 0;
            let mut taken: u32 = 0;
            for round in 0..40 {
                // Three in, two out; then all out.
                for _ in 0..3 {
                    let block: Vec<u8> = (sent..sent + 10_000).flat_map(u32::to_be_bytes).collect();
                    sent += 10_000;
                    backlog.push(&block);
                }
                let mut budget = if round == 39 { usize::MAX } else { 80_000 };
                while !backlog.is_empty() && budget > 0 {
                    let count = backlog.next().len().min(4000).min(budget);
                    for word in backlog.next()[..count].chunks(4) {
                        assert_eq!(word, taken.to_be_bytes());
                        taken += 1;
                    }
                    backlog.advance(count);
                    budget = budget.saturating_sub(count);
                }
                assert_eq!(backlog.is_full(), !allowed && round > 5 && round < 39, "round {round}");
            }
            assert_eq!(sent, taken);
        }
    }
}
