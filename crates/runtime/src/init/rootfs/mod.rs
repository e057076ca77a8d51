//! The container's file systems: built from descriptors, then made the root.
//!
//! Two orders exist. The engine's plans have all sources on the host: they are
//! taken before the root is attached, so that the root hides nothing. A bundle's
//! root is attached *in place*, over its own directory: sources are taken one
//! by one, because a mount may show what an earlier one brought.

mod attributes;
mod devices;
mod enter;
mod idmap;
mod layers;
mod mounts;
mod place;
mod protect;
mod source;
mod sysctl;
mod top;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use budu_sys::mount;
use budu_sys::rooted::Root;
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs};

use super::Failing;
use crate::plan::{Plan, Rootfs};
use crate::protocol::{Failure, FailureClass};

pub(crate) use enter::{bare_kernel_mounts, unescape};
pub(crate) use source::lend;

pub(super) const MS_REC: u64 = 0x4000;
pub(super) const MS_UNBINDABLE: u64 = 1 << 17;
pub(super) const MS_PRIVATE: u64 = 1 << 18;
pub(super) const MS_SLAVE: u64 = 1 << 19;
pub(super) const MS_SHARED: u64 = 1 << 20;

pub(super) const CLONE_NEWNS: u64 = 0x0002_0000;
pub(super) const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub(super) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(super) const CLONE_NEWPID: u64 = 0x2000_0000;

/// `f_type` of statfs(2).
pub(super) const PROC_MAGIC: i64 = 0x9fa0;
pub(super) const SYSFS_MAGIC: i64 = 0x6265_6572;
pub(super) const DEVPTS_MAGIC: i64 = 0x1cd1;

/// The container's root, mounted but not yet entered.
pub(super) struct NewRoot {
    root: Root,
    /// Where it is in this mount namespace, to tell where resolved paths ended.
    path: PathBuf,
    /// The procfs of the container's pid namespace, if it has one: system
    /// parameters are written through this very mount.
    proc: Option<OwnedFd>,
    /// Its devpts, where terminals come from.
    pub(super) devpts: Option<OwnedFd>,
    /// Mounts that become read-only once all mount points below them are made.
    freeze: Vec<OwnedFd>,
    /// Devices of file systems that are the container's own.
    own: Vec<u64>,
    /// Where the host shows the container's cgroup, on version 2.
    group: Option<PathBuf>,
}

/// Words an I/O error: `what: error`.
pub(super) fn failed(what: &str) -> impl Fn(io::Error) -> Failure + use<> {
    let what = what.to_owned();
    move |error| Failure { class: FailureClass::Internal, message: format!("{what}: {}", mount::reason(&error)) }
}

/// A failure without an errno.
pub(super) fn refused(message: String) -> Failure {
    Failure { class: FailureClass::Internal, message }
}

/// Whether the container is in a namespace of this kind (CLONE_NEW* bit) that is not the host's.
pub(super) fn has_own(plan: &Plan, kind: u64) -> bool {
    plan.namespaces.join.iter().fold(plan.namespaces.new, |bits, (bit, _)| bits | bit) & kind != 0
}

/// The root's directory, when it is attached over itself (a bundle's).
pub(super) fn in_place(plan: &Plan) -> Option<&Path> {
    match &plan.rootfs {
        Rootfs::Directory { path, in_place: true, .. } => Some(path),
        _ => None,
    }
}

/// File system type of an open file.
pub(super) fn kind_of(file: impl std::os::fd::AsFd) -> io::Result<i64> {
    Ok(fstatfs(file)?.f_type as i64)
}

/// Builds the whole tree; `lent` is what the parent prepared with [`lend`],
/// `group` where the host shows the container's cgroup, if it is one of version 2.
/// With a mount namespace of its own nothing of it is visible to the host.
pub(super) fn build(
    plan: &Plan,
    hierarchies: &[String],
    group: Option<PathBuf>,
    lent: Vec<(u16, OwnedFd)>,
) -> Failing<NewRoot> {
    // Mount points have the permissions that are written here, whoever started us.
    let umask = rustix::process::umask(Mode::empty());
    let built = build_tree(plan, hierarchies, group, lent.into_iter().collect());
    rustix::process::umask(umask);
    built
}

fn build_tree(
    plan: &Plan,
    hierarchies: &[String],
    group: Option<PathBuf>,
    mut lent: BTreeMap<u16, OwnedFd>,
) -> Failing<NewRoot> {
    // The root is made first, so that mount tables begin with it, but attached
    // last: as long as it is somewhere in the host's tree it must neither hide
    // a part of what the host lends nor be found in it.
    let (root, mut early) = if in_place(plan).is_some() {
        top::seal_host(plan)?;
        (top::make(plan)?, Vec::new())
    } else {
        let root = top::make(plan)?;
        let sources = (0u16..).zip(&plan.mounts).map(|(number, mount)| {
            source::take(plan, number, lent.remove(&number)).map_err(|e| mounts::about(mount, e))
        });
        let sources = sources.collect::<Failing<Vec<_>>>()?;
        // Taken before: a volume that shares what is mounted below it with the host goes on doing so.
        top::seal_host(plan)?;
        (root, sources)
    };
    early.reverse();
    let attached = top::attach(plan, root)?;
    let path = place::path_of(&attached).map_err(failed("find the root file system"))?;
    let root = Root::new(attached);
    let mut new = NewRoot { root, path, proc: None, devpts: None, freeze: Vec::new(), own: Vec::new(), group };
    for (number, mount) in (0u16..).zip(&plan.mounts) {
        let source = match early.pop() {
            Some(early) => Ok(early),
            None => source::take(plan, number, lent.remove(&number)),
        };
        source.and_then(|source| new.mount(plan, mount, source, hierarchies)).map_err(|e| mounts::about(mount, e))?;
    }
    new.make_devices(plan)?;
    if new.devpts.is_none() {
        new.devpts = new.find_devpts();
    }
    Ok(new)
}

impl NewRoot {
    /// Makes the directory the program starts in while the root can still be
    /// written to. Whoever enters it later tells what was wrong.
    pub(super) fn make_directory(&self, path: &str) {
        let _ = self.root.reach(path, budu_sys::rooted::Missing::MakeDirectory);
    }

    /// The devpts that came with another mount, such as all of /dev.
    fn find_devpts(&self) -> Option<OwnedFd> {
        let found = self.root.open("/dev/pts", OFlags::PATH | OFlags::DIRECTORY).ok()?;
        (kind_of(&found).ok()? == DEVPTS_MAGIC).then_some(found)
    }
}

/// Whether this is the null device, character 1:3, and nothing that looks like it.
pub(super) fn is_null(file: &OwnedFd) -> io::Result<bool> {
    let stat = fstat(file)?;
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(character && stat.st_rdev == rustix::fs::makedev(1, 3))
}
