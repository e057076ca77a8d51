//! Rotation: the file becomes `.1`, `.1` becomes `.2`, the oldest goes; and
//! compression of what was rotated, by a process of its own.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use budu_sys::process::{self, CloneArgs, Ended, Side, SingleThreaded};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::index::{Index, Mark};
use super::writer::{Log, append_to};
use super::{aged, with_suffix};

/// Name of a rotated file once it is compressed.
pub(super) fn packed(path: &Path, age: u32) -> PathBuf {
    with_suffix(&aged(path, age), ".gz")
}

/// Ages of the rotated files there are. One may be missing between others: whoever renamed them was killed.
pub(super) fn ages(path: &Path) -> io::Result<BTreeSet<u32>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(BTreeSet::new()) };
    let entries = match fs::read_dir(if directory.as_os_str().is_empty() { Path::new(".") } else { directory }) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let age = |entry: fs::DirEntry| {
        let entry = entry.file_name();
        let suffix = entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
        std::str::from_utf8(suffix.strip_suffix(b".gz").unwrap_or(suffix)).ok()?.parse().ok()
    };
    Ok(entries.filter_map(Result::ok).filter_map(age).filter(|age| *age > 0).collect())
}

/// The number of the file being written, of a log without an index: those that were rotated have the ones before.
pub(super) fn unnumbered(path: &Path) -> io::Result<u64> {
    Ok(1 + ages(path)?.last().copied().map_or(0, u64::from))
}

fn packing(path: &Path) -> PathBuf {
    with_suffix(path, ".packing")
}

impl Log {
    /// Whether the oldest file may be given up.
    pub(super) fn may_rotate(&mut self) -> bool {
        let oldest_kept = (self.segment + 2).saturating_sub(u64::from(self.plan.max_file.max(1)));
        match &mut self.sent {
            Some(sent) if oldest_kept > 1 => sent.position().segment >= oldest_kept,
            _ => true,
        }
    }

    /// Starts a new file.
    pub(super) fn rotate(&mut self, token: Option<&SingleThreaded>) {
        self.look_after_packer(token, false);
        // What cannot be renamed (a full disk, a directory on its way out) grows on.
        if self.try_rotate().is_ok() {
            self.pack_next(token);
        }
    }

    /// Compresses the youngest rotated file that is not, unless one is being compressed.
    fn pack_next(&mut self, token: Option<&SingleThreaded>) {
        let Some(token) = token.filter(|_| self.plan.compress && self.packer.is_none()) else { return };
        let path = &self.plan.path;
        if let Some(age) = (1..self.plan.max_file).find(|age| aged(path, *age).exists()) {
            self.packer = Packer::start(token, path, age).ok();
        }
    }

    fn try_rotate(&mut self) -> io::Result<()> {
        let path = self.plan.path.clone();
        let mut index = Index::load(&path)?.unwrap_or_default();
        index.segment = self.segment;
        if self.index.is_none() {
            self.index = Some(index.replace(&path)?);
        }
        if let Some(open) = &self.index {
            open.rotating()?;
        }
        match self.shift() {
            Ok(()) => {
                index.marks.push(self.here());
                self.segment += 1;
                let kept = (self.segment + 1).saturating_sub(u64::from(self.plan.max_file.max(1)));
                index.marks.retain(|mark| mark.segment >= kept);
                index.marks.push(Mark { segment: self.segment, latest: self.latest, ..Mark::default() });
                index.segment = self.segment;
                (self.size, self.entries, self.marked) = (0, 0, 0);
                self.index = Some(index.replace(&path)?);
                Ok(())
            }
            Err(error) => {
                self.index = Some(index.replace(&path)?);
                Err(error)
            }
        }
    }

    fn shift(&mut self) -> io::Result<()> {
        let path = &self.plan.path;
        let Some(oldest) = self.plan.max_file.checked_sub(1).filter(|n| *n > 0) else {
            return self.file.set_len(0);
        };
        let kept = u64::from(oldest).min(self.segment) as u32;
        for age in (1..kept).rev() {
            gone(fs::remove_file(aged(path, age + 1)))?;
            gone(fs::remove_file(packed(path, age + 1)))?;
            gone(fs::rename(aged(path, age), aged(path, age + 1)))?;
            gone(fs::rename(packed(path, age), packed(path, age + 1)))?;
        }
        gone(fs::remove_file(packed(path, 1)))?;
        fs::rename(path, aged(path, 1))?;
        match append_to(path) {
            Ok(file) => self.file = file,
            Err(error) => {
                let _ = fs::rename(aged(path, 1), path);
                return Err(error);
            }
        }
        if let Some(packer) = &mut self.packer {
            packer.age += 1;
        }
        Ok(())
    }

    /// Puts a compressed file into its place, when it is finished, and goes on
    /// with the next; `wait` waits for that.
    pub(crate) fn look_after_packer(&mut self, token: Option<&SingleThreaded>, wait: bool) {
        let Some(packer) = &self.packer else { return };
        let outcome = match process::reap(packer.pidfd.as_fd(), wait) {
            Ok(None) => return,
            Ok(Some(Ended::Exited(0))) if packer.age < self.plan.max_file => Some(packer.age),
            _ => None,
        };
        let path = &self.plan.path;
        // Readers look for the plain file first, so one of both is always there.
        let placed = outcome.is_some_and(|age| fs::rename(packing(path), packed(path, age)).is_ok());
        if let Some(age) = outcome.filter(|_| placed) {
            let _ = fs::remove_file(aged(path, age));
        } else {
            let _ = fs::remove_file(packing(path));
        }
        self.packer = None;
        if placed {
            self.pack_next(token);
        }
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A process that compresses a rotated file.
#[derive(Debug)]
pub(crate) struct Packer {
    pidfd: OwnedFd,
    /// How old its file is by now, in rotations.
    age: u32,
}

impl Packer {
    fn start(token: &SingleThreaded, path: &Path, age: u32) -> io::Result<Packer> {
        let from = File::open(aged(path, age))?;
        let mut options = OpenOptions::new();
        let to = options.write(true).create(true).truncate(true).mode(0o640).open(packing(path))?;
        match process::clone3(token, CloneArgs::default())? {
            Side::Parent { pidfd, .. } => Ok(Packer { pidfd, age }),
            Side::Child => {
                // Nobody is to wait for our copies of a container's streams.
                let alone = process::close_borrowed_from(3, &[from.as_fd(), to.as_fd()]);
                let _ = rustix::process::setpriority_process(None, 10);
                process::exit_now(i32::from(alone.and_then(|()| pack(&from, &to)).is_err()))
            }
        }
    }
}

impl AsFd for Packer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn pack(mut from: &File, to: &File) -> io::Result<()> {
    let mut encoder = GzEncoder::new(to, Compression::fast());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.flush()
}
