//! What a writable layer changes in those below it.
//!
//! overlayfs copies what is written to up into the writable layer, so only that one is gone through; the layers below
//! tell what was there before. The container may go on writing meanwhile: what vanishes is left out.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Stat, fgetxattr, fstat};
use rustix::io::Errno;

use super::inherit::{Shown, is_opaque, lookup, top};
use super::tree::{is_whiteout, look, open_directory, open_root};

/// Deepest directory, as for layers that are unpacked.
const MAX_DEPTH: usize = 256;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is different, or something in it is.
    Modified,
    /// It was not there.
    Added,
    /// It is not there any more.
    Deleted,
}

/// One change, where it was found.
pub(crate) struct Found<'a> {
    pub(crate) kind: ChangeKind,
    /// From the root, without a slash in front; empty for the root itself.
    pub(crate) path: &'a [u8],
    /// The directory of the writable layer and the name in it; nothing is there when it was deleted.
    pub(crate) parent: BorrowedFd<'a>,
    pub(crate) name: &'a [u8],
}

/// What the engine itself puts into every container's writable layer.
const OWN: [&[u8]; 10] = [
    b".dockerenv",
    b"dev",
    b"dev/console",
    b"dev/pts",
    b"dev/shm",
    b"etc",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/resolv.conf",
    b"proc",
];
const OWN_MORE: [&[u8]; 4] = [b"sys", b"etc/mtab", b"dev/mqueue", b"sys/fs"];

struct Level {
    upper: OwnedFd,
    /// The same directory in the layers below, topmost first.
    below: Vec<OwnedFd>,
    /// Nothing from below shows through.
    opaque: bool,
    path: Vec<u8>,
    /// Told already, as changed.
    told: bool,
    /// Names to go through, in order.
    names: std::vec::IntoIter<Vec<u8>>,
}

/// Goes through the writable layer in `upper`, with those in `below` (topmost first). Directories come before what
/// is in them, names in order.
pub(crate) fn changes(
    upper: &Path,
    below: &[&Path],
    mut tell: impl FnMut(&Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let roots = below.iter().map(|path| open_root(path)).collect::<io::Result<Vec<_>>>()?;
    let upper = open_root(upper)?;
    let opaque = is_opaque(upper.as_fd())?;
    let first = level(upper, top(&roots)?, opaque, Vec::new(), true)?;
    if let Some(lower) = first.below.first()
        && differ(&fstat(lower)?, &fstat(&first.upper)?)
    {
        tell(&Found { kind: ChangeKind::Modified, path: b"", parent: first.upper.as_fd(), name: b"." })?;
    }
    let mut levels = vec![first];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        let path = join(&level.path, &name);
        let Some((kind, deeper)) = compare(level, &name, &path)? else { continue };
        if let Some(kind) = kind {
            tell_parents(&mut levels, &mut tell)?;
            let parent = levels.last().map(|level| level.upper.as_fd());
            if let Some(parent) = parent {
                tell(&Found { kind, path: &path, parent, name: &name })?;
            }
        }
        if let Some((directory, below, opaque)) = deeper {
            if levels.len() >= MAX_DEPTH {
                return Err(io::Error::other("directories are nested too deeply"));
            }
            levels.push(self::level(directory, below, opaque, path, kind.is_some())?);
        }
    }
    Ok(())
}

/// A directory to go on with: it, those below it, whether it hides them.
type Deeper = (OwnedFd, Vec<OwnedFd>, bool);

/// What became of `name`; `None` when there is nothing to say and nothing below.
fn compare(level: &Level, name: &[u8], path: &[u8]) -> io::Result<Option<(Option<ChangeKind>, Option<Deeper>)>> {
    let below = lookup(&level.below, name)?;
    let gone = |shown: &Shown| !matches!(shown, Shown::Nothing);
    let stat = match look(level.upper.as_fd(), name)? {
        Some(stat) if !is_whiteout(&stat) => stat,
        // Listed from below, or deleted.
        found => {
            let deleted = gone(&below) && (found.is_some() || level.opaque);
            return Ok(deleted.then_some((Some(ChangeKind::Deleted), None)));
        }
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let kind = match &below {
            Shown::Nothing if is_own(path, &stat) => None,
            Shown::Nothing => Some(ChangeKind::Added),
            Shown::Directory(_) => Some(ChangeKind::Modified),
            Shown::Other(holder) => match look(holder.as_fd(), name)? {
                Some(before) if !file_differs(&before, &stat) && !capability_differs(holder, level, name)? => None,
                _ => Some(ChangeKind::Modified),
            },
        };
        return Ok(kind.map(|kind| (Some(kind), None)));
    }
    let directory = match open_directory(level.upper.as_fd(), name) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let opaque = level.opaque || is_opaque(directory.as_fd())?;
    Ok(Some(match below {
        Shown::Nothing if is_own(path, &stat) => (None, Some((directory, Vec::new(), opaque))),
        Shown::Nothing => (Some(ChangeKind::Added), Some((directory, Vec::new(), opaque))),
        Shown::Other(_) => (Some(ChangeKind::Modified), Some((directory, Vec::new(), opaque))),
        Shown::Directory(stack) => {
            let before = stack.first().map(fstat).transpose()?;
            let changed = before.is_some_and(|before| differ(&before, &stat));
            (changed.then_some(ChangeKind::Modified), Some((directory, stack, opaque)))
        }
    }))
}

