//! The root becomes `/`, and the host's tree is let go.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use budu_sys::mount::{self, Detached, attr};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{UnmountFlags, unmount};

use super::{CLONE_NEWNS, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, NewRoot, failed, has_own};
use crate::init::Failing;
use crate::plan::{Plan, Rootfs};

impl NewRoot {
    /// Makes it the root of this mount namespace and lets go of the old one.
    pub(in crate::init) fn enter(self, plan: &Plan) -> Failing<()> {
        for mount in &self.freeze {
            mount::set_attributes(mount.as_fd(), c"", attr::RDONLY, 0, 0, false)
                .map_err(failed("make a mount read-only"))?;
        }
        let readonly = match plan.rootfs {
            Rootfs::Overlay { readonly, .. } | Rootfs::Directory { readonly, .. } => readonly,
        };
        if readonly {
            mount::set_attributes(self.root.as_fd(), c"", attr::RDONLY, 0, 0, false)
                .map_err(failed("make the root read-only"))?;
        }
        if !has_own(plan, CLONE_NEWNS) {
            self.change_root()?;
        } else if plan.no_pivot {
            self.move_over()?;
        } else {
            self.pivot(plan)?;
        }
        let propagation = plan.rootfs_propagation;
        if propagation & (MS_SHARED | MS_UNBINDABLE) != 0 {
            mount::set_attributes(CWD, c"/", 0, 0, propagation & !MS_REC, propagation & MS_REC != 0)
                .map_err(failed("set the root's propagation"))?;
        }
        Ok(())
    }

    /// pivot_root(2).
    fn pivot(&self, plan: &Plan) -> Failing<()> {
        let what = failed("pivot_root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let old = open("/", flags, Mode::empty()).map_err(|e| what(e.into()))?;
        rustix::process::fchdir(&self.root).map_err(|e| what(e.into()))?;
        // With both names the same the old root is stacked on the new one, and is unmounted from there.
        rustix::process::pivot_root(".", ".").map_err(|e| what(e.into()))?;
        let what = failed("detach the old root");
        rustix::process::fchdir(&old).map_err(|e| what(e.into()))?;
        if plan.rootfs_propagation & MS_SHARED != 0 {
            // It is a peer of the host's root still, which must not lose its mounts with ours.
            mount::set_attributes(old.as_fd(), c"", 0, 0, MS_SLAVE, true).map_err(&what)?;
        }
        unmount(".", UnmountFlags::DETACH).map_err(|e| what(e.into()))?;
        rustix::process::chdir("/").map_err(|e| failed("enter the new root")(e.into()))
    }

    /// Without pivot_root(2): the root is moved over `/`, and what is below it
    /// stays in the mount namespace. A procfs or sysfs of the host that shows
    /// everything must not stay: it would let the container mount another one.
    fn move_over(&self) -> Failing<()> {
        let what = failed("hide the host's kernel file systems");
        for path in self.bare_kernel_mounts().map_err(&what)? {
            hide(&path).map_err(&what)?;
        }
        let what = failed("move the root over /");
        let old = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        mount::relocate(self.root.as_fd(), old.map_err(|e| what(e.into()))?.as_fd()).map_err(what)?;
        self.change_root()
    }

    fn change_root(&self) -> Failing<()> {
        let what = failed("chroot");
        rustix::process::fchdir(&self.root).map_err(|e| what(e.into()))?;
        rustix::process::chroot(".").map_err(|e| what(e.into()))?;
        rustix::process::chdir("/").map_err(|e| what(e.into()))
    }

    /// Mounts of whole procfs and sysfs instances outside the root, outermost first.
    fn bare_kernel_mounts(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = bare_kernel_mounts(&budu_sys::mount::table()?);
        found.retain(|path| !path.starts_with(&self.path));
        Ok(found)
    }
}

/// Whole procfs and sysfs instances in a mountinfo file.
pub(crate) fn bare_kernel_mounts(table: &[u8]) -> Vec<PathBuf> {
    table.split(|&b| b == b'\n').filter_map(bare_kernel_mount).collect()
}

/// Reads a line of mountinfo, proc_pid_mountinfo(5).
fn bare_kernel_mount(line: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let (root, point, kind) = (*fields.get(3)?, *fields.get(4)?, *fields.get(separator + 1)?);
    let bare = root == b"/" && (kind == b"proc" || kind == b"sysfs");
    bare.then(|| PathBuf::from(OsString::from_vec(unescape(point))))
}

/// `\040` and the like in mountinfo.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()).filter(|_| first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

fn hide(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let point = match open(path, flags, Mode::empty()) {
        // It went with one that it was mounted on.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match mount::set_attributes(point.as_fd(), c"", 0, 0, MS_SLAVE, true) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(()),
        other => other?,
    }
    match unmount(path, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        // Locked, in a user namespace: covered then.
        Err(_) => Detached::new("tmpfs", &[("source", Some(b"tmpfs"))], attr::RDONLY)?.attach(point.as_fd()).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines() {
        let line = b"23 27 0:22 / /my\\040sys rw,relatime shared:1 - sysfs sysfs rw";
        assert_eq!(bare_kernel_mount(line), Some(PathBuf::from("/my sys")));
        assert_eq!(bare_kernel_mount(b"23 27 0:22 /fs /sys/fs rw - sysfs sysfs rw"), None);
        assert_eq!(bare_kernel_mount(b"23 27 8:1 / / rw - ext4 /dev/sda rw"), None);
        assert_eq!(bare_kernel_mount(b""), None);
        assert_eq!(unescape(b"a\\134\\0x"), b"a\\\\0x");
    }
}
