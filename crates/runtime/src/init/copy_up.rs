//! `tmpcopyup`: a tmpfs that starts with what the image has at its place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, openat, readlinkat, statat, symlinkat};

/// How deep a tree may be before it is refused.
const MAX_DEPTH: usize = 64;

/// Copies files, directories and links below `from` (an O_PATH directory) into `to`.
pub(super) fn copy(from: &OwnedFd, to: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = openat(from, ".", flags, Mode::empty())?;
    let to = openat(to, ".", flags, Mode::empty())?;
    let top = rustix::fs::fstat(&from)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(top.st_uid)), Some(Gid::from_raw(top.st_gid)))?;
    tree(from.as_fd(), to.as_fd(), 0)
}

fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("directories are nested more than {MAX_DEPTH} deep")));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let open = |directory, flags| openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode);
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                tree(open(from, flags)?.as_fd(), open(to, flags)?.as_fd(), depth + 1)?;
            }
            FileType::RegularFile => {
                let mut source = std::fs::File::from(open(from, OFlags::RDONLY)?);
                let mut target = std::fs::File::from(open(to, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?);
                io::copy(&mut source, &mut target)?;
            }
            FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?,
            // Devices and sockets of an image have no business in a tmpfs.
            _ => continue,
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            // After the owner, which takes set-user-ID bits away. Nobody else can reach the copy yet.
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}
