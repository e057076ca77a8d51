//! The root file system itself: made, attached, cut off from the host.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use budu_sys::mount::{self, Detached};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{CLONE_NEWNS, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, failed, has_own, in_place};
use crate::init::Failing;
use crate::plan::{Plan, Rootfs};

/// Sees to it that nothing mounted from here on travels back to the host.
///
/// What stays: with a shared root, mounts go on being shared with the host,
/// because volumes that are to be shared are cloned from them.
pub(super) fn seal_host(plan: &Plan) -> Failing<()> {
    if !has_own(plan, CLONE_NEWNS) {
        return Ok(());
    }
    let propagation = match plan.rootfs_propagation {
        bits if bits & MS_SHARED != 0 => return Ok(()),
        bits if bits & (MS_SLAVE | MS_UNBINDABLE) != 0 => MS_SLAVE,
        bits if bits & MS_PRIVATE != 0 => MS_PRIVATE,
        _ if in_place(plan).is_some() => MS_SLAVE,
        _ => MS_PRIVATE,
    };
    mount::set_attributes(CWD, c"/", 0, 0, propagation, true).map_err(failed("cut the mounts off from the host"))
}

/// Makes the root file system, attached nowhere yet; `None` where only the
/// classic mount(2) can make it.
pub(super) fn make(plan: &Plan) -> Failing<Option<Detached>> {
    let what = "mount the root file system";
    match &plan.rootfs {
        Rootfs::Overlay { lower, upper, work, .. } => match overlay(lower, upper, work) {
            Ok(detached) => Ok(Some(detached)),
            // Linux 6.5 learned to take layers one by one.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(e) => Err(failed(what)(e)),
        },
        Rootfs::Directory { path, .. } => {
            let what = failed(&format!("{what} {}", path.display()));
            let detached = Detached::clone_of(CWD, path, true).map_err(&what)?;
            let slave = plan.rootfs_propagation & MS_SLAVE != 0;
            detached.set_attributes(0, 0, if slave { MS_SLAVE } else { MS_PRIVATE }, true).map_err(&what)?;
            Ok(Some(detached))
        }
    }
}

/// Attaches the root file system over its own directory or the run directory,
/// inside this mount namespace only.
pub(super) fn attach(plan: &Plan, root: Option<Detached>) -> Failing<OwnedFd> {
    let path = in_place(plan).unwrap_or(&plan.run_dir);
    let place = open(path).map_err(|e| failed(&format!("open {}", path.display()))(e.into()))?;
    if has_own(plan, CLONE_NEWNS) && plan.rootfs_propagation & MS_SHARED != 0 {
        part_holder(&place).map_err(failed("cut the root's mount off from the host"))?;
    }
    match (root, &plan.rootfs) {
        (Some(detached), _) => detached.attach(place.as_fd()),
        (None, Rootfs::Overlay { lower, upper, work, .. }) => classic_overlay(path, lower, upper, work),
        (None, Rootfs::Directory { .. }) => Err(io::ErrorKind::NotFound.into()),
    }
    .map_err(failed("attach the root file system"))
}

/// Makes the mount that holds `place` private: it may be a peer of the host's.
fn part_holder(place: &OwnedFd) -> io::Result<()> {
    let mut here = openat(place, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        match mount::set_attributes(here.as_fd(), c"", 0, 0, MS_PRIVATE, false) {
            // Not the top directory of a mount: the next above may be.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
            other => return other,
        }
        let above = openat(&here, "..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let (a, b) = (rustix::fs::fstat(&here)?, rustix::fs::fstat(&above)?);
        if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        here = above;
    }
}

fn open(dir: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn overlay(lower: &[PathBuf], upper: &Path, work: &Path) -> io::Result<Detached> {
    let mut parameters: Vec<mount::Parameter<'_>> = vec![("source", Some(b"overlay"))];
    parameters.extend(lower.iter().map(|dir| ("lowerdir+", Some(dir.as_os_str().as_bytes()))));
    parameters.push(("upperdir", Some(upper.as_os_str().as_bytes())));
    parameters.push(("workdir", Some(work.as_os_str().as_bytes())));
    Detached::new("overlay", &parameters, 0)
}

/// The same through mount(2), whose options must fit one page: directories are
/// named by descriptor, which also spares any quoting.
fn classic_overlay(place: &Path, lower: &[PathBuf], upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    let layers = lower.iter().map(|dir| open(dir)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower = layers.iter().map(name).collect::<Vec<_>>().join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", name(&upper), name(&work));
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("overlay", place, "overlay", rustix::mount::MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(open(place)?)
}
