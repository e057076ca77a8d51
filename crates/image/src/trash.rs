//! Deleting trees that somebody hostile may have made: without following links, without
//! recursion, with few descriptors however deep the tree is; and not while somebody waits.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Directories open at the same time; what lies deeper is moved up first.
const MAX_OPEN: usize = 32;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A name nobody else in the store uses: the process and a counter.
pub(crate) fn unique() -> String {
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Deletes what was moved to the trash, on a thread of its own: removing a handful of empty
/// directories can take milliseconds that the end of a container need not wait for.
///
/// The thread starts with the first work. Dropped, the sweeper finishes what it has.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    worker: OnceLock<Option<(Sender<PathBuf>, JoinHandle<()>)>>,
}

impl Sweeper {
    /// Deletes `path` soon.
    pub(crate) fn sweep(&self, path: PathBuf) {
        let worker = self.worker.get_or_init(|| {
            let (sender, receiver) = channel::<PathBuf>();
            let work = move || receiver.iter().for_each(|path| report(&path));
            let thread = std::thread::Builder::new().name("image-trash".into()).spawn(work);
            thread.ok().map(|thread| (sender, thread))
        });
        let refused = match worker {
            Some((sender, _)) => sender.send(path).err().map(|refused| refused.0),
            None => Some(path),
        };
        if let Some(path) = refused {
            report(&path);
        }
    }
}

fn report(path: &std::path::Path) {
    if let Err(error) = crate::layout::delete(path) {
        tracing::warn!(%error, "discarded files stay until the next start");
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(Some((sender, thread))) = self.worker.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

/// Deletes `name` in `parent`, whatever it is. Nothing there is fine.
///
/// Too deep sub-directories are parked in `parent` under [`unique`] names on the way.
pub(crate) fn delete_at(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut queue = vec![CString::new(name)?];
    while let Some(name) = queue.pop() {
        delete_tree(parent, name, &mut queue)?;
    }
    Ok(())
}

fn delete_tree(parent: BorrowedFd<'_>, name: CString, queue: &mut Vec<CString>) -> io::Result<()> {
    let mut stack = vec![(open(parent, &name)?, name)];
    loop {
        let deep = stack.len() >= MAX_OPEN;
        let Some((directory, _)) = stack.last_mut() else { return Ok(()) };
        let Some(entry) = directory.next() else {
            let Some((_, name)) = stack.pop() else { return Ok(()) };
            let above = match stack.last() {
                Some((directory, _)) => directory.fd()?,
                None => parent,
            };
            unlinkat(above, &name, AtFlags::REMOVEDIR)?;
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let here = directory.fd()?;
        if entry.file_type() != FileType::Directory {
            match unlinkat(here, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // A file system that does not tell types when listing.
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let name = name.to_owned();
        if deep {
            let parked = CString::new(unique())?;
            renameat(here, &name, parent, &parked)?;
            queue.push(parked);
            continue;
        }
        let child = open(here, &name)?;
        stack.push((child, name));
    }
}

fn open(parent: BorrowedFd<'_>, name: &CString) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Dir::new(openat(parent.as_fd(), name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkdirat};

    #[test]
    fn deletes_trees_deeper_than_any_path_and_touches_nothing_beside() {
        let place = tempfile::tempdir().expect("temporary directory");
        std::fs::write(place.path().join("canary"), "here").expect("written");
        let top = openat(CWD, place.path(), OFlags::DIRECTORY, Mode::empty()).expect("opened");
        mkdirat(&top, "deep", Mode::RWXU).expect("made");
        let mut current = openat(&top, "deep", OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            mkdirat(&current, "directory", Mode::RWXU).expect("made");
            rustix::fs::symlinkat("/", &current, "link").expect("made");
            current = openat(&current, "directory", OFlags::DIRECTORY, Mode::empty()).expect("opened");
        }
        delete_at(top.as_fd(), b"deep").expect("deleted");
        delete_at(top.as_fd(), b"deep").expect("nothing there is fine");
        let left: Vec<_> =
            std::fs::read_dir(place.path()).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(left, ["canary"]);
    }
}
