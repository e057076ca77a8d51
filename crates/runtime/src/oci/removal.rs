//! The end of a container's directory.
//!
//! Other files may be mounted in it: a restoration has the root file system
//! there for CRIU, and one that is killed leaves it. Those are not the
//! container's state, so they are let go, and never entered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::init::unescape;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a directory and what is in it. One that is gone is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // The kernel's table of mounts knows no links.
    let path = match std::fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
    let parent = openat(CWD, parent, DIRECTORY, Mode::empty())?;
    match remove_tree(parent.as_fd(), name) {
        // Only now is the table of mounts worth reading, which takes longer than all of this.
        Err(Errno::XDEV | Errno::BUSY) => {
            let below: Vec<PathBuf> = mounts()?.into_iter().map(|mount| mount.point).collect();
            detach(below.into_iter().filter(|point| *point != path && point.starts_with(&path)))?;
            Ok(remove_tree(parent.as_fd(), name)?)
        }
        other => Ok(other?),
    }
}

/// Unmounts what is mounted at `points`, outermost first, and below them; what they show stays as it is.
pub(super) fn detach(points: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    let points: Vec<PathBuf> = points.collect();
    for point in &points {
        // Else what is mounted inside the original would go with its copy, where both are shared.
        let _ = mount_change(point, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
    }
    for point in points.iter().rev() {
        match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It went with one that it was mounted on.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// A line of mountinfo.
pub(super) struct Mounted {
    pub(super) id: u64,
    pub(super) point: PathBuf,
}

/// All mounts of this mount namespace; those that others are mounted on come first.
pub(super) fn mounts() -> io::Result<Vec<Mounted>> {
    let table = budu_sys::mount::table()?;
    let line = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        Some(Mounted { id, point: PathBuf::from(OsString::from_vec(unescape(fields.nth(3)?))) })
    };
    Ok(table.split(|&byte| byte == b'\n').filter_map(line).collect())
}

/// Removes a directory, but enters none on which something is mounted.
fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let here = match openat2(parent, name, DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    // Listed first: what is removed on the way does not move the place of the next one.
    let entries = Dir::read_from(&here)?.collect::<rustix::io::Result<Vec<_>>>()?;
    for name in entries.iter().map(|entry| entry.file_name()).filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        match unlinkat(&here, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => remove_tree(here.as_fd(), OsStr::from_bytes(name.to_bytes()))?,
            Err(e) => return Err(e),
        }
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
