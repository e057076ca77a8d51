//! From files to an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::vec::IntoIter;

use budu_sys::rooted::Root;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, major, minor, openat, readlinkat,
    statat,
};
use rustix::io::Errno;

use crate::layer::archive::{Entry, Kind};
use crate::layer::write::Writer;

/// Directories kept open at the same time; those above are found again by their path.
const MAX_OPEN: usize = 64;

/// What of a tree goes into an archive, and how it is called there.
#[derive(Debug, Clone, Copy)]
pub struct Pack<'a> {
    /// A path inside the root; followed but for its last component, which is followed when it ends in `/`.
    pub path: &'a Path,
    /// The name of the first entry; those below begin with it. Empty for none, so that they begin with their own.
    pub name: &'a [u8],
    /// Whether the directory at `path` has an entry itself.
    pub include_itself: bool,
}

/// Writes the files at a path of `root`, directories before what is in them, names in order. What goes away
/// meanwhile is left out. Sockets are left out, too: they mean nothing elsewhere.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] when nothing is at the path; what reading files or writing `output` fails with.
pub fn pack<W: Write>(root: &Root, wish: Pack<'_>, output: W) -> io::Result<W> {
    let mut work = Work { root, writer: Writer::new(output), links: HashMap::new() };
    let path = wish.path.as_os_str().as_bytes();
    let (parent, name) = split(path);
    if name.is_empty() || matches!(name, b"." | b"..") || path.ends_with(b"/") {
        let directory = reopen(root.open(wish.path, OFlags::DIRECTORY)?.as_fd())?;
        let stat = fstat(&directory)?;
        if wish.include_itself {
            work.directory(&directory, &stat, wish.name)?;
        }
        work.below(directory, path, wish.name)?;
    } else {
        let parent = root.open(Path::new(std::ffi::OsStr::from_bytes(parent)), OFlags::DIRECTORY)?;
        let found = work.one(parent.as_fd(), name, wish.name, wish.include_itself)?;
        if let Some(directory) = found {
            work.below(directory, path, wish.name)?;
        }
    }
    work.writer.finish()
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"/", path),
    }
}

/// Opens what an O_PATH descriptor refers to for reading.
pub(crate) fn reopen(path: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let name = format!("/proc/self/fd/{}", path.as_raw_fd());
    // The access time tells when the container read a file, not when somebody copied it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    match openat(CWD, name.as_str(), flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(openat(CWD, name.as_str(), flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// Gone while we looked, or not what it was a moment ago.
fn vanished(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE))
}

struct Work<'a, W> {
    root: &'a Root,
    writer: Writer<W>,
    /// Names of files that have others, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory being gone through.
struct Level {
    /// `None` once too many are open.
    directory: Option<OwnedFd>,
    path: Vec<u8>,
    name: Vec<u8>,
    left: IntoIter<Vec<u8>>,
}

impl<W: Write> Work<'_, W> {
    /// Writes everything in a directory, however deep.
    fn below(&mut self, directory: OwnedFd, path: &[u8], name: &[u8]) -> io::Result<()> {
        let mut levels = vec![level(directory, path.to_vec(), name.to_vec())?];
        while let Some(level) = levels.last_mut() {
            let Some(next) = level.left.next() else {
                levels.pop();
                continue;
            };
            let (path, name) = (join(&level.path, &next), join(&level.name, &next));
            let here = match &level.directory {
                Some(open) => open.as_fd().try_clone_to_owned()?,
                None => {
                    let found = self.root.open(Path::new(std::ffi::OsStr::from_bytes(&level.path)), OFlags::DIRECTORY);
                    match found.and_then(|found| reopen(found.as_fd())) {
                        Ok(found) => found,
                        Err(error) if vanished(&error) => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            let deeper = match self.one(here.as_fd(), &next, &name, true) {
                Ok(deeper) => deeper,
                Err(error) if vanished(&error) => None,
                Err(error) => return Err(error),
            };
            if let Some(directory) = deeper {
                levels.push(self::level(directory, path, name)?);
                if let Some(old) = levels.len().checked_sub(MAX_OPEN) {
                    levels[old].directory = None;
                }
            }
        }
        Ok(())
    }

    /// Writes one entry. A directory is returned open, to go on below.
    fn one(&mut self, parent: BorrowedFd<'_>, file: &[u8], name: &[u8], include: bool) -> io::Result<Option<OwnedFd>> {
        let found = openat(parent, file, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let directory = reopen(found.as_fd())?;
                if include {
                    self.directory(&directory, &stat, name)?;
                }
                return Ok(Some(directory));
            }
            FileType::Socket => {}
            FileType::RegularFile => self.file(found.as_fd(), &stat, name)?,
            FileType::Symlink => {
                let mut entry = describe(&stat, Kind::Symlink, name);
                entry.link = readlinkat(&found, "", Vec::new())?.into_bytes();
                self.writer.entry(&entry)?;
            }
            special => {
                let kind = match special {
                    FileType::CharacterDevice => Kind::CharDevice,
                    FileType::BlockDevice => Kind::BlockDevice,
                    _ => Kind::Fifo,
                };
                if !self.linked(&stat, name)? {
                    self.writer.entry(&describe(&stat, kind, name))?;
                }
            }
        }
        Ok(None)
    }

    fn directory(&mut self, directory: &OwnedFd, stat: &Stat, name: &[u8]) -> io::Result<()> {
        let mut entry = describe(stat, Kind::Directory, name);
        if !entry.path.ends_with(b"/") {
            entry.path.push(b'/');
        }
        entry.xattrs = attributes(directory.as_fd())?;
        self.writer.entry(&entry)
    }

    fn file(&mut self, found: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> io::Result<()> {
        if self.linked(stat, name)? {
            return Ok(());
        }
        let file = reopen(found)?;
        let mut entry = describe(stat, Kind::File, name);
        entry.size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        entry.xattrs = attributes(file.as_fd())?;
        self.writer.entry(&entry)?;
        self.writer.data(File::from(file), entry.size)
    }

    /// Writes a link when the same file is in the archive already.
    fn linked(&mut self, stat: &Stat, name: &[u8]) -> io::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        match self.links.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(name.to_vec());
                Ok(false)
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let mut entry = describe(stat, Kind::HardLink, name);
                entry.link = first.get().clone();
                self.writer.entry(&entry)?;
                Ok(true)
            }
        }
    }
}

