//! Paths inside a root that somebody hostile may have prepared.
//!
//! Symbolic links have the meaning they have after chroot(2): absolute ones
//! start at the root, `..` never leaves it. Results are descriptors; nothing is
//! ever resolved twice.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// How many symbolic links one path may go through, as in the kernel.
const MAX_LINKS: usize = 40;

/// How often the kernel may be asked again. Its answer depends on what all processes of the machine rename, and
/// somebody hostile may rename all the time.
const MAX_TRIES: usize = 16;

/// What a missing last component is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// An error.
    Refuse,
    /// A directory, mode 0755.
    MakeDirectory,
    /// An empty file, mode 0644; its parents as directories.
    MakeFile,
}

/// A directory that paths are resolved inside of.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Takes a directory as root.
    pub fn new(directory: OwnedFd) -> Root {
        Root(directory)
    }

    /// Opens the directory at a trusted path as root.
    pub fn open_at(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens `path` inside the root with O_PATH; `flags` may also have O_DIRECTORY and O_NOFOLLOW.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_TRIES {
            match openat2(&self.0, relative(path), flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                // The kernel could not prove that a concurrent rename stayed inside; it asks for another try.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.walk(path, Missing::Refuse, flags)
    }

    /// Opens `path` with O_PATH, making it and its parents when they are missing.
    pub fn reach(&self, path: impl AsRef<Path>, missing: Missing) -> io::Result<OwnedFd> {
        match self.open(path.as_ref(), OFlags::PATH) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && missing != Missing::Refuse => {
                self.walk(path.as_ref(), missing, OFlags::PATH)
            }
            other => other,
        }
    }

    /// Opens the directory that holds the last component of `path`, making it
    /// when it is missing, and names that component, which is not looked at.
    ///
    /// # Errors
    /// `EINVAL` when the path ends in no name (`/`, `..`).
    pub fn reach_parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
        Ok((self.reach(parent, Missing::MakeDirectory)?, name))
    }

    /// As [`Root::reach`], but the last component is not followed when it is a link.
    pub fn reach_itself(&self, path: &Path, missing: Missing) -> io::Result<OwnedFd> {
        let (parent, name) = self.reach_parent(path)?;
        enter(parent.as_fd(), name, missing)
    }

    /// Resolves component by component, holding every directory on the way so
    /// that `..` and links made meanwhile cannot lead outside.
    fn walk(&self, path: &Path, missing: Missing, flags: OFlags) -> io::Result<OwnedFd> {
        let parents = if missing == Missing::Refuse { missing } else { Missing::MakeDirectory };
        let mut todo: Vec<OsString> = components(path.as_os_str()).rev().collect();
        let mut held: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                held.pop();
                continue;
            }
            let here = held.last().map_or(self.0.as_fd(), |fd| fd.as_fd());
            let last = todo.is_empty();
            let fd = enter(here, &name, if last { missing } else { parents })?;
            let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
            if kind != FileType::Symlink || (last && flags.contains(OFlags::NOFOLLOW)) {
                if (!last || flags.contains(OFlags::DIRECTORY)) && kind != FileType::Directory {
                    return Err(Errno::NOTDIR.into());
                }
                held.push(fd);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&fd, "", Vec::new())?.into_bytes();
            if target.first() == Some(&b'/') {
                held.clear();
            }
            todo.extend(components(OsStr::from_bytes(&target)).rev());
        }
        match held.pop() {
            Some(fd) => Ok(fd),
            None => Ok(openat(&self.0, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
        }
    }

    /// Tells what is at `path`, following links inside the root; `None` when nothing is.
    pub fn file_type(&self, path: impl AsRef<Path>) -> io::Result<Option<FileType>> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(FileType::from_raw_mode(fstat(&fd)?.st_mode))),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens one component without following it, making it when it is missing.
