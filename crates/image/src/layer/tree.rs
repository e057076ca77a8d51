//! A directory that nothing escapes from.
//!
//! Paths are walked one component at a time through descriptors opened without following links;
//! a link met on the way is resolved here, with `/` and `..` meaning what they mean to a process
//! whose root is this directory. The kernel is never given more than one component of a name, so
//! there is nothing for it to resolve elsewhere. Nobody else writes to the directory meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, XattrFlags, fsetxattr, mkdirat, openat, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use super::Fault;

/// Marks a directory that hides what lies below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Deepest directory: far beyond any real tree, and below the descriptors that deleting one takes.
const MAX_DEPTH: usize = 256;
const MAX_LINKS: u32 = 40;
/// Parent directories kept open; archives are written directory by directory.
const MAX_OPEN: usize = 64;

/// The directory being filled.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    /// By the parent's path as entries spell it.
    open: HashMap<Vec<u8>, Place>,
    /// Directories no entry described so far, by their real path.
    pub(crate) implied: BTreeSet<Vec<u8>>,
    /// The root itself has no entry so far.
    pub(crate) root_implied: bool,
}

/// An open directory and its real path from the root, without links.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    directory: Rc<OwnedFd>,
    path: Rc<[u8]>,
}

impl Place {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The real path of `name` in this directory.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether `stat` is overlayfs' whiteout: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What `name` in a directory is, without following it.
pub(crate) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens the directory `name`; a link or anything else is an error.
pub(crate) fn open_directory(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(directory, name, DIRECTORY, Mode::empty())
}

/// Opens the top of an existing tree by the store's own path.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, DIRECTORY, Mode::empty())?)
}

/// Makes a directory opaque.
pub(crate) fn set_opaque(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

impl Tree {
    /// Fills the existing directory `path`.
    pub(crate) fn new(path: &Path) -> io::Result<Tree> {
        Ok(Tree { root: Rc::new(open_root(path)?), open: HashMap::new(), implied: BTreeSet::new(), root_implied: true })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn top(&self) -> Place {
        Place { directory: Rc::clone(&self.root), path: Rc::from(&b""[..]) }
    }

    /// The directory at `path` (components joined by `/`, no `.` or `..`), made with everything
    /// above it where it is missing.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<Place, Fault> {
        if path.is_empty() {
            return Ok(self.top());
        }
        if let Some(place) = self.open.get(path) {
            return Ok(place.clone());
        }
        let place = match path.iter().rposition(|&byte| byte == b'/') {
            // Most directories' parents were just used.
            Some(slash) if self.open.contains_key(&path[..slash]) => {
                let parent = self.open[&path[..slash]].clone();
                self.walk(parent, &path[slash + 1..], true)?
            }
            _ => self.walk(self.top(), path, true)?,
        };
        let place = place.ok_or_else(|| Fault::refused(path, "its directory cannot be made"))?;
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), place.clone());
        Ok(place)
    }

    /// The directory at `path` if there is one.
    pub(crate) fn existing(&mut self, path: &[u8]) -> Result<Option<Place>, Fault> {
        if let Some(place) = self.open.get(path) {
            return Ok(Some(place.clone()));
        }
        self.walk(self.top(), path, false)
    }

    /// Walks from `place` along `path` as a process with this root would.
    fn walk(&mut self, place: Place, path: &[u8], make: bool) -> Result<Option<Place>, Fault> {
        let mut place = place;
        let mut links = 0;
        // Components still to go, the next one last.
        let mut left: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect();
        while let Some(name) = left.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place = self.parent(&place).map_err(|source| Fault::write(path, source))?;
                    continue;
                }
                _ => {}
            }
            match open_directory(place.fd(), &name) {
                Ok(directory) => {
                    place = self.deeper(&place, &name, directory)?;
                }
                Err(Errno::NOENT) if make => {
                    place = self.make(&place, &name, false)?;
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = match readlinkat(place.fd(), name.as_slice(), Vec::new()) {
                        Ok(target) => target.into_bytes(),
                        Err(Errno::INVAL) if make => {
                            place = self.replace_whiteout(&place, &name)?;
                            continue;
                        }
                        Err(Errno::INVAL) => return Ok(None),
                        Err(error) => return Err(Fault::write(path, error)),
                    };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Fault::refused(path, "too many levels of symbolic links"));
                    }
                    if target.first() == Some(&b'/') {
                        place = self.top();
                    }
                    left.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                }
                Err(error) => return Err(Fault::write(path, error)),
            }
        }
        Ok(Some(place))
    }

    fn deeper(&self, place: &Place, name: &[u8], directory: OwnedFd) -> Result<Place, Fault> {
        let path = place.path_of(name);
        if path.iter().filter(|&&byte| byte == b'/').count() >= MAX_DEPTH {
            return Err(Fault::refused(&path, "directories are nested too deeply"));
        }
        Ok(Place { directory: Rc::new(directory), path: path.into() })
    }

    /// The directory above, found again from the root along real names.
    fn parent(&self, place: &Place) -> rustix::io::Result<Place> {
        let path = match place.path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => &place.path[..slash],
            None => return Ok(self.top()),
        };
        let mut directory = Rc::clone(&self.root);
        for name in path.split(|&byte| byte == b'/') {
            directory = Rc::new(open_directory(directory.as_fd(), name)?);
        }
        Ok(Place { directory, path: path.into() })
    }

    /// Makes a directory that the archive only implies. Its attributes come from the layers
    /// below, unless it was deleted from them.
    fn make(&mut self, place: &Place, name: &[u8], hides: bool) -> Result<Place, Fault> {
        let path = place.path_of(name);
        let failed = |source: Errno| Fault::write(&path, source);
        mkdirat(place.fd(), name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let directory = open_directory(place.fd(), name).map_err(failed)?;
        if hides {
            set_opaque(directory.as_fd()).map_err(|source| Fault::write(&path, source))?;
        }
        let place = self.deeper(place, name, directory)?;
        if !hides {
            self.implied.insert(path);
        }
        Ok(place)
    }

    fn replace_whiteout(&mut self, place: &Place, name: &[u8]) -> Result<Place, Fault> {
        let path = place.path_of(name);
        let failed = |source: io::Error| Fault::write(&path, source);
        match look(place.fd(), name).map_err(failed)? {
            Some(stat) if is_whiteout(&stat) => {
                unlinkat(place.fd(), name, AtFlags::empty()).map_err(|error| failed(error.into()))?;
                self.make(place, name, true)
            }
            _ => Err(Fault::refused(&path, "something that is not a directory is in its way")),
        }
    }

    /// Removes `name`, with everything in it when it is a directory.
    pub(crate) fn remove(&mut self, place: &Place, name: &[u8]) -> io::Result<()> {
        // Cached directories may lie inside what goes or be reached through it.
        self.open.clear();
        crate::trash::delete_at(place.fd(), name)
    }
}