/// A directory in which something changed has changed itself.
fn tell_parents(levels: &mut [Level], tell: &mut impl FnMut(&Found<'_>) -> io::Result<()>) -> io::Result<()> {
    for at in 1..levels.len() {
        if levels[at].told {
            continue;
        }
        levels[at].told = true;
        let (above, rest) = levels.split_at(at);
        let (parent, path) = (&above[at - 1], &rest[0].path);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let kind = if rest[0].below.is_empty() { ChangeKind::Added } else { ChangeKind::Modified };
        tell(&Found { kind, path, parent: parent.upper.as_fd(), name })?;
    }
    Ok(())
}

fn level(upper: OwnedFd, below: Vec<OwnedFd>, opaque: bool, path: Vec<u8>, told: bool) -> io::Result<Level> {
    let mut names = names(&upper)?;
    if opaque {
        // What is hidden was deleted.
        for directory in &below {
            names.append(&mut self::names(directory)?);
        }
    }
    let names = names.into_iter().collect::<Vec<_>>().into_iter();
    Ok(Level { upper, below, opaque, path, told, names })
}

fn names(directory: &OwnedFd) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Mode, owner or device differ. Times and sizes of directories say nothing.
fn differ(before: &Stat, after: &Stat) -> bool {
    (before.st_mode, before.st_uid, before.st_gid, before.st_rdev)
        != (after.st_mode, after.st_uid, after.st_gid, after.st_rdev)
}

fn file_differs(before: &Stat, after: &Stat) -> bool {
    differ(before, after)
        || (before.st_size, before.st_mtime, before.st_mtime_nsec)
            != (after.st_size, after.st_mtime, after.st_mtime_nsec)
}

fn capability_differs(holder: &OwnedFd, level: &Level, name: &[u8]) -> io::Result<bool> {
    let read = |directory: BorrowedFd<'_>| -> io::Result<Vec<u8>> {
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Ok(Vec::new());
        }
        let file = crate::transfer::reopen(file.as_fd())?;
        let mut value = vec![0u8; 256];
        match fgetxattr(&file, "security.capability", value.as_mut_slice()) {
            Ok(length) => value.truncate(length),
            Err(_) => value.clear(),
        }
        Ok(value)
    };
    match (read(holder.as_fd()), read(level.upper.as_fd())) {
        (Ok(before), Ok(after)) => Ok(before != after),
        _ => Ok(true),
    }
}

/// A mount point or marker that the engine made, empty as it left it.
fn is_own(path: &[u8], stat: &Stat) -> bool {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    (OWN.contains(&path) || OWN_MORE.contains(&path)) && (directory || stat.st_size == 0 || path == b"etc/mtab")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, Mode, XattrFlags, mknodat, setxattr};

    use super::*;

    #[test]
    fn every_kind_of_change() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("made");
        let (upper, base, mid) = (dir.path().join("u"), dir.path().join("b"), dir.path().join("m"));
        for path in ["b/etc", "b/gone", "b/hidden/sub", "b/same", "m/mid", "b/was-dir/x"] {
            fs::create_dir_all(dir.path().join(path)).expect("made");
        }
        for path in ["b/etc/passwd", "b/etc/group", "b/gone/x", "b/hidden/old", "b/hidden/sub/old", "b/was-file"] {
            fs::write(dir.path().join(path), "1").expect("written");
        }
        for path in ["u/etc", "u/hidden/sub", "u/same", "u/new/deep", "u/was-file", "u/dev/pts", "u/mid"] {
            fs::create_dir_all(dir.path().join(path)).expect("made");
        }
        for path in ["u/etc/passwd", "u/hidden/fresh", "u/new/deep/file", "u/was-dir"] {
            fs::write(dir.path().join(path), "22").expect("written");
        }
        for path in ["u/.dockerenv", "u/etc/hosts"] {
            fs::write(dir.path().join(path), "").expect("written");
        }
        fs::copy(base.join("etc/group"), upper.join("etc/group")).expect("copied");
        let time = fs::metadata(base.join("etc/group")).expect("there").modified().expect("known");
        fs::File::options().write(true).open(upper.join("etc/group")).expect("opened").set_modified(time).expect("set");
        fs::set_permissions(upper.join("mid"), fs::Permissions::from_mode(0o700)).expect("set");
        let whiteout = |path: &Path| mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).expect("made");
        whiteout(&upper.join("gone"));
        whiteout(&upper.join("never-was"));
        setxattr(upper.join("hidden"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).expect("set");
        let mut told = Vec::new();
        let tell = |found: &Found<'_>| {
            let letter = ["C", "A", "D"][found.kind as usize];
            told.push(format!("{letter} /{}", String::from_utf8_lossy(found.path)));
            Ok(())
        };
        changes(&upper, &[&mid, &base], tell).expect("read");
        let want = "C /etc, C /etc/passwd, D /gone, C /hidden, A /hidden/fresh, D /hidden/old, C /hidden/sub, D /hidden/sub/old, C /mid, A /new, A /new/deep, A /new/deep/file, C /was-dir, C /was-file";
        assert_eq!(told.join(", "), want);
    }
}