fn enter(parent: BorrowedFd<'_>, name: &OsStr, missing: Missing) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    match missing {
        Missing::Refuse => return Err(Errno::NOENT.into()),
        Missing::MakeDirectory => match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        },
        Missing::MakeFile => {
            let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(parent, name, create, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn components(path: &OsStr) -> impl DoubleEndedIterator<Item = OsString> {
    let parts = path.as_bytes().split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsString::from_vec(part.to_vec())).collect::<Vec<_>>().into_iter()
}

/// Turns a path of the container into one that openat2(2) accepts.
fn relative(path: &Path) -> &Path {
    let stripped = path.strip_prefix("/").unwrap_or(path);
    if stripped.as_os_str().is_empty() { Path::new(".") } else { stripped }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root below a directory that also holds things no path may reach.
    fn playground() -> (tempdir::Dir, Root) {
        let dir = tempdir::Dir::new();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        let root = Root::open_at(&dir.path().join("root")).unwrap();
        (dir, root)
    }

    mod tempdir {
        use std::path::{Path, PathBuf};
        pub(super) struct Dir(PathBuf);
        impl Dir {
            pub(super) fn new() -> Dir {
                static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
                let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let path = std::env::temp_dir().join(format!("budu-rooted-{}-{n}", std::process::id()));
                std::fs::create_dir(&path).unwrap();
                Dir(path)
            }
            pub(super) fn path(&self) -> &Path {
                &self.0
            }
        }
        impl Drop for Dir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn links_never_lead_outside() {
        let (dir, root) = playground();
        let inside = |name: &str| dir.path().join("root").join(name);
        symlink(dir.path().join("outside"), inside("absolute")).unwrap();
        symlink("../../../../../../outside", inside("climbing")).unwrap();
        symlink("loop", inside("loop")).unwrap();
        for path in ["absolute/new", "climbing/new", "/../../outside/new", "absolute/../../../x"] {
            root.reach(path, Missing::MakeDirectory).unwrap();
        }
        assert!(root.reach("loop/x", Missing::MakeDirectory).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
        assert!(inside("outside/new").is_dir());
        assert!(inside("x").is_dir());
    }

    #[test]
    fn the_walk_finds_what_the_kernel_finds() {
        let (dir, root) = playground();
        let inside = |name: &str| dir.path().join("root").join(name);
        std::fs::create_dir_all(inside("a/b")).unwrap();
        std::fs::write(inside("a/file"), "").unwrap();
        for (name, target) in [("a/up", "../../../a/b"), ("out", "../outside"), ("dead", "none"), ("loop", "loop")] {
            symlink(target, inside(name)).unwrap();
        }
        let identity = |found: io::Result<OwnedFd>| match found {
            Ok(fd) => fstat(&fd).map(|stat| (stat.st_dev, stat.st_ino)).map_err(|errno| errno.raw_os_error()),
            Err(e) => Err(e.raw_os_error().unwrap_or_default()),
        };
        for path in [
            "/",
            "a",
            "/a/file",
            "a/up",
            "a/up/../file",
            "out",
            "dead",
            "loop",
            "a/none",
            "a/file/x",
            "a/file/..",
            "../..",
        ] {
            for more in [OFlags::empty(), OFlags::NOFOLLOW, OFlags::DIRECTORY, OFlags::DIRECTORY | OFlags::NOFOLLOW] {
                let flags = OFlags::PATH | more;
                let walked = root.walk(Path::new(path), Missing::Refuse, flags);
                assert_eq!(identity(walked), identity(root.open(path, flags)), "{path} {flags:?}");
            }
        }
    }

    #[test]
    fn renaming_all_the_time_stops_nobody() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (dir, root) = playground();
        let inside = |name: &str| dir.path().join("root").join(name);
        std::fs::create_dir(inside("deep")).unwrap();
        symlink("../../../../../../etc", inside("deep/link")).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut from, mut to) = (dir.path().join("outside"), dir.path().join("elsewhere"));
                while !over.load(Ordering::Relaxed) {
                    std::fs::rename(&from, &to).unwrap();
                    std::mem::swap(&mut from, &mut to);
                }
            });
            let found = (0..2000).all(|_| root.open("deep/link/../etc", OFlags::PATH).is_ok());
            over.store(true, Ordering::Relaxed);
            assert!(found);
        });
    }

    #[test]
    fn absolute_links_work_as_in_a_chroot() {
        let (dir, root) = playground();
        std::fs::create_dir_all(dir.path().join("root/run/lock")).unwrap();
        std::fs::create_dir_all(dir.path().join("root/var")).unwrap();
        symlink("/run", dir.path().join("root/var/run")).unwrap();
        assert_eq!(root.file_type("/var/run/lock").unwrap(), Some(FileType::Directory));
        root.reach("/var/run/made/file", Missing::MakeFile).unwrap();
        assert!(dir.path().join("root/run/made/file").is_file());
        assert_eq!(root.file_type("/nothing").unwrap(), None);
    }
}