/// Lists a directory, in order.
fn level(directory: OwnedFd, path: Vec<u8>, name: Vec<u8>) -> io::Result<Level> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if !matches!(bytes, b"." | b"..") {
            names.push(bytes.to_vec());
        }
    }
    names.sort_unstable();
    Ok(Level { directory: Some(directory), path, name, left: names.into_iter() })
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent {
        b"" => name.to_vec(),
        parent if parent.ends_with(b"/") => [parent, name].concat(),
        parent => [parent, b"/", name].concat(),
    }
}

/// An entry as `stat` describes it.
pub(crate) fn describe(stat: &Stat, kind: Kind, name: &[u8]) -> Entry {
    let device = match kind {
        Kind::CharDevice | Kind::BlockDevice => (major(stat.st_rdev), minor(stat.st_rdev)),
        _ => (0, 0),
    };
    Entry {
        path: name.to_vec(),
        link: Vec::new(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, 0),
        size: 0,
        device,
        xattrs: Vec::new(),
        regions: None,
    }
}

/// Extended attributes that mean something elsewhere: capabilities, and what users attach.
pub(crate) fn attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = vec![0u8; 64 << 10];
    let length = match flistxattr(file, list.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut found = Vec::new();
    for name in list[..length].split(|&byte| byte == 0) {
        let travels = name == b"security.capability" || name.starts_with(b"user.");
        if !travels || crate::layer::attributes::is_reserved(name) {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        match fgetxattr(file, name, value.as_mut_slice()) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(found)
}

/// What `name` in a directory is, without following it; an error when nothing is.
pub(super) fn look(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::archive::Archive;

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut archive = Archive::new(bytes);
        let mut names = Vec::new();
        while let Some(entry) = archive.next().expect("well formed") {
            let mut name = String::from_utf8(entry.path).expect("text");
            if !entry.link.is_empty() {
                name.push_str(&format!(" -> {}", String::from_utf8_lossy(&entry.link)));
            }
            names.push(name);
        }
        names
    }

    #[test]
    fn names_follow_the_wish_and_links_stay_links() {
        let dir = tempfile::tempdir().expect("made");
        std::fs::create_dir_all(dir.path().join("etc/deep")).expect("made");
        std::fs::write(dir.path().join("etc/a"), "1").expect("written");
        std::fs::hard_link(dir.path().join("etc/a"), dir.path().join("etc/deep/b")).expect("linked");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/out")).expect("linked");
        let root = Root::open_at(dir.path()).expect("opened");
        let list = |path: &str, name: &str, include_itself: bool| {
            let wish = Pack { path: Path::new(path), name: name.as_bytes(), include_itself };
            names(&pack(&root, wish, Vec::new()).expect("packed"))
        };
        let whole = ["x/", "x/a", "x/deep/", "x/deep/b -> x/a", "x/out -> /etc/passwd"];
        assert_eq!(list("/etc", "x", true), whole);
        assert_eq!(list("/etc/", "x", true), whole);
        assert_eq!(list("/etc/a", "a", true), ["a"]);
        assert_eq!(list("/etc/out", "out", true), ["out -> /etc/passwd"]);
        assert_eq!(list("/etc", "", false)[..2], ["a", "deep/"]);
        let gone = pack(&root, Pack { path: Path::new("/no"), name: b"no", include_itself: true }, Vec::new());
        assert_eq!(gone.expect_err("nothing there").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn deep_trees_need_few_descriptors() {
        let dir = tempfile::tempdir().expect("made");
        let mut path = dir.path().to_path_buf();
        for _ in 0..300 {
            path.push("d");
            std::fs::create_dir(&path).expect("made");
            std::fs::write(path.join("z"), "").expect("written");
        }
        let root = Root::open_at(dir.path()).expect("opened");
        let wish = Pack { path: Path::new("/"), name: b"", include_itself: false };
        assert_eq!(names(&pack(&root, wish, Vec::new()).expect("packed")).len(), 600);
    }
}
