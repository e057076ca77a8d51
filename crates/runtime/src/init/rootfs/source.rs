//! What a bind mount shows: a part of the host's tree, cloned.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use budu_sys::mount::Detached;
use budu_sys::process;
use budu_sys::rooted::{Missing, Root};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat};

use super::{CLONE_NEWUSER, MS_SLAVE, failed, has_own, idmap, in_place};
use crate::init::Failing;
use crate::plan::{MountSource, Plan, is_descriptor};

const CLONE_NEWNS: i32 = 0x0002_0000;
const MAP: &str = "show its owners through the id map";

/// A detached clone.
pub(super) struct Source {
    pub(super) mount: Detached,
    /// What its mount point is made as.
    pub(super) missing: Missing,
    /// It came from a process with more privileges: options of the host's
    /// mount that the container could not drop itself stay.
    pub(super) locked: bool,
}

/// Takes the source of bind mount `number`; `None` for mounts of other kinds.
/// `lent` is what the parent gave for it: a clone of what cannot be reached
/// from here, or the socket of [`idmap::serve`].
pub(super) fn take(plan: &Plan, number: u16, lent: Option<OwnedFd>) -> Failing<Option<Source>> {
    let mount = &plan.mounts[usize::from(number)];
    let (path, recursive) = match &mount.source {
        MountSource::Bind { path, recursive } => (path, recursive),
        MountSource::Inside { root, path } => {
            let own = clone_inside(root, path).map_err(failed(&root.join(path).display().to_string()))?;
            return Source::of(own, false).map(Some);
        }
        _ => return Ok(None),
    };
    let what = failed(&path.display().to_string());
    let (clone, locked) = match (&mount.idmap, lent) {
        (Some(_), Some(socket)) if is_inside(plan, path) => {
            let own = clone_path(path, *recursive).map_err(&what)?;
            idmap::ask(&socket, number, &own).map_err(failed(MAP))?;
            (own, false)
        }
        (Some(_), Some(lent)) => (Detached::received(lent), has_own(plan, CLONE_NEWUSER)),
        (Some(map), None) => {
            let own = clone_path(path, *recursive).map_err(&what)?;
            idmap::apply(&own, map, None).map_err(failed(MAP))?;
            (own, false)
        }
        (None, lent) => match (clone_path(path, *recursive), lent) {
            (Ok(own), _) => (own, false),
            (Err(_), Some(lent)) => (Detached::received(lent), has_own(plan, CLONE_NEWUSER)),
            (Err(error), None) => return Err(what(error)),
        },
    };
    Source::of(clone, locked).map(Some)
}

impl Source {
    pub(super) fn of(mount: Detached, locked: bool) -> Failing<Source> {
        let stat = fstat(&mount).map_err(|e| failed("look at the source")(e.into()))?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let missing = if directory { Missing::MakeDirectory } else { Missing::MakeFile };
        Ok(Source { mount, missing, locked })
    }
}

/// Makes the mounts that the parent must prepare: number in the plan, detached
/// mount. `userns` is the container's user namespace, if it has one. What
/// cannot be taken here either is left out: the first process says why.
pub(crate) fn lend(plan: &Plan, userns: Option<BorrowedFd<'_>>) -> Failing<Vec<(u16, OwnedFd)>> {
    let mut lent = Vec::new();
    let mut socket: Option<OwnedFd> = None;
    for (number, mount) in (0u16..).zip(&plan.mounts) {
        let MountSource::Bind { path, recursive } = &mount.source else { continue };
        let about = |what: &str| {
            let what = failed(what);
            move |error: io::Error| super::mounts::about(mount, what(error))
        };
        // What lies in the root can be there only once other mounts are.
        if is_inside(plan, path) {
            if let (Some(container), Some(_)) = (userns, &mount.idmap) {
                if socket.is_none() {
                    socket = Some(idmap::serve(plan, container).map_err(about(MAP))?);
                }
                let copy = socket.as_ref().map(OwnedFd::try_clone).transpose();
                lent.extend(copy.map_err(about(MAP))?.map(|copy| (number, copy)));
            }
            continue;
        }
        let foreign = mount.source.of_process();
        if userns.is_none() && mount.idmap.is_none() && !is_descriptor(path) && foreign.is_none() {
            continue;
        }
        let clone = match foreign {
            Some((pid, inside)) => clone_of_process(pid, inside, *recursive),
            None => clone_path(path, *recursive),
        };
        let Ok(clone) = clone else { continue };
        if userns.is_some() {
            // Whoever rules the container's user namespace must not mount on the host.
            clone.set_attributes(0, 0, MS_SLAVE, true).map_err(about("cut the source off from the host"))?;
        }
        if let Some(map) = &mount.idmap {
            idmap::apply(&clone, map, userns).map_err(about(MAP))?;
        }
        lent.push((number, clone.into_fd()));
    }
    Ok(lent)
}

/// Whether a source lies in the root of the container itself.
fn is_inside(plan: &Plan, path: &Path) -> bool {
    in_place(plan).is_some_and(|root| path.starts_with(root))
}

/// Clones what is below a directory, as it is found once and held.
fn clone_inside(root: &Path, path: &Path) -> io::Result<Detached> {
    let found = Root::open_at(root)?.open(path, OFlags::PATH)?;
    Detached::clone_of(found.as_fd(), Path::new(""), true)
}

fn clone_path(path: &Path, recursive: bool) -> io::Result<Detached> {
    match Detached::clone_of(CWD, path, recursive) {
        // In a mount namespace other than where it was opened.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput && is_descriptor(path) => clone_opened(path, recursive),
        other => other,
    }
}

/// Clones what lies in another process's tree. Only from inside its mount
/// namespace it may be cloned; paths are resolved below its root, whatever
/// links are in the way.
fn clone_of_process(pid: u32, path: &Path, recursive: bool) -> io::Result<Detached> {
    let open = |path: &str| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let (own, host) = (open("/proc/self/ns/mnt")?, open("/")?);
    let (there, root) = (open(&format!("/proc/{pid}/ns/mnt"))?, open(&format!("/proc/{pid}/root"))?);
    let found = Root::new(root).open(path, OFlags::PATH)?;
    process::setns(there.as_fd(), CLONE_NEWNS)?;
    let clone = Detached::clone_of(found.as_fd(), Path::new(""), recursive);
    process::setns(own.as_fd(), CLONE_NEWNS)?;
    rustix::process::fchdir(&host)?;
    clone
}

/// Clones what a descriptor refers to that was opened in another mount
/// namespace: by its name here, if that is the very same file.
fn clone_opened(path: &Path, recursive: bool) -> io::Result<Detached> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    let name = std::fs::read_link(path)?;
    let here = rustix::fs::open(&name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let (there, this) = (fstat(&opened)?, fstat(&here)?);
    if (there.st_dev, there.st_ino) != (this.st_dev, this.st_ino) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Detached::clone_of(here.as_fd(), Path::new(""), recursive)
}
