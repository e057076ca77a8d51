//! An archive's entries, written into a [`Tree`] as overlayfs wants them.

use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ftruncate, linkat, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

use super::archive::{Archive, Entry, Kind};
use super::inherit::{Missing, MissingLink};
use super::tree::{Place, Tree, is_whiteout, look, open_directory, set_opaque};
use super::{Fault, attributes};

/// Begins the name of a file that deletes the one named after it from the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// In a directory: nothing of it shows through from below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs kept for itself in old layers.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.plnk", b".wh..wh.orph"];

/// An unpacked layer that may still lack what it takes from the layers below.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Bytes of file data.
    pub(crate) size: u64,
    /// Hides everything below its root.
    pub(crate) opaque: bool,
    /// What [`super::inherit::finish`] fills in.
    pub(crate) missing: Missing,
}

struct Unpack {
    tree: Tree,
    size: u64,
    opaque: bool,
    links: Vec<MissingLink>,
    /// Directories' real paths and times, set last: every entry made inside changes the time.
    times: Vec<(Vec<u8>, (i64, u32))>,
}

/// Reads the archive to its end marker and fills the existing directory `into`.
/// Gives back the input, which may go on.
pub(crate) fn unpack<R: BufRead>(input: R, into: &Path) -> Result<(Unpacked, R), Fault> {
    let failed = |source| Fault::Write { path: "/".into(), source };
    let tree = Tree::new(into).map_err(failed)?;
    let mut unpack = Unpack { tree, size: 0, opaque: false, links: Vec::new(), times: Vec::new() };
    let mut archive = Archive::new(input);
    while let Some(entry) = archive.next()? {
        unpack.entry(&entry, &mut archive)?;
    }
    unpack.set_times()?;
    let Unpack { tree, size, opaque, links, .. } = unpack;
    let missing = Missing { root: tree.root_implied, directories: tree.implied, links };
    Ok((Unpacked { size, opaque, missing }, archive.into_input()))
}

