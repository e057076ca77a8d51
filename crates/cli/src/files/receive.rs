//! From an archive to files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, linkat, mkdirat,
    mkfifoat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

/// Where an archive goes.
#[derive(Debug)]
pub(crate) struct Receive<'a> {
    /// An existing directory.
    pub(crate) directory: &'a Path,
    /// What the archive's first name is.
    pub(crate) old: &'a str,
    /// What it is called here; as it is without.
    pub(crate) new: Option<&'a str>,
}

/// Unpacks an archive below a directory. Returns the bytes of files written.
///
/// Files belong to whoever does this. Directories are not replaced by anything else, nor the other way round. No
/// symbolic link is followed, whoever made it.
pub(crate) fn receive(input: impl Read, wish: &Receive<'_>) -> io::Result<u64> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, wish.directory, flags, Mode::empty())?;
    let mut archive = Archive::new(input);
    let (mut times, mut bytes) = (Vec::new(), 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = place(&entry.path_bytes(), wish)?;
        let Some(name) = path.file_name().map(ToOwned::to_owned) else { continue };
        let parent = directory(&top, path.parent().unwrap_or(Path::new("")))?;
        bytes += one(&mut entry, &top, parent.as_fd(), &name, wish)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        if entry.header().entry_type() == EntryType::Directory {
            times.push((path, entry.header().mtime().unwrap_or(0)));
        }
    }
    // Deepest last written, first set: making something in a directory changes its time.
    for (path, mtime) in times.iter().rev() {
        if let Ok(open) = directory(&top, path)
            && let Ok(open) = openat(&open, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        {
            let _ = futimens(open, &time(*mtime));
        }
    }
    Ok(bytes)
}

/// An entry's path below the destination. What would lead out of it is refused.
fn place(raw: &[u8], wish: &Receive<'_>) -> io::Result<PathBuf> {
    let raw = Path::new(std::ffi::OsStr::from_bytes(raw));
    let refused = || io::Error::other(format!("the archive names {:?}, which is outside of the destination", raw));
    let mut path = PathBuf::new();
    for part in raw.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    let Some(new) = wish.new else { return Ok(path) };
    let rest = match wish.old {
        "." | "/" => path.as_path(),
        old => path.strip_prefix(old).map_err(|_| refused())?,
    };
    let new = Path::new(new);
    Ok(if rest.as_os_str().is_empty() { new.to_owned() } else { new.join(rest) })
}

/// Opens a directory below `top` without following links, making what is missing.
fn directory(top: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    for _ in 0..64 {
        match openat2(top, path, flags, Mode::empty(), resolve) {
            Ok(open) => return Ok(open),
            Err(Errno::NOENT) => {
                let mut made = openat(top, ".", flags, Mode::empty())?;
                for part in path {
                    match mkdirat(&made, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    made = openat(&made, part, flags | OFlags::NOFOLLOW, Mode::empty())?;
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::LOOP) => {
                return Err(io::Error::other(format!("refused: a symbolic link is on the way to {}", path.display())));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::AGAIN.into())
}

fn one(
    entry: &mut Entry<'_, impl Read>,
    top: &OwnedFd,
    parent: impl AsFd,
    name: &std::ffi::OsStr,
    wish: &Receive<'_>,
) -> io::Result<u64> {
    let kind = entry.header().entry_type();
    let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
    let mtime = entry.header().mtime().unwrap_or(0);
    make_room(&parent, name, kind == EntryType::Directory)?;
    match kind {
        EntryType::Directory => {
            match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fchmod(openat(&parent, name, flags, Mode::empty())?, mode)?;
            Ok(0)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&parent, name, flags, Mode::from_raw_mode(0o600))?);
            let bytes = io::copy(entry, &mut file)?;
            fchmod(&file, mode)?;
            futimens(&file, &time(mtime))?;
            Ok(bytes)
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link to nothing"))?;
            let target = place(&target, wish)?;
            let last = target.file_name().ok_or_else(|| io::Error::other("a link to a directory"))?;
            let holder = directory(top, target.parent().unwrap_or(Path::new("")))?;
            linkat(&holder, last, &parent, name, AtFlags::empty())?;
            Ok(0)
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link to nothing"))?;
            symlinkat(target.as_ref(), &parent, name)?;
            let _ = utimensat(&parent, name, &time(mtime), AtFlags::SYMLINK_NOFOLLOW);
            Ok(0)
        }
        EntryType::Fifo => {
            mkfifoat(&parent, name, mode)?;
            Ok(0)
        }
        // Devices are root's to make, and of no use outside of the container.
        EntryType::Char | EntryType::Block => Ok(0),
        other => Err(io::Error::other(format!("unknown kind of entry {other:?}"))),
    }
}

/// Removes what has the name, but never trades a directory for something else.
fn make_room(parent: impl AsFd, name: &std::ffi::OsStr, directory: bool) -> io::Result<()> {
    let there = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => FileType::from_raw_mode(other?.st_mode) == FileType::Directory,
    };
    match (there, directory) {
        (true, true) => Ok(()),
        (true, false) => Err(io::Error::other("cannot overwrite directory with non-directory")),
        (false, true) => Err(io::Error::other("cannot overwrite non-directory with directory")),
        (false, false) => Ok(unlinkat(&parent, name, AtFlags::empty())?),
    }
}

fn time(seconds: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            // Written by hand: the builder would refuse names that lead out.
            let field = header.as_old_mut();
            field.name[..name.len()].copy_from_slice(name.as_bytes());
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                field.linkname[..text.len()].copy_from_slice(text.as_bytes());
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
                continue;
            }
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_a_daemon_sends_stays_below_the_destination() {
        let dir = tempfile::tempdir().unwrap();
        let (out, outside) = (dir.path().join("out"), dir.path().join("outside"));
        fs::create_dir(&out).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "alive").unwrap();
        symlink(&outside, out.join("mine")).unwrap();
        let text = outside.to_str().unwrap();
        use EntryType::{Link, Regular, Symlink};
        let into = |new| Receive { directory: &out, old: "d", new };
        for entries in [
            vec![(Regular, "../outside/canary", "dead")],
            vec![(Symlink, "d", text), (Regular, "d/canary", "dead")],
            vec![(Regular, "mine/canary", "dead")],
            vec![(Link, "hard", "../outside/canary"), (Regular, "hard", "dead")],
        ] {
            assert!(receive(archive(&entries).as_slice(), &into(None)).is_err(), "{entries:?}");
        }
        let absolute = archive(&[(Regular, "/outside/canary", "inside")]);
        receive(absolute.as_slice(), &into(None)).unwrap();
        assert_eq!(fs::read_to_string(out.join("outside/canary")).unwrap(), "inside");
        assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
    }

    #[test]
    fn the_first_name_changes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            (EntryType::Directory, "d/", ""),
            (EntryType::Regular, "d/d", "1"),
            (EntryType::Link, "d/e", "d/d"),
        ]);
        let wish = Receive { directory: dir.path(), old: "d", new: Some("new") };
        assert_eq!(receive(bytes.as_slice(), &wish).unwrap(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("new/e")).unwrap(), "1");
        let wish = Receive { directory: dir.path(), old: ".", new: Some("more") };
        receive(archive(&[(EntryType::Regular, "./x", "2")]).as_slice(), &wish).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("more/x")).unwrap(), "2");
    }
}
