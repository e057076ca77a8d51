//! From an archive to files.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use budu_sys::rooted::{Missing, Root};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, chmodat, chownat, fstat, ftruncate, linkat, lsetxattr, makedev,
    mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::pack::look;
use crate::error::Error;
use crate::layer::archive::{Archive, Entry, Kind};
use crate::layer::unpack::normal;
use crate::layer::{Fault, attributes};

/// How often something that comes back is removed before giving up.
const MAX_TRIES: usize = 8;

/// Where and how an archive is unpacked.
#[derive(Debug, Clone)]
pub struct Extract<'a> {
    /// An existing directory inside the root.
    pub into: &'a Path,
    /// Who everything shall belong to; by default what the archive says.
    pub owner: Option<(u32, u32)>,
    /// Neither replace a directory by something else nor the other way round.
    pub keep_directories: bool,
}

/// Unpacks an archive below a directory of `root`. Links that are there already are followed inside the root, as a
/// process of the container would; the archive's own names cannot climb out of the directory.
///
/// # Errors
/// [`Error::Archive`] for an archive that is malformed or refused, with what was the matter with which entry. What
/// was unpacked until then stays.
pub fn extract(root: &Root, wish: &Extract<'_>, input: impl BufRead) -> Result<(), Error> {
    let mut work = Work { root, wish, parent: None, times: Vec::new() };
    let mut archive = Archive::new(input);
    let mut run = |work: &mut Work<'_>| {
        while let Some(entry) = archive.next()? {
            work.entry(&entry, &mut archive)?;
        }
        Ok(())
    };
    let result = run(&mut work);
    work.set_times();
    result.map_err(|fault: Fault| match fault {
        Fault::Write { path, source } => Error::Extract { path, source },
        other => Error::Archive { detail: other.to_string() },
    })
}

struct Work<'a> {
    root: &'a Root,
    wish: &'a Extract<'a>,
    /// The directory last written to, by its name in the archive.
    parent: Option<(Vec<u8>, Arc<OwnedFd>)>,
    /// Directories and their times, set last: every entry made inside changes the time.
    times: Vec<(OwnedFd, (i64, u32))>,
}

/// Directories whose time is still to be set are held open; more than these get theirs at once.
const MAX_HELD: usize = 128;

