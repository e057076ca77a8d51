//! Owners, modes, times and extended attributes, set through descriptors or on the link itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr,
    flistxattr, fsetxattr, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;

use super::archive::{Entry, Kind};

/// Attributes that would make overlayfs show other files than the layer's own.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

pub(crate) fn owner(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Modification time as given; access time is left alone, nobody reads it.
pub(crate) fn times(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) },
    }
}

/// Everything but the time, on an open file or directory.
pub(crate) fn apply(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    // The owner first: changing it clears set-id bits and capabilities.
    let (uid, gid) = owner(entry.uid, entry.gid);
    fchown(file, uid, gid)?;
    fchmod(file, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        if !is_reserved(name) {
            tolerate(fsetxattr(file, name.as_slice(), value, XattrFlags::empty()))?;
        }
    }
    Ok(())
}

/// Everything, on a name that cannot be opened: a link, device or fifo just made.
pub(crate) fn apply_at(directory: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry.uid, entry.gid);
    chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if entry.kind != Kind::Symlink {
        // Safe without a no-follow flag: we made it, it is no link, and nobody else is here.
        chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    for (attribute, value) in &entry.xattrs {
        // The kernel keeps user attributes on files and directories only.
        if !is_reserved(attribute) && !attribute.starts_with(b"user.") {
            set_at(directory, name, attribute, value)?;
        }
    }
    Ok(utimensat(directory, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets an attribute of a directory entry itself. There is no call that takes a directory and a
/// name, so the directory is named through its descriptor; the entry is not followed.
fn set_at(directory: BorrowedFd<'_>, name: &[u8], attribute: &[u8], value: &[u8]) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    tolerate(lsetxattr(path.as_slice(), attribute, value, XattrFlags::empty()))
}

/// File systems differ in which attributes they keep; a missing one is not worth an image.
fn tolerate(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sets the modification time of an open file.
pub(crate) fn set_time(file: BorrowedFd<'_>, mtime: (i64, u32)) -> io::Result<()> {
    Ok(futimens(file, &times(mtime))?)
}

/// Copies owner, mode, extended attributes and time from one open file to another.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let (uid, gid) = owner(stat.st_uid, stat.st_gid);
    fchown(to, uid, gid)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in attribute_names(from)? {
        if is_reserved(&name) {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let length = match fgetxattr(from, name.as_slice(), value.as_mut_slice()) {
            Err(Errno::NODATA) => continue,
            other => other?,
        };
        tolerate(fsetxattr(to.as_fd(), name.as_slice(), &value[..length], XattrFlags::empty()))?;
    }
    set_time(to, (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
}

fn attribute_names(file: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0u8; 64 << 10];
    let length = match flistxattr(file, list.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}