/// A name as components joined by `/`: relative, without `.` and empty ones, `..` worked out.
/// A leading `/` means the layer's root; one that climbs above it is refused.
pub(crate) fn normal(path: &[u8], what: &str) -> Result<Vec<u8>, Fault> {
    if path.len() > 4096 {
        return Err(Fault::refused(path, format!("{what} is longer than 4096 bytes")));
    }
    if path.contains(&0) {
        return Err(Fault::refused(path, format!("{what} holds a NUL")));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() {
                    return Err(Fault::refused(path, format!("{what} climbs out of the layer")));
                }
            }
            name => components.push(name),
        }
    }
    Ok(components.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl Unpack {
    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<(), Fault> {
        let path = normal(&entry.path, "its name")?;
        if path.is_empty() {
            return self.root(entry);
        }
        let (parent, name) = split(&path);
        if parent.split(|&byte| byte == b'/').chain([name]).any(|part| AUFS.contains(&part)) {
            return Ok(());
        }
        if parent.split(|&byte| byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(Fault::refused(&path, "it lies inside a whiteout"));
        }
        if name == OPAQUE {
            return self.hide_below(parent);
        }
        let place = self.tree.directory(parent)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&place, hidden, &path);
        }
        match entry.kind {
            Kind::Directory => self.directory(&place, name, entry),
            Kind::File => self.file(&place, name, entry, archive),
            Kind::HardLink => self.hard_link(&place, name, entry),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(Fault::refused(&path, "a symbolic link to nothing"));
                }
                self.make(&place, name, |at| symlinkat(entry.link.as_slice(), at.fd(), name))?;
                attributes::apply_at(place.fd(), name, entry).map_err(|e| Fault::write(&path, e))
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                let mode = Mode::from_raw_mode(0o600);
                self.make(&place, name, |at| mknodat(at.fd(), name, kind, mode, device))?;
                attributes::apply_at(place.fd(), name, entry).map_err(|e| Fault::write(&path, e))
            }
        }
    }

    /// The entry for the layer's own root: never replaced, only described.
    fn root(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != Kind::Directory {
            return Err(Fault::refused(&entry.path, "only a directory can be the root"));
        }
        self.tree.root_implied = false;
        self.times.push((Vec::new(), entry.mtime));
        attributes::apply(self.tree.root(), entry).map_err(|source| Fault::write(b"/", source))
    }

    /// Runs `create`; when something has the name already it is removed first.
    fn make<T>(
        &mut self,
        place: &Place,
        name: &[u8],
        create: impl Fn(&Place) -> rustix::io::Result<T>,
    ) -> Result<T, Fault> {
        let made = match create(place) {
            Err(Errno::EXIST) => {
                let path = place.path_of(name);
                self.tree.remove(place, name).map_err(|source| Fault::write(&path, source))?;
                create(place)
            }
            other => other,
        };
        made.map_err(|source| Fault::write(&place.path_of(name), source))
    }

    fn directory(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let path = place.path_of(name);
        let failed = |source: io::Error| Fault::write(&path, source);
        let mut hides = false;
        match mkdirat(place.fd(), name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => match look(place.fd(), name).map_err(failed)? {
                // The same directory again, or one that was implied: described anew.
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                there => {
                    // Deleted below and made again: what was below stays deleted.
                    hides = there.is_some_and(|stat| is_whiteout(&stat));
                    self.tree.remove(place, name).map_err(failed)?;
                    mkdirat(place.fd(), name, Mode::from_raw_mode(0o700)).map_err(|e| failed(e.into()))?;
                }
            },
            Err(error) => return Err(failed(error.into())),
        }
        let directory = open_directory(place.fd(), name).map_err(|error| failed(error.into()))?;
        if hides {
            set_opaque(directory.as_fd()).map_err(failed)?;
        }
        self.tree.implied.remove(&path);
        attributes::apply(directory.as_fd(), entry).map_err(failed)?;
        self.times.push((path, entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        place: &Place,
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), Fault> {
        let path = place.path_of(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(place, name, |at| openat(at.fd(), name, flags, Mode::from_raw_mode(0o600)))?;
        let failed = |source: io::Error| Fault::write(&path, source);
        match &entry.regions {
            None => {
                let write = |chunk: &[u8]| write_all(&file, chunk);
                archive.copy(entry.size, write, &path)?;
            }
            Some(regions) => {
                ftruncate(&file, entry.size).map_err(|error| failed(error.into()))?;
                for &(offset, length) in regions {
                    let mut at = offset;
                    let write = |chunk: &[u8]| {
                        write_all_at(&file, chunk, at)?;
                        at += chunk.len() as u64;
                        Ok(())
                    };
                    archive.copy(length, write, &path)?;
                }
            }
        }
        self.size += entry.size;
        attributes::apply(file.as_fd(), entry).map_err(failed)?;
        attributes::set_time(file.as_fd(), entry.mtime).map_err(failed)
    }

    fn hard_link(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let path = place.path_of(name);
        let target = normal(&entry.link, "the target of the hard link")?;
        let (parent, last) = split(&target);
        if last.is_empty() {
            return Err(Fault::refused(&path, "a hard link to the root"));
        }
        let failed = |source: io::Error| Fault::write(&path, source);
        let found = self.tree.existing(parent)?;
        let stat = match &found {
            Some(source) => look(source.fd(), last).map_err(failed)?,
            None => None,
        };
        let (Some(source), Some(stat)) = (found, stat) else {
            // Perhaps it is in a layer below.
            self.links.push(MissingLink { path, target });
            return Ok(());
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || is_whiteout(&stat) {
            return Err(Fault::refused(&path, "a hard link to a directory or to a deleted file"));
        }
        if let Some(there) = look(place.fd(), name).map_err(failed)?
            && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.make(place, name, |at| linkat(source.fd(), last, at.fd(), name, AtFlags::empty()))
    }

    /// Hides `name` of the layers below; what this very layer brings under the name stays.
    fn whiteout(&mut self, place: &Place, name: &[u8], path: &[u8]) -> Result<(), Fault> {
        if matches!(name, b"" | b"." | b"..") || name.starts_with(WHITEOUT) {
            return Err(Fault::refused(path, "a whiteout of nothing, of itself or of its parent"));
        }
        let failed = |source: io::Error| Fault::write(path, source);
        match mknodat(place.fd(), name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match open_directory(place.fd(), name) {
                Ok(directory) => set_opaque(directory.as_fd()).map_err(failed),
                // A file hides by itself.
                Err(_) => Ok(()),
            },
            Err(error) => Err(failed(error.into())),
        }
    }

    fn hide_below(&mut self, directory: &[u8]) -> Result<(), Fault> {
        if directory.is_empty() {
            self.opaque = true;
        }
        let place = self.tree.directory(directory)?;
        set_opaque(place.fd()).map_err(|source| Fault::write(directory, source))
    }

    fn set_times(&mut self) -> Result<(), Fault> {
        // The last description of a directory wins, so they are set in order.
        for (path, mtime) in std::mem::take(&mut self.times) {
            let set = match self.tree.existing(&path)? {
                // Replaced later by something else, or by a link to elsewhere.
                None => continue,
                Some(place) if place.path() != path.as_slice() => continue,
                Some(place) => attributes::set_time(place.fd(), mtime),
            };
            set.map_err(|source| Fault::write(&path, source))?;
        }
        Ok(())
    }
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write_all_at(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, at) {
            Ok(count) => {
                bytes = &bytes[count..];
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
