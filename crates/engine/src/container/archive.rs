//! Archive: files out of a container and into it.

use std::ffi::OsStr;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use budu_image::transfer::{Extract, Pack, decompress, extract, pack};
use budu_spec::docker::{PathStat, file_mode};
use budu_spec::units;
use budu_sys::rooted::Root;
use budu_sys::view::View;
use rustix::fs::{FileType, OFlags, fstat, readlinkat};

use super::view::Wish;
use super::{Container, mounts};
use crate::{Engine, Error};

/// How many symbolic links one path may go through.
const MAX_LINKS: usize = 255;

/// Largest `/etc/passwd` that is read.
const MAX_PASSWD: u64 = 1 << 20;

/// Files on their way out.
#[derive(Debug)]
pub struct Download {
    view: View,
    path: PathBuf,
    name: Vec<u8>,
    include_itself: bool,
}

impl Download {
    pub(super) fn new(view: View, path: &Path, name: &[u8], include_itself: bool) -> Download {
        Download { view, path: path.to_owned(), name: name.to_vec(), include_itself }
    }

    /// Writes the archive. Blocks.
    ///
    /// # Errors
    /// What reading the files or writing to `output` fails with.
    pub fn write<W: Write>(&self, output: W) -> io::Result<W> {
        let wish = Pack { path: &self.path, name: &self.name, include_itself: self.include_itself };
        pack(self.view.root(), wish, output)
    }
}

/// What is asked of an upload.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// A directory in the container.
    pub path: String,
    /// Never replace a directory by something else, nor the other way round.
    pub keep_directories: bool,
    /// Everything shall belong to the container's user.
    pub own: bool,
}

impl Engine {
    /// Says what is at a path of a container. Blocks.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::NoSuchFile`].
    pub fn path_stat(&self, name: &str, path: &str) -> Result<PathStat, Error> {
        let container = self.find(name)?;
        let view = self.view(&container, Wish { mounts: true, write: false })?;
        stat(view.root(), &absolute(path)).map_err(|error| explain(error, name, path))
    }

    /// Prepares the archive of what is at a path of a container. Blocks.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::NoSuchFile`].
    pub fn download(&self, name: &str, path: &str) -> Result<(PathStat, Download), Error> {
        let container = self.find(name)?;
        let view = self.view(&container, Wish { mounts: true, write: false })?;
        let full = absolute(path);
        let stat = stat(view.root(), &full).map_err(|error| explain(error, name, path))?;
        self.tell(&container, "archive-path", &[]);
        let download = Download::new(view, Path::new(&full), stat.name.as_bytes(), true);
        Ok((stat, download))
    }

    /// Unpacks an archive, compressed or not, in a directory of a container. Blocks.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`] without the directory, [`Error::Invalid`] when it is something else or read-only,
    /// [`Error::Image`] for what is wrong with the archive.
    pub fn upload(&self, name: &str, wish: &Upload, input: impl BufRead) -> Result<(), Error> {
        let container = self.find(name)?;
        // Nobody may start it while its files are mounted here; a running one has them mounted itself.
        let _turn = container.control().is_none().then(|| container.turn.blocking_lock());
        let view = self.view(&container, Wish { mounts: true, write: true })?;
        let root = view.root();
        let found = follow(root, &absolute(&wish.path)).map_err(|error| explain(error, name, &wish.path))?;
        let directory = root.open(&found, OFlags::PATH).map_err(|error| explain(error, name, &wish.path))?;
        let kind = fstat(&directory).map_err(|error| explain(error.into(), name, &wish.path))?;
        if FileType::from_raw_mode(kind.st_mode) != FileType::Directory {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        check_writable(&container, &found)?;
        let owner = if wish.own { owner(root, &container)? } else { None };
        let options = Extract { into: &found, owner, keep_directories: wish.keep_directories };
        let plain = decompress(input).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => {
                let text = error.to_string();
                Error::unsupported(text.strip_suffix(" is not implemented").unwrap_or(&text))
            }
            _ => Error::invalid(format!("the archive cannot be read: {error}")),
        })?;
        extract(root, &options, plain)?;
        self.tell(&container, "extract-to-dir", &[]);
        Ok(())
    }
}

/// A path as text from the root. What says that a directory is meant, a slash or `/.` at its end, is kept.
fn absolute(path: &str) -> String {
    let mut clean = mounts::clean(path);
    let here = path == "." || path.ends_with("/.");
    if (here || path.ends_with('/')) && !clean.ends_with('/') {
        clean.push('/');
    }
    if here {
        clean.push('.');
    }
    clean
}

/// The last component, as Go's `filepath.Base` has it.
fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

