//! Where a mount goes: a descriptor inside the root, found and checked once.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use budu_sys::rooted::Missing;
use rustix::fs::{FileType, fstat};

use super::{NewRoot, PROC_MAGIC, failed, kind_of, refused};
use crate::init::Failing;

/// What of /proc may be covered: files that lxcfs shows a container's share in.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The top inode of every procfs.
const PROC_ROOT_INODE: u64 = 1;

/// What is going to be mounted, as far as it decides where it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// procfs or sysfs: a fresh instance, or the host's in its place.
    Kernel,
    /// A bind mount of something inside a procfs.
    FromProc,
    /// Anything else.
    Other,
}

/// Where an open file is, according to the kernel.
pub(super) fn path_of(file: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Cleans a path of the container without looking at files: absolute, no `.` or `..`.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// Whether something may be mounted at a (resolved) path.
fn check_proc(path: &Path, guest: Guest, covers_proc: bool) -> Result<(), String> {
    if path == Path::new("/proc") {
        return match guest {
            Guest::Other => Err(format!("{path:?} cannot be mounted because it is not of type proc")),
            _ => Ok(()),
        };
    }
    if (covers_proc || path.starts_with("/proc")) && !COVERABLE.iter().any(|known| Path::new(known) == path) {
        return Err(format!("{path:?} cannot be mounted because it is inside /proc"));
    }
    Ok(())
}

impl NewRoot {
    /// Finds, or makes, the mount point of procfs or sysfs: a real directory,
    /// which no image may have replaced by a link to somewhere else.
    pub(super) fn place_kernel(&self, target: &Path, kind: &str) -> Failing<OwnedFd> {
        let target = clean(target);
        check_proc(&target, if kind == "proc" { Guest::Kernel } else { Guest::Other }, false).map_err(refused)?;
        let what = failed("make its mount point");
        let found = self.root.reach_itself(&target, Missing::MakeDirectory).map_err(&what)?;
        let stat = fstat(&found).map_err(|e| what(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(refused(format!("filesystem {kind:?} must be mounted on ordinary directory")));
        }
        self.check(&found, if kind == "proc" { Guest::Kernel } else { Guest::Other })?;
        Ok(found)
    }

    /// Finds, or makes, any other mount point; links are followed inside the root.
    pub(super) fn place(&self, target: &Path, missing: Missing, guest: Guest) -> Failing<OwnedFd> {
        let found = self.root.reach(target, missing).map_err(failed("make its mount point"))?;
        self.check(&found, guest)?;
        Ok(found)
    }

    fn check(&self, found: &OwnedFd, guest: Guest) -> Failing<()> {
        let what = failed("find its mount point");
        let path = path_of(found).map_err(&what)?;
        let Ok(inside) = path.strip_prefix(&self.path) else {
            return Err(refused(format!("mountpoint {path:?} is outside of rootfs {:?}", self.path)));
        };
        if inside.as_os_str().is_empty() {
            return Err(refused(format!("mountpoint {path:?} is on the top of rootfs {:?}", self.path)));
        }
        // Names are told by the kernel and may change while we look; a file of
        // procfs cannot hide that it is one.
        let in_proc = kind_of(found).map_err(&what)? == PROC_MAGIC;
        let covers = in_proc && fstat(found).map_err(|e| what(e.into()))?.st_ino != PROC_ROOT_INODE;
        check_proc(&Path::new("/").join(inside), guest, covers).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_text() {
        for (given, wanted) in [("/a/./b//c/", "/a/b/c"), ("a/../../b", "/b"), ("/..", "/"), ("", "/")] {
            assert_eq!(clean(Path::new(given)), Path::new(wanted));
        }
    }

    #[test]
    fn proc_is_covered_by_nothing_but_proc() {
        let check = |path: &str, guest, covers| check_proc(Path::new(path), guest, covers);
        assert!(check("/proc", Guest::Kernel, false).is_ok());
        assert!(check("/proc", Guest::FromProc, false).is_ok());
        assert!(check("/proc", Guest::Other, false).unwrap_err().contains("not of type proc"));
        for path in ["/proc/self/attr", "/proc/sys", "/proc/meminfo/x"] {
            assert!(check(path, Guest::Other, false).unwrap_err().contains("inside /proc"), "{path}");
        }
        assert!(check("/link", Guest::Other, true).is_err());
        for path in ["/proc/meminfo", "/process", "/data/proc/x"] {
            assert!(check(path, Guest::Other, false).is_ok(), "{path}");
        }
        assert!(check("/proc/uptime", Guest::Other, true).is_ok());
    }
}
