//! The files of an image as a mount: its layers, read-only, or a part of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use budu_sys::mount::{self, Detached, attr};
use budu_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

/// Mounts layers, topmost first, and takes what is at `inside` of them. Where the kernel can do that only with an
/// attached mount, it is attached over `root` for a moment.
pub(super) fn take(lower: &[PathBuf], inside: &Path, root: &Root) -> io::Result<Detached> {
    let mut parameters: Vec<mount::Parameter<'_>> = vec![("source", Some(b"overlay"))];
    parameters.extend(lower.iter().map(|dir| ("lowerdir+", Some(dir.as_os_str().as_bytes()))));
    let whole = match Detached::new("overlay", &parameters, attr::RDONLY) {
        Ok(whole) => whole,
        // Linux 6.5 learned to take layers one by one.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => return classic(lower, inside, root),
        Err(e) => return Err(e),
    };
    if inside.as_os_str().is_empty() {
        return Ok(whole);
    }
    let whole = whole.into_fd();
    match part(&whole, inside) {
        // Linux 6.15 learned to clone parts of what is attached nowhere.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            let attached = Detached::received(whole).attach(root.as_fd())?;
            let taken = part(&attached, inside);
            detach(&attached)?;
            taken
        }
        other => other,
    }
}

/// Clones what is at `inside` of a mount; links lead nowhere out of it.
fn part(whole: &OwnedFd, inside: &Path) -> io::Result<Detached> {
    let found = Root::new(whole.try_clone()?).open(inside, OFlags::PATH)?;
    Detached::clone_of(found.as_fd(), Path::new(""), false)
}

fn detach(attached: &OwnedFd) -> io::Result<()> {
    Ok(unmount(format!("/proc/self/fd/{}", attached.as_raw_fd()), UnmountFlags::DETACH)?)
}

/// The same through mount(2), whose options must fit one page: directories are named by descriptor.
fn classic(lower: &[PathBuf], inside: &Path, root: &Root) -> io::Result<Detached> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = lower.iter().map(|dir| rustix::fs::open(dir, flags, Mode::empty())).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = held.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")))?;
    let place = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    rustix::mount::mount("overlay", place.as_str(), "overlay", MountFlags::RDONLY, Some(options.as_c_str()))?;
    // What lies on top of a place is found by going up to it from somewhere else.
    let path = std::fs::read_link(&place)?;
    let attached = rustix::fs::open(&path, flags, Mode::empty())?;
    let taken = match inside.as_os_str().is_empty() {
        true => Detached::clone_of(attached.as_fd(), Path::new(""), false),
        false => part(&attached, inside),
    };
    detach(&attached)?;
    taken
}
