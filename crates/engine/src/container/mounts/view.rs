//! A container's root before it ever runs, to look at: its layers, mounted nowhere, read-only.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use budu_image::RootFs;
use budu_sys::mount::{Detached, Parameter};
use budu_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Opens the view. It ends with the last descriptor of it. `place` is an empty directory for kernels that can mount
/// only somewhere.
pub(super) fn open(rootfs: &RootFs, place: &Path) -> io::Result<Root> {
    // The writable layer is one more to read from: overlayfs wants two at least, and it has what is to be seen.
    let layers: Vec<&Path> = std::iter::once(&rootfs.upper).chain(&rootfs.lower).map(|dir| dir.as_path()).collect();
    let mut parameters: Vec<Parameter<'_>> = vec![("source", Some(b"overlay"))];
    parameters.extend(layers.iter().map(|dir| ("lowerdir+", Some(dir.as_os_str().as_bytes()))));
    match Detached::new("overlay", &parameters, budu_sys::mount::attr::RDONLY) {
        Ok(detached) => Ok(Root::new(detached.into_fd())),
        // Linux 6.5 learned to take layers one by one.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => classic(&layers, place),
        Err(e) => Err(e),
    }
}

fn classic(layers: &[&Path], place: &Path) -> io::Result<Root> {
    let open = |dir: &Path| -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    };
    let held = layers.iter().map(|dir| open(dir)).collect::<io::Result<Vec<_>>>()?;
    let names: Vec<String> = held.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")))?;
    mount("overlay", place, "overlay", MountFlags::RDONLY, Some(options.as_c_str()))?;
    let root = open(place);
    unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    Ok(Root::new(root?))
}
