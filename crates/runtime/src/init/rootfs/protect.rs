//! Paths hidden and paths made read-only.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use budu_sys::mount::{Detached, attr};
use rustix::fs::{FileType, Mode, OFlags, fstat};

use super::mounts::Label;
use super::place::clean;
use super::{MS_PRIVATE, NewRoot, failed, is_null, refused};
use crate::init::Failing;
use crate::plan::Plan;

impl NewRoot {
    /// Hides and freezes the paths the plan names. Paths that do not exist are skipped.
    pub(in crate::init) fn protect(&self, plan: &Plan) -> Failing<()> {
        for path in &plan.readonly_paths {
            self.make_readonly(path).map_err(failed(&format!("make {path} read-only")))?;
        }
        let mut covers = Covers { null: None, empty: None, label: Label::of(plan) };
        let mut done = BTreeSet::new();
        for path in &plan.masked_paths {
            let Some(target) = self.existing(path).map_err(failed(&format!("can't mask path {path:?}")))? else {
                continue;
            };
            if done.insert(clean(Path::new(path))) {
                self.mask(&target, &mut covers).map_err(|e| e.about(&format!("can't mask path {path:?}")))?;
            }
        }
        Ok(())
    }

    /// Opens what is at a path; `None` when nothing is. Anything else that
    /// keeps us from looking is an error, as is a link to nothing, which may be
    /// something soon: what cannot be hidden must not be started.
    fn existing(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let missing = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        match self.root.open(path, OFlags::PATH) {
            Ok(found) => Ok(Some(found)),
            Err(e) if missing(&e) => match self.root.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
                Err(again) if missing(&again) => Ok(None),
                _ => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    fn make_readonly(&self, path: &str) -> io::Result<()> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let copy = Detached::clone_of(target.as_fd(), Path::new(""), true)?;
        match copy.set_attributes(attr::RDONLY, 0, MS_PRIVATE, true) {
            // A file system below it that cannot be read-only must not keep the rest writable.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                copy.set_attributes(attr::RDONLY, 0, MS_PRIVATE, false)?;
            }
            other => other?,
        }
        copy.attach(target.as_fd()).map(drop)
    }

    fn mask(&self, target: &OwnedFd, covers: &mut Covers<'_>) -> Failing<()> {
        let what = failed("cover it");
        let kind = FileType::from_raw_mode(fstat(target).map_err(|e| what(e.into()))?.st_mode);
        if kind == FileType::Directory {
            let cover = covers.directory().map_err(&what)?;
            let attached = cover.attach(target.as_fd()).map_err(&what)?;
            covers.empty.get_or_insert(attached);
            return Ok(());
        }
        if covers.null.is_none() {
            covers.null = Some(self.null()?);
        }
        let null = covers.null.as_ref().map(AsFd::as_fd).expect("it was found above");
        let cover = Detached::clone_of(null, Path::new(""), false).map_err(&what)?;
        cover.attach(target.as_fd()).map(drop).map_err(&what)
    }

    /// The container's null device; the host's, if it has none. What pretends
    /// to be one would be mounted over the path instead of hiding it.
    fn null(&self) -> Failing<OwnedFd> {
        let what = failed("open /dev/null");
        let (null, whose) = match self.existing("/dev/null").map_err(&what)? {
            Some(own) => (own, "container"),
            None => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                (rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(|e| what(e.into()))?, "host")
            }
        };
        if is_null(&null).map_err(&what)? {
            return Ok(null);
        }
        Err(refused(format!("{whose}'s /dev/null is invalid: it is not character device 1:3")))
    }
}

/// What paths are covered with.
struct Covers<'a> {
    /// For files.
    null: Option<OwnedFd>,
    /// For directories: one empty file system for all.
    empty: Option<OwnedFd>,
    label: Label<'a>,
}

impl Covers<'_> {
    fn directory(&self) -> io::Result<Detached> {
        // Linux before 6.15 clones it only where it is attached.
        if let Some(empty) = &self.empty {
            return Detached::clone_of(empty.as_fd(), Path::new(""), false);
        }
        let label = self.label.for_new("tmpfs");
        let mut parameters: Vec<(&str, Option<&[u8]>)> =
            vec![("source", Some(b"tmpfs")), ("nr_blocks", Some(b"1")), ("nr_inodes", Some(b"1"))];
        parameters.extend(label.iter().map(|(key, value)| (key.as_str(), value.as_deref().map(str::as_bytes))));
        Detached::new("tmpfs", &parameters, attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
    }
}