impl Work<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<(), Fault> {
        let path = normal(&entry.path, "its name")?;
        if path.is_empty() {
            // The directory itself: it was there before.
            return Ok(());
        }
        let (parent, name) = split(&path);
        let parent = self.directory(parent)?;
        let failed = |source: io::Error| Fault::write(&path, source);
        self.make_room(parent.as_fd(), name, entry, &path)?;
        match entry.kind {
            Kind::Directory => self.make_directory(parent.as_fd(), name, entry).map_err(failed),
            Kind::File => self.file(parent.as_fd(), name, entry, archive, &path),
            Kind::HardLink => self.hard_link(parent.as_fd(), name, entry, &path),
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), &*parent, name).map_err(|error| failed(error.into()))?;
                self.describe(parent.as_fd(), name, entry).map_err(failed)
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                mknodat(&*parent, name, kind, Mode::from_raw_mode(0o600), device)
                    .map_err(|error| failed(error.into()))?;
                self.describe(parent.as_fd(), name, entry).map_err(failed)
            }
        }
    }

    /// The directory that the archive calls `path`, made where it is missing.
    fn directory(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, Fault> {
        if let Some((known, open)) = &self.parent
            && known == path
        {
            return Ok(Arc::clone(open));
        }
        let full = self.place(path);
        let found = self.root.reach(&full, Missing::MakeDirectory).and_then(|found| {
            match FileType::from_raw_mode(fstat(&found)?.st_mode) {
                FileType::Directory => Ok(found),
                _ => Err(Errno::NOTDIR.into()),
            }
        });
        let open = Arc::new(found.map_err(|source| Fault::write(path, source))?);
        self.parent = Some((path.to_vec(), Arc::clone(&open)));
        Ok(open)
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        let relative = Path::new(std::ffi::OsStr::from_bytes(path));
        // Names of the archive are relative by now; an empty one must not add a slash.
        if path.is_empty() { self.wish.into.to_path_buf() } else { self.wish.into.join(relative) }
    }

    /// Removes what has the name already, unless both are directories or that is not wanted.
    fn make_room(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, path: &[u8]) -> Result<(), Fault> {
        for _ in 0..MAX_TRIES {
            let there = match look(parent, name) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(Fault::write(path, error)),
            };
            let wanted = entry.kind == Kind::Directory;
            if there && wanted {
                return Ok(());
            }
            if self.wish.keep_directories && there != wanted {
                let (here, given) = (self.place(path), self.wish.into.display().to_string());
                let here = here.display();
                let text = match there {
                    true => format!("cannot overwrite directory \"{here}\" with non-directory \"{given}\""),
                    false => format!("cannot overwrite non-directory \"{here}\" with directory \"{given}\""),
                };
                return Err(Fault::Overwrite { text });
            }
            // What is cached may lie inside what goes.
            self.parent = None;
            crate::trash::delete_at(parent, name).map_err(|source| Fault::write(path, source))?;
        }
        Err(Fault::write(path, Errno::EXIST))
    }

    fn make_directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
        match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        attributes::apply(directory.as_fd(), &self.owned(entry))?;
        if self.times.len() < MAX_HELD {
            self.times.push((directory, entry.mtime));
            return Ok(());
        }
        attributes::set_time(directory.as_fd(), entry.mtime)
    }

    fn file<R: BufRead>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<R>,
        path: &[u8],
    ) -> Result<(), Fault> {
        use std::io::Write as _;
        use std::os::unix::fs::FileExt as _;
        let failed = |source: io::Error| Fault::write(path, source);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        match &entry.regions {
            None => archive.copy(entry.size, |chunk| file.write_all(chunk), path)?,
            Some(regions) => {
                ftruncate(&file, entry.size).map_err(|error| failed(error.into()))?;
                for &(offset, length) in regions {
                    let mut at = offset;
                    let write = |chunk: &[u8]| {
                        file.write_all_at(chunk, at)?;
                        at += chunk.len() as u64;
                        Ok(())
                    };
                    archive.copy(length, write, path)?;
                }
            }
        }
        attributes::apply(file.as_fd(), &self.owned(entry)).map_err(failed)?;
        attributes::set_time(file.as_fd(), entry.mtime).map_err(failed)
    }

    /// Links to a file below the directory that is unpacked into.
    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, path: &[u8]) -> Result<(), Fault> {
        let target = normal(&entry.link, "the target of the hard link")?;
        let (above, last) = split(&target);
        if last.is_empty() {
            return Err(Fault::refused(path, "a hard link to a directory"));
        }
        let source = self.root.open(self.place(above), OFlags::DIRECTORY);
        let source = source.map_err(|source| Fault::write(path, source))?;
        linkat(&source, last, parent, name, AtFlags::empty()).map_err(|error| Fault::write(path, error))
    }

    /// Owner, mode, attributes and time of a link, device or fifo just made.
    fn describe(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
        let entry = self.owned(entry);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Held, so that all of this happens to one and the same thing whatever the name leads to by then.
        let made = openat(parent, name, flags, Mode::empty())?;
        let expected = match entry.kind {
            Kind::Symlink => FileType::Symlink,
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if FileType::from_raw_mode(fstat(&made)?.st_mode) != expected {
            return Err(Errno::STALE.into());
        }
        let (uid, gid) = attributes::owner(entry.uid, entry.gid);
        chownat(&made, "", uid, gid, AtFlags::EMPTY_PATH)?;
        let times = attributes::times(entry.mtime);
        let named = format!("/proc/self/fd/{}", made.as_raw_fd());
        if entry.kind == Kind::Symlink {
            return Ok(utimensat(&made, "", &times, AtFlags::EMPTY_PATH)?);
        }
        chmodat(CWD, named.as_str(), Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        for (attribute, value) in &entry.xattrs {
            if !attributes::is_reserved(attribute) && !attribute.starts_with(b"user.") {
                let _ = lsetxattr(named.as_str(), attribute.as_slice(), value, XattrFlags::empty());
            }
        }
        Ok(utimensat(CWD, named.as_str(), &times, AtFlags::empty())?)
    }

    /// The entry with the owner that was asked for.
    fn owned(&self, entry: &Entry) -> Entry {
        let (uid, gid) = self.wish.owner.unwrap_or((entry.uid, entry.gid));
        Entry {
            path: Vec::new(),
            link: Vec::new(),
            xattrs: entry.xattrs.clone(),
            regions: None,
            uid,
            gid,
            kind: entry.kind,
            mode: entry.mode,
            mtime: entry.mtime,
            size: entry.size,
            device: entry.device,
        }
    }

    /// Deepest first. A time that cannot be set harms nobody.
    fn set_times(&mut self) {
        for (directory, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            let _ = attributes::set_time(directory.as_fd(), mtime);
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::layer::write::{Writer, blank};

    fn archive(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (kind, path, text) in entries {
            let mut entry = blank(*kind, path.as_bytes(), 0o755);
            (entry.uid, entry.gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            match kind {
                Kind::File => entry.size = text.len() as u64,
                _ => entry.link = text.as_bytes().to_vec(),
            }
            writer.entry(&entry).expect("written");
            if *kind == Kind::File {
                writer.data(text.as_bytes(), entry.size).expect("written");
            }
        }
        writer.finish().expect("written")
    }

    fn unpack(dir: &Path, into: &str, keep: bool, bytes: &[u8]) -> Result<(), String> {
        let root = Root::open_at(&dir.join("root")).expect("opened");
        let wish = Extract { into: Path::new(into), owner: None, keep_directories: keep };
        extract(&root, &wish, bytes).map_err(|error| error.to_string())
    }

    fn playground() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("made");
        fs::create_dir_all(dir.path().join("root/in/sub")).expect("made");
        fs::create_dir(dir.path().join("outside")).expect("made");
        fs::write(dir.path().join("outside/canary"), "alive").expect("written");
        fs::set_permissions(dir.path().join("outside/canary"), fs::Permissions::from_mode(0o600)).expect("set");
        dir
    }

    #[test]
    fn nothing_leaves_the_root() {
        let dir = playground();
        let outside = dir.path().join("outside");
        let text = outside.to_str().expect("text");
        symlink(&outside, dir.path().join("root/in/link")).expect("linked");
        symlink(outside.join("canary"), dir.path().join("root/in/file")).expect("linked");
        use Kind::{Directory, File, HardLink, Symlink};
        let through = archive(&[(File, "link/new", "x"), (Directory, "link", ""), (File, "file", "y")]);
        unpack(dir.path(), "/in", false, &through).expect("unpacked");
        let own = archive(&[(Symlink, "l", text), (File, "l/new", "x"), (Symlink, "m", ".."), (File, "m/n", "")]);
        unpack(dir.path(), "/in", false, &own).expect("unpacked");
        for (bytes, want) in [
            (archive(&[(File, "../up", "")]), "climbs"),
            (archive(&[(File, "a/../../up", "")]), "climbs"),
            (archive(&[(HardLink, "h", "../../outside/canary")]), "climbs"),
            (archive(&[(HardLink, "h", "l/canary")]), "No such file"),
        ] {
            let error = unpack(dir.path(), "/in", false, &bytes).expect_err("refused");
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(fs::read_dir(&outside).expect("listed").count(), 1);
        assert_eq!(fs::read_to_string(outside.join("canary")).expect("read"), "alive");
        let mode = fs::metadata(outside.join("canary")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(dir.path().join("root/in/file")).expect("a file of its own"), "y");
    }

    #[test]
    fn directories_are_replaced_only_when_that_is_wanted() {
        let dir = playground();
        fs::write(dir.path().join("root/in/sub/old"), "").expect("written");
        let file = archive(&[(Kind::File, "sub", "new")]);
        let error = unpack(dir.path(), "/in", true, &file).expect_err("refused");
        assert_eq!(error, "cannot overwrite directory \"/in/sub\" with non-directory \"/in\"");
        unpack(dir.path(), "/in", false, &file).expect("unpacked");
        assert_eq!(fs::read_to_string(dir.path().join("root/in/sub")).expect("read"), "new");
        let directory = archive(&[(Kind::Directory, "sub", "")]);
        let error = unpack(dir.path(), "/in", true, &directory).expect_err("refused");
        assert_eq!(error, "cannot overwrite non-directory \"/in/sub\" with directory \"/in\"");
        unpack(dir.path(), "in", false, &directory).expect("unpacked");
        assert!(dir.path().join("root/in/sub").is_dir());
    }

    #[test]
    fn somebody_swaps_directories_all_the_time() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = playground();
        let place = dir.path().join("root/in");
        symlink(dir.path().join("outside"), place.join("link")).expect("linked");
        let over = AtomicBool::new(false);
        let bytes = archive(&[(Kind::File, "sub/canary", "dead"), (Kind::Directory, "sub", "")]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(
                        CWD,
                        place.join("sub"),
                        CWD,
                        place.join("link"),
                        rustix::fs::RenameFlags::EXCHANGE,
                    );
                }
            });
            for _ in 0..500 {
                let _ = unpack(dir.path(), "/in", false, &bytes);
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_to_string(dir.path().join("outside/canary")).expect("read"), "alive");
        let mode = fs::metadata(dir.path().join("outside/canary")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}