fn stat(root: &Root, path: &str) -> io::Result<PathStat> {
    let directory = path.ends_with('/') || path.ends_with("/.");
    let flags = if directory { OFlags::DIRECTORY } else { OFlags::NOFOLLOW };
    let found = root.open(path, flags)?;
    let stat = fstat(&found)?;
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => follow(root, path).unwrap_or_else(|_| PathBuf::from(path)).to_string_lossy().into_owned(),
        _ => String::new(),
    };
    Ok(PathStat {
        name: base(path).to_owned(),
        size: stat.st_size,
        mode: file_mode(stat.st_mode),
        mtime: jiff::Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or(0))
            .map_or_else(|_| units::ZERO_TIME.to_owned(), units::rfc3339_nano),
        link_target,
    })
}

/// The path without links that `path` leads to. Where nothing is any more the rest is kept as it is.
fn follow(root: &Root, path: &str) -> io::Result<PathBuf> {
    let mut todo: Vec<Vec<u8>> = path.as_bytes().split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut done = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let next = done.join(OsStr::from_bytes(&name));
        let found = match root.open(&next, OFlags::NOFOLLOW) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                done = next;
                continue;
            }
            other => other?,
        };
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Symlink {
            done = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let target = readlinkat(&found, "", Vec::new())?.into_bytes();
        if target.first() == Some(&b'/') {
            done = PathBuf::from("/");
        }
        todo.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
    Ok(done)
}

fn explain(error: io::Error, container: &str, path: &str) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoSuchFile { path: path.to_owned(), container: container.to_owned() },
        _ => Error::Io { action: "look up", path: path.into(), source: error },
    }
}

/// Refuses read-only volumes, and the root file system when it is read-only.
fn check_writable(container: &Arc<Container>, path: &Path) -> Result<(), Error> {
    let record = container.record();
    let holding = record.points.iter().filter(|mount| path.starts_with(&mount.target));
    match holding.max_by_key(|mount| mount.target.len()) {
        Some(mount) if !mount.rw => Err(Error::invalid("mounted volume is marked read-only")),
        None if record.host_config.readonly_rootfs => Err(Error::invalid("container rootfs is marked read-only")),
        _ => Ok(()),
    }
}

/// The container's user by number; names are looked up in its own `/etc/passwd`, which is only ever read as text.
fn owner(root: &Root, container: &Container) -> Result<Option<(u32, u32)>, Error> {
    let record = container.record();
    let (user, group) = record.config.user.split_once(':').unwrap_or((&record.config.user, ""));
    if user.is_empty() {
        return Ok(None);
    }
    let unknown = |what: &str, name: &str| Error::invalid(format!("unable to find {what} {name}: no matching entries"));
    let passwd = text(root, "/etc/passwd").unwrap_or_default();
    let entry = lines(&passwd).find(|fields| fields[0] == user || fields.get(2) == Some(&user));
    let number = |entry: &[&str], at: usize| entry.get(at).and_then(|text| text.parse::<u32>().ok());
    let uid = match user.parse() {
        Ok(uid) => uid,
        Err(_) => entry.as_ref().and_then(|entry| number(entry, 2)).ok_or_else(|| unknown("user", user))?,
    };
    let gid = match group {
        "" => entry.and_then(|entry| number(&entry, 3)).unwrap_or(0),
        group => match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let groups = text(root, "/etc/group").unwrap_or_default();
                let found = lines(&groups).find(|fields| fields[0] == group);
                found.and_then(|entry| number(&entry, 2)).ok_or_else(|| unknown("group", group))?
            }
        },
    };
    Ok(Some((uid, gid)))
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn text(root: &Root, path: &str) -> io::Result<String> {
    let found = root.open(path, OFlags::PATH)?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found.as_fd()));
    let mut bytes = Vec::new();
    std::fs::File::open(name)?.take(MAX_PASSWD).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_keep_what_says_directory() {
        for (path, want, name) in [
            ("etc", "/etc", "etc"),
            ("/etc/", "/etc/", "etc"),
            ("/etc/.", "/etc/.", "."),
            ("../x/./y/..", "/x", "x"),
            ("/", "/", "/"),
            (".", "/.", "."),
        ] {
            let path = absolute(path);
            assert_eq!((path.as_str(), base(&path)), (want, name));
        }
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/run")).unwrap();
        symlink("/var/run/../nothing/x", dir.path().join("dangling")).unwrap();
        symlink("../../../../var", dir.path().join("up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = Root::open_at(dir.path()).unwrap();
        assert_eq!(follow(&root, "/dangling").unwrap(), Path::new("/var/nothing/x"));
        assert_eq!(follow(&root, "/up/run/").unwrap(), Path::new("/var/run"));
        assert!(follow(&root, "/loop").is_err());
        let up = stat(&root, "/up").unwrap();
        assert_eq!((up.link_target.as_str(), up.is_symlink()), ("/var", true));
        assert!(stat(&root, "/up/").unwrap().is_dir());
        assert_eq!(stat(&root, "/none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
