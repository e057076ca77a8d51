//! What a layer takes from the layers below it.
//!
//! Layers are unpacked side by side, each into a directory of its own. Two things can only be
//! filled in when those below are complete: the attributes of directories that the archive
//! implies without describing (in overlayfs the upper directory's attributes are the ones seen),
//! and hard links to files of lower layers, which become copies.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fgetxattr, major, makedev, minor, mknodat, openat, readlinkat, symlinkat};
use rustix::io::Errno;

use super::Fault;
use super::archive::{Entry, Kind};
use super::attributes;
use super::tree::{OPAQUE, Tree, is_whiteout, look, open_directory, open_root};

/// What is still to be filled in.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// The root has no entry.
    pub(crate) root: bool,
    /// Real paths of implied directories.
    pub(crate) directories: BTreeSet<Vec<u8>>,
    /// Hard links whose target is not in the layer.
    pub(crate) links: Vec<MissingLink>,
}

/// A hard link to a file that is not in the layer.
#[derive(Debug)]
pub(crate) struct MissingLink {
    /// Where the link goes.
    pub(crate) path: Vec<u8>,
    /// What it names.
    pub(crate) target: Vec<u8>,
}

/// Completes the layer in `directory` from the complete ones in `below`, topmost first.
/// Returns the bytes of data copied.
pub(crate) fn finish(directory: &Path, missing: &Missing, below: &[&Path]) -> Result<u64, Fault> {
    if below.is_empty() && missing.links.is_empty() {
        return Ok(0);
    }
    let failed = |source| Fault::Write { path: "/".into(), source };
    let mut tree = Tree::new(directory).map_err(failed)?;
    let mut roots = Vec::with_capacity(below.len());
    for path in below {
        roots.push(open_root(path).map_err(failed)?);
    }
    let mut copied = 0;
    for link in &missing.links {
        copied += copy_link(&mut tree, &roots, link)?;
    }
    // Deepest first: making something in a directory changes its time.
    for path in missing.directories.iter().rev() {
        let wrote = |source| Fault::write(path, source);
        let Some(place) = tree.existing(path)?.filter(|place| place.path() == path.as_slice()) else {
            continue;
        };
        if let Some(source) = find_directory(&roots, path).map_err(wrote)? {
            attributes::copy(source.as_fd(), place.fd()).map_err(wrote)?;
        }
    }
    if missing.root
        && let Some(root) = roots.first()
    {
        attributes::copy(root.as_fd(), tree.root()).map_err(failed)?;
    }
    Ok(copied)
}

/// What the stack shows under one name of a directory that is itself a stack.
pub(super) enum Shown {
    Nothing,
    /// A directory, merged from these, topmost first.
    Directory(Vec<OwnedFd>),
    /// Anything else, in this directory.
    Other(OwnedFd),
}

/// Looks `name` up in a stack of directories as overlayfs does.
pub(super) fn lookup(stack: &[OwnedFd], name: &[u8]) -> io::Result<Shown> {
    let mut merged = Vec::new();
    for directory in stack {
        let Some(stat) = look(directory.as_fd(), name)? else { continue };
        if is_whiteout(&stat) {
            break;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if merged.is_empty() {
                return Ok(Shown::Other(directory.try_clone()?));
            }
            break;
        }
        let found = open_directory(directory.as_fd(), name)?;
        let opaque = is_opaque(found.as_fd())?;
        merged.push(found);
        if opaque {
            break;
        }
    }
    Ok(if merged.is_empty() { Shown::Nothing } else { Shown::Directory(merged) })
}

pub(super) fn is_opaque(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0u8; 8];
    match fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The roots, down to one that hides those below it.
pub(super) fn top(roots: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    let mut stack = Vec::new();
    for root in roots {
        stack.push(root.try_clone()?);
        if is_opaque(root.as_fd())? {
            break;
        }
    }
    Ok(stack)
}

fn find_directory(roots: &[OwnedFd], path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let mut stack = top(roots)?;
    for name in path.split(|&byte| byte == b'/') {
        match lookup(&stack, name)? {
            Shown::Directory(next) => stack = next,
            // A link or a file below: the layer's own directory takes its place.
            _ => return Ok(None),
        }
    }
    Ok(stack.into_iter().next())
}

/// Copies the target of a hard link out of the layers below.
fn copy_link(tree: &mut Tree, roots: &[OwnedFd], link: &MissingLink) -> Result<u64, Fault> {
    let wrote = |source| Fault::write(&link.path, source);
    let missing = || Fault::refused(&link.path, "the target of the hard link does not exist");
    let (parent, name) = match link.path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&link.path[..slash], &link.path[slash + 1..]),
        None => (&b""[..], &link.path[..]),
    };
    let Some(place) = tree.existing(parent)? else { return Ok(0) };
    if look(place.fd(), name).map_err(wrote)?.is_some() {
        // A later entry took the name.
        return Ok(0);
    }
    let mut stack = top(roots).map_err(wrote)?;
    let mut components: Vec<&[u8]> = link.target.split(|&byte| byte == b'/').collect();
    let last = components.pop().ok_or_else(missing)?;
    for component in components {
        match lookup(&stack, component).map_err(wrote)? {
            Shown::Directory(next) => stack = next,
            _ => return Err(missing()),
        }
    }
    let Shown::Other(source) = lookup(&stack, last).map_err(wrote)? else { return Err(missing()) };
    copy_file(source.as_fd(), last, place.fd(), name).map_err(wrote)
}

fn copy_file(from: BorrowedFd<'_>, source: &[u8], into: BorrowedFd<'_>, name: &[u8]) -> io::Result<u64> {
    let Some(stat) = look(from, source)? else { return Err(Errno::NOENT.into()) };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::RegularFile {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut input = std::fs::File::from(openat(from, source, read, Mode::empty())?);
        let mut output = std::fs::File::from(openat(into, name, write, Mode::from_raw_mode(0o600))?);
        let copied = io::copy(&mut input, &mut output)?;
        attributes::copy(input.as_fd(), output.as_fd())?;
        return Ok(copied);
    }
    let entry_kind = match kind {
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => Kind::Fifo,
    };
    if kind == FileType::Symlink {
        symlinkat(&readlinkat(from, source, Vec::new())?, into, name)?;
    } else {
        let device = makedev(major(stat.st_rdev), minor(stat.st_rdev));
        mknodat(into, name, kind, Mode::from_raw_mode(0o600), device)?;
    }
    let entry = Entry {
        path: name.to_vec(),
        link: Vec::new(),
        kind: entry_kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        size: 0,
        device: (0, 0),
        xattrs: Vec::new(),
        regions: None,
    };
    attributes::apply_at(into, name, &entry)?;
    Ok(0)
}
