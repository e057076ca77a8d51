//! Copying trees that somebody hostile may have made, or may be changing meanwhile.
//!
//! Everything is done through descriptors and nothing is followed: what is copied lies below `from`, what is written
//! lies below `to`. Blocks are shared where the file system can (FICLONE), holes stay holes.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use budu_sys::rooted::Root;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    copy_file_range, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, futimens, ioctl_ficlone,
    linkat, mkdirat, mknodat, openat, readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

/// How deep a tree may be: each level costs two descriptors.
const MAX_DEPTH: usize = 400;

/// A directory on the way: what is still to be copied of it, and where to.
struct Frame {
    from: Dir,
    to: OwnedFd,
    stat: Stat,
    /// Below the root of the copy.
    path: PathBuf,
}

/// Copies all that lies in the directory `from` into the directory `to`, which gets its owner, mode and times.
///
/// # Errors
/// What a system call says; what was copied until then stays.
pub(crate) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let first =
        frame(openat(from, ".", flags, Mode::empty())?, openat(to, ".", flags, Mode::empty())?, PathBuf::new())?;
    let root = Root::new(openat(to, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    let mut links = HashMap::new();
    let mut open = vec![first];
    while let Some(frame) = open.last_mut() {
        let Some(entry) = frame.from.next() else {
            // Last, as every entry changed them.
            futimens(&frame.to, &times(&frame.stat))?;
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if let Some(below) = one(frame, name, &root, &mut links)? {
            if open.len() == MAX_DEPTH {
                return Err(io::Error::other(format!("directories are nested more than {MAX_DEPTH} deep")));
            }
            open.push(below);
        }
    }
    Ok(())
}

/// Opens a directory for its entries; the copy looks like it from now on.
fn frame(from: OwnedFd, to: OwnedFd, path: PathBuf) -> io::Result<Frame> {
    let stat = fstat(&from)?;
    own(&to, &stat)?;
    attributes(from.as_fd(), to.as_fd())?;
    Ok(Frame { from: Dir::new(from)?, to, stat, path })
}

/// Copies one entry; a directory is entered instead.
fn one(frame: &Frame, name: &CStr, root: &Root, links: &mut HashMap<(u64, u64), PathBuf>) -> io::Result<Option<Frame>> {
    let (from, to) = (frame.from.fd()?, frame.to.as_fd());
    let stat = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
        // It was deleted meanwhile.
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let path = frame.path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty())?;
        mkdirat(to, name, Mode::RWXU)?;
        return self::frame(source, openat(to, name, flags, Mode::empty())?, path).map(Some);
    }
    if stat.st_nlink > 1 {
        if let Some(earlier) = links.get(&(stat.st_dev, stat.st_ino)) {
            return link(root, earlier, to, name).map(|()| None);
        }
        links.insert((stat.st_dev, stat.st_ino), path);
    }
    match kind {
        FileType::RegularFile => file(from, to, name)?,
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => special(to, name, kind, &stat)?,
    }
    Ok(None)
}

/// A further name of a file that was copied already.
fn link(root: &Root, earlier: &Path, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let parent = root.open(earlier.parent().unwrap_or(Path::new("")), OFlags::DIRECTORY)?;
    let base = CString::new(earlier.file_name().unwrap_or_default().as_bytes())?;
    Ok(linkat(&parent, &base, to, name, AtFlags::empty())?)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // Should it have become a pipe meanwhile, nobody waits for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = File::from(openat(from, name, flags, Mode::empty())?);
    let stat = fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    contents(&source, &copy, u64::try_from(stat.st_size).unwrap_or(0))?;
    own(&copy, &stat)?;
    attributes(source.as_fd(), copy.as_fd())?;
    Ok(futimens(&copy, &times(&stat))?)
}

/// Copies the data of a file, and its holes as holes.
pub(crate) fn contents(from: &File, to: &File, size: u64) -> io::Result<()> {
    if size == 0 || ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            // A file system that does not know holes.
            Err(_) => at,
        };
        let end = seek(from, SeekFrom::Hole(start)).unwrap_or(size).clamp(start, size.max(start));
        range(from, to, start, end)?;
        at = end.max(start + 1);
    }
    Ok(ftruncate(to, size)?)
}

fn range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut reading, mut writing) = (start, start);
    while reading < end {
        let length = usize::try_from(end - reading).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut reading), to, Some(&mut writing), length) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Not between these two file systems.
            Err(_) => break,
        }
    }
    let mut buffer = vec![0; 128 << 10];
    while reading < end {
        let wanted = usize::try_from(end - reading).unwrap_or(usize::MAX).min(buffer.len());
        match from.read_at(&mut buffer[..wanted], reading)? {
            0 => return Ok(()),
            n => {
                to.write_all_at(&buffer[..n], reading)?;
                reading += n as u64;
            }
        }
    }
    Ok(())
}

fn special(to: BorrowedFd<'_>, name: &CStr, kind: FileType, stat: &Stat) -> io::Result<()> {
    mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    let made = openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&made)?.st_mode) != kind {
        return Err(Errno::LOOP.into());
    }
    // The one way to change the mode of a file that must not be opened.
    rustix::fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Owner and mode; the mode second, as a new owner takes set-user-ID bits away.
fn own(copy: impl AsFd, stat: &Stat) -> io::Result<()> {
    fchown(&copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    Ok(fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

/// Extended attributes, where both sides have them.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0u8; 4096];
    let length = match flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    for name in names[..length].split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // Labels are the host's to give.
        if name.to_bytes() == b"security.selinux" || name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let Ok(length) = fgetxattr(from, name, &mut value[..]) else { continue };
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let spec = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos.try_into().unwrap_or(0) };
    Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sums the sizes of all files below a directory, each file once, as Docker does.
pub(crate) fn size(directory: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut total, mut seen) = (0u64, HashSet::new());
    let mut open = vec![Dir::new(openat(CWD, directory, flags, Mode::empty())?)?];
    while let Some(current) = open.last_mut() {
        let Some(entry) = current.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let parent = current.fd()?;
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match openat(parent, name, flags, Mode::empty()) {
                Ok(below) => open.push(Dir::new(below)?),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e.into()),
            }
        } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            total += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_copy_is_the_same_but_for_its_inodes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), b"text").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("sub/file"), from.join("again")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"end", 5 << 20).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();
        rustix::fs::utimensat(CWD, &from, &times_of(77), AtFlags::empty()).unwrap();

        tree(open(&from).as_fd(), open(&to).as_fd()).unwrap();

        let meta = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"text");
        assert_eq!(meta("sub/file").mode() & 0o7777, 0o4751);
        assert_eq!((meta("again").ino(), meta("again").nlink()), (meta("sub/file").ino(), 2));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(meta("pipe").mode(), 0o010_640);
        assert_eq!(meta("sparse").len(), (5 << 20) + 3);
        assert!(meta("sparse").blocks() < 1024, "the hole was filled");
        assert_eq!((meta("").mode() & 0o7777, meta("").mtime()), (0o1777, 77));
        assert_eq!(size(&to).unwrap(), 4 + 11 + (5 << 20) + 3);
    }

    fn times_of(seconds: i64) -> Timestamps {
        let spec = Timespec { tv_sec: seconds, tv_nsec: 0 };
        Timestamps { last_access: spec, last_modification: spec }
    }

    #[test]
    fn nothing_that_is_there_is_overwritten_or_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), b"text").unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink(dir.path().join("outside"), to.join("sub")).unwrap();
        assert!(tree(open(&from).as_fd(), open(&to).as_fd()).is_err());
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
    }
}
