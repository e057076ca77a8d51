//! The files of a container as it sees them, whether it runs or not.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use budu_image::RootFs;
use budu_sys::view::{Base, Part, View};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Container;
use super::mounts::Kind;
use super::record::Record;
use crate::{Engine, Error};

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Volumes and binds, too.
    pub(super) mounts: bool,
    /// To write to it. The caller holds the container's turn when it does not run.
    pub(super) write: bool,
}

/// Files that the engine mounts into every container.
const OWN: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

impl Engine {
    /// Opens the view.
    pub(super) fn view(&self, container: &Container, wish: Wish) -> Result<View, Error> {
        let record = container.record();
        let failed = Error::io("look at the files of container", Path::new(container.id.as_str()));
        if let Some(process) = Process::of(container) {
            let parts = if wish.mounts { inside(&record) } else { Vec::new() };
            let base = Base::Process { namespace: process.namespace.as_fd(), root: process.root.as_fd() };
            return View::open(&base, &parts).map_err(failed);
        }
        let parts = if wish.mounts { outside(&record) } else { Vec::new() };
        let rootfs = self.images().rootfs(container.id.as_str())?;
        if wish.write {
            return writable(&rootfs, &parts).map_err(failed);
        }
        let open = || -> io::Result<View> {
            // The writable layer is shown as one of those that are not: nobody else may have it mounted that way.
            let stack: Vec<PathBuf> = std::iter::once(&rootfs.upper).chain(&rootfs.lower).cloned().collect();
            let view = View::open(&Base::Layers { lower: &stack, upper: None }, &parts)?;
            if !view.is_partial() {
                return Ok(view);
            }
            // A mount point is missing: its first start would have made it.
            drop(view);
            match container.turn.try_lock() {
                Ok(_turn) if container.control().is_none() => drop(writable(&rootfs, &parts)?),
                _ => {}
            }
            View::open(&Base::Layers { lower: &stack, upper: None }, &parts)
        };
        open().map_err(failed)
    }
}

fn writable(rootfs: &RootFs, parts: &[Part]) -> io::Result<View> {
    View::open(&Base::Layers { lower: &rootfs.lower, upper: Some((&rootfs.upper, &rootfs.work)) }, parts)
}

/// A running container's first process, by descriptors.
struct Process {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl Process {
    /// `None` when it does not run. What the descriptors refer to is of the container for sure: a number that was
    /// given to another process meanwhile is in another group.
    fn of(container: &Container) -> Option<Process> {
        container.control()?;
        let pid = container.state().pid;
        if pid == 0 {
            return None;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        let read = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut groups = String::new();
        let file = openat(&proc, "cgroup", read, Mode::empty()).ok()?;
        File::from(file).take(64 << 10).read_to_string(&mut groups).ok()?;
        if !groups.contains(container.id.as_str()) {
            return None;
        }
        let namespace = openat(&proc, "ns/mnt", read, Mode::empty()).ok()?;
        let root = openat(&proc, "root", flags, Mode::empty()).ok()?;
        Some(Process { namespace, root })
    }
}

/// Where a running container has something mounted that users know of, parents first.
fn inside(record: &Record) -> Vec<Part> {
    let mounts = record.points.iter().map(|mount| mount.target.as_str());
    let mut targets: Vec<&str> = mounts.chain(OWN).collect();
    targets.sort_unstable_by_key(|target| (target.split('/').count(), *target));
    targets.dedup();
    targets.into_iter().map(|target| Part { target: target.into(), source: None, ..Part::default() }).collect()
}

/// What will be mounted in a container when it runs, from where it is on the host.
fn outside(record: &Record) -> Vec<Part> {
    let mut parts: Vec<Part> = record
        .points
        .iter()
        .filter(|mount| matches!(mount.kind, Kind::Bind | Kind::Volume) && Path::new(&mount.source).exists())
        .map(|mount| Part {
            target: mount.target.clone().into(),
            source: Some(mount.source.clone().into()),
            inside: mount.subpath.clone().into(),
            read_only: !mount.rw,
        })
        .collect();
    parts.sort_by_key(|part| part.target.components().count());
    parts
}
