//! The container's file systems: built from descriptors, then made the root.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use budu_sys::mount::{self, Detached, attr};
use budu_sys::rooted::{Missing, Root};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mknodat, openat, symlinkat};

use super::{Failing, cgroupfs, failed};
use crate::plan::{DevicePlan, MountPlan, MountSource, Plan, Rootfs};

const MS_REC: u64 = 0x4000;
const MS_PRIVATE: u64 = 1 << 18;

/// The container's root, mounted but not yet entered.
pub(super) struct NewRoot {
    root: Root,
    /// The procfs of the container's pid namespace, if it has one: system
    /// parameters are written through this very mount.
    proc: Option<OwnedFd>,
    /// Its devpts, where terminals come from.
    pub(super) devpts: Option<OwnedFd>,
}

/// Makes the mounts that the parent must prepare: number in the plan, detached mount.
pub(crate) fn lend(_plan: &Plan, _userns: Option<BorrowedFd<'_>>) -> Failing<Vec<(u16, OwnedFd)>> {
    Ok(Vec::new())
}

/// Builds the whole tree below a private mount point; `lent` is what the
/// parent prepared with [`lend`].
pub(super) fn build(plan: &Plan, hierarchies: &[String], _lent: Vec<(u16, OwnedFd)>) -> Failing<NewRoot> {
    // Nothing mounted from here on may travel back to the host.
    mount::set_attributes(CWD, c"/", 0, 0, MS_PRIVATE, true).map_err(failed("make the mounts private"))?;
    let about = |mount: &MountPlan| format!("mount {}", mount.target);
    // The root is made first, so that mount tables begin with it, but attached
    // last: as long as it is somewhere in the host's tree it must neither hide
    // a part of what the host lends nor be found in it.
    let root = make_root(plan)?;
    let clones = plan.mounts.iter().map(|mount| clone_source(mount).map_err(|e| e.about(&about(mount))));
    let clones = clones.collect::<Failing<Vec<_>>>()?;
    let top = attach_root(plan, root)?;
    let mut new = NewRoot { root: Root::new(top), proc: None, devpts: None };
    for (mount, clone) in plan.mounts.iter().zip(clones) {
        new.mount(mount, clone, hierarchies).map_err(|e| e.about(&about(mount)))?;
    }
    new.make_devices(plan)?;
    Ok(new)
}

/// Makes the root file system, attached nowhere yet; `None` where only the
/// classic mount(2) can make it.
fn make_root(plan: &Plan) -> Failing<Option<Detached>> {
    let what = "mount the root file system";
    match &plan.rootfs {
        Rootfs::Overlay { lower, upper, work, .. } => match overlay(lower, upper, work) {
            Ok(detached) => Ok(Some(detached)),
            // Linux 6.5 learned to take layers one by one.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(e) => Err(failed(what)(e)),
        },
        Rootfs::Directory { path, .. } => {
            Detached::clone_of(CWD, path, true).map(Some).map_err(failed(&format!("{what} {}", path.display())))
        }
    }
}

/// Attaches the root file system over its own run directory, inside this mount
/// namespace only.
fn attach_root(plan: &Plan, root: Option<Detached>) -> Failing<OwnedFd> {
    let place = Root::open_at(&plan.run_dir).map_err(failed("open the run directory"))?;
    match (root, &plan.rootfs) {
        (Some(detached), _) => detached.attach(place.as_fd()),
        (None, Rootfs::Overlay { lower, upper, work, .. }) => classic_overlay(&plan.run_dir, lower, upper, work),
        (None, Rootfs::Directory { .. }) => Err(io::ErrorKind::NotFound.into()),
    }
    .map_err(failed("attach the root file system"))
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
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |dir: &Path| rustix::fs::open(dir, flags, Mode::empty());
    let layers = lower.iter().map(|dir| open(dir)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower = layers.iter().map(name).collect::<Vec<_>>().join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", name(&upper), name(&work));
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("overlay", place, "overlay", rustix::mount::MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(open(place)?)
}

/// A part of the host's tree, cloned.
struct Clone {
    mount: Detached,
    /// What its mount point is made as.
    missing: Missing,
}

/// Clones what a bind mount shows; `None` for mounts of other kinds.
fn clone_source(plan: &MountPlan) -> Failing<Option<Clone>> {
    let MountSource::Bind { path, recursive } = &plan.source else { return Ok(None) };
    let what = format!("open {}", path.display());
    let source = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let source = source.map_err(|e| failed(&what)(e.into()))?;
    let stat = fstat(&source).map_err(|e| failed(&what)(e.into()))?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let mount = Detached::clone_of(source.as_fd(), Path::new(""), *recursive).map_err(failed(&what))?;
    let missing = if directory { Missing::MakeDirectory } else { Missing::MakeFile };
    Ok(Some(Clone { mount, missing }))
}

fn new_instance(kind: &str, source: &str, options: &[(String, Option<String>)], set: u64) -> Failing<Detached> {
    let mut parameters: Vec<mount::Parameter<'_>> =
        options.iter().map(|(k, v)| (k.as_str(), v.as_ref().map(|v| v.as_bytes()))).collect();
    if !source.is_empty() {
        parameters.insert(0, ("source", Some(source.as_bytes())));
    }
    Detached::new(kind, &parameters, set).map_err(failed("make it"))
}

impl NewRoot {
    fn mount(&mut self, plan: &MountPlan, clone: Option<Clone>, hierarchies: &[String]) -> Failing<()> {
        let (detached, missing) = match (clone, &plan.source) {
            (Some(clone), _) => (clone.mount, clone.missing),
            (None, MountSource::New { kind, source, options, .. }) => {
                (new_instance(kind, source, options, plan.set)?, Missing::MakeDirectory)
            }
            (None, _) => return self.mount_cgroup(plan, hierarchies),
        };
        let is_new = matches!(plan.source, MountSource::New { .. });
        if !is_new && plan.set | plan.clear != 0 {
            detached.set_attributes(plan.set, plan.clear, 0, false).map_err(failed("set its options"))?;
        }
        if plan.set_recursive != 0 {
            self.set_recursively(&detached, plan.set_recursive)?;
        }
        if !is_new {
            detached.set_attributes(0, 0, MS_PRIVATE, true).map_err(failed("make it private"))?;
        }
        let target = self.root.reach(&plan.target, missing).map_err(failed("make its mount point"))?;
        let keep = match &plan.source {
            MountSource::New { kind, .. } if kind == "proc" || kind == "devpts" => Some(kind.clone()),
            MountSource::New { copy_up: true, .. } => {
                super::copy_up::copy(&target, detached.as_fd()).map_err(failed("copy the image's files into it"))?;
                None
            }
            _ => None,
        };
        let mounted = detached.attach(target.as_fd()).map_err(failed("attach it"))?;
        if plan.propagation != 0 {
            let recursive = plan.propagation & MS_REC != 0;
            mount::set_attributes(mounted.as_fd(), c"", 0, 0, plan.propagation & !MS_REC, recursive)
                .map_err(failed("set its propagation"))?;
        }
        match keep.as_deref() {
            Some("proc") if plan.target.trim_end_matches('/') == "/proc" => self.proc = Some(mounted),
            Some("devpts") => self.devpts = Some(mounted),
            _ => {}
        }
        Ok(())
    }

    fn set_recursively(&self, detached: &Detached, set: u64) -> Failing<()> {
        match detached.set_attributes(set, 0, 0, true) {
            // Some submounts cannot take it (older file systems): the top one must.
            Err(e) if e.raw_os_error() == Some(22) => {
                detached.set_attributes(set, 0, 0, false).map_err(failed("set its options"))
            }
            other => other.map_err(failed("set its options recursively")),
        }
    }

    fn mount_cgroup(&self, plan: &MountPlan, hierarchies: &[String]) -> Failing<()> {
        let target = self.root.reach(&plan.target, Missing::MakeDirectory).map_err(failed("make its mount point"))?;
        cgroupfs::mount(target, plan.set, hierarchies).map_err(failed("make the cgroup view"))
    }

    /// Makes device nodes and the usual links of /dev.
    fn make_devices(&self, plan: &Plan) -> Failing<()> {
        if plan.devices.is_empty() && !plan.dev_links {
            return Ok(());
        }
        let old = rustix::process::umask(Mode::empty());
        for device in &plan.devices {
            self.make_device(device).map_err(|e| e.about(&format!("make device {}", device.path)))?;
        }
        rustix::process::umask(old);
        if plan.dev_links {
            let dev = self.root.reach("/dev", Missing::MakeDirectory).map_err(failed("open /dev"))?;
            for (target, name) in [
                ("/proc/self/fd", "fd"),
                ("/proc/self/fd/0", "stdin"),
                ("/proc/self/fd/1", "stdout"),
                ("/proc/self/fd/2", "stderr"),
                ("pts/ptmx", "ptmx"),
                ("/proc/kcore", "core"),
            ] {
                match symlinkat(target, &dev, name) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(failed(&format!("link /dev/{name}"))(e.into())),
                }
            }
        }
        Ok(())
    }

    fn make_device(&self, device: &DevicePlan) -> Failing<()> {
        let path = Path::new(&device.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed("name it")(io::ErrorKind::InvalidInput.into()));
        };
        let directory = self.root.reach(parent, Missing::MakeDirectory).map_err(failed("open its directory"))?;
        let kind = FileType::from_raw_mode(device.mode);
        let mode = Mode::from_raw_mode(device.mode & 0o7777);
        match mknodat(&directory, name, kind, mode, rustix::fs::makedev(device.major, device.minor)) {
            Ok(()) => {
                if device.uid != 0 || device.gid != 0 {
                    let (uid, gid) = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
                    rustix::fs::chownat(&directory, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|e| failed("give it its owner")(e.into()))?;
                }
                Ok(())
            }
            // In a user namespace nodes cannot be made: the host's own is bound over an empty file.
            Err(rustix::io::Errno::PERM) => self.bind_device(device, &directory, name),
            Err(e) => Err(failed("make it")(e.into())),
        }
    }

    fn bind_device(&self, device: &DevicePlan, directory: &OwnedFd, name: &OsStr) -> Failing<()> {
        let create = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(directory, name, create, Mode::from_raw_mode(0o644)).map_err(|e| failed("make its place")(e.into()))?;
        let target = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| failed("open its place")(e.into()))?;
        let host = Detached::clone_of(CWD, Path::new(&device.path), false).map_err(failed("open the host's"))?;
        host.attach(target.as_fd()).map(drop).map_err(failed("bind the host's"))
    }

    /// Binds the terminal's other end to /dev/console.
    pub(super) fn bind_console(&self, terminal: BorrowedFd<'_>) -> Failing<()> {
        let target = self.root.reach("/dev/console", Missing::MakeFile).map_err(failed("make /dev/console"))?;
        let console = Detached::clone_of(terminal, Path::new(""), false).map_err(failed("clone the terminal"))?;
        console.attach(target.as_fd()).map(drop).map_err(failed("bind /dev/console"))
    }

    /// Writes kernel parameters through the container's own procfs.
    pub(super) fn write_sysctls(&self, sysctls: &[(String, String)]) -> Failing<()> {
        for (path, value) in sysctls {
            let what = format!("set sysctl {}", path.replace('/', "."));
            let proc = self.proc.as_ref().ok_or_else(|| failed(&what)(io::ErrorKind::NotFound.into()))?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file =
                openat(proc, format!("sys/{path}"), flags, Mode::empty()).map_err(|e| failed(&what)(e.into()))?;
            rustix::io::write(&file, value.as_bytes()).map_err(|e| failed(&what)(e.into()))?;
        }
        Ok(())
    }

    /// Hides and freezes the paths the plan names. Paths that do not exist are skipped.
    pub(super) fn protect(&self, plan: &Plan) -> Failing<()> {
        let null = self.root.open("/dev/null", OFlags::PATH).ok();
        let mut empty: Option<OwnedFd> = None;
        for path in &plan.readonly_paths {
            let Ok(target) = self.root.open(path, OFlags::PATH) else { continue };
            let what = format!("make {path} read-only");
            let copy = Detached::clone_of(target.as_fd(), Path::new(""), true).map_err(failed(&what))?;
            let bits = attr::RDONLY;
            copy.set_attributes(bits, 0, 0, true).map_err(failed(&what))?;
            copy.attach(target.as_fd()).map_err(failed(&what))?;
        }
        for path in &plan.masked_paths {
            let Ok(target) = self.root.open(path, OFlags::PATH) else { continue };
            let what = format!("mask {path}");
            let kind = FileType::from_raw_mode(fstat(&target).map_err(|e| failed(&what)(e.into()))?.st_mode);
            let directory = kind == FileType::Directory;
            let cover = match (directory, &empty, &null) {
                // One empty file system for all. Linux before 6.15 clones it only where it is attached.
                (true, Some(empty), _) => Detached::clone_of(empty.as_fd(), Path::new(""), false),
                (true, None, _) => {
                    let bits = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
                    Detached::new("tmpfs", &[("size", Some(b"0"))], bits)
                }
                (false, _, Some(null)) => Detached::clone_of(null.as_fd(), Path::new(""), false),
                (false, _, None) => Detached::clone_of(CWD, Path::new("/dev/null"), false),
            };
            let attached = cover.and_then(|cover| cover.attach(target.as_fd())).map_err(failed(&what))?;
            if directory {
                empty = Some(attached);
            }
        }
        Ok(())
    }

    /// Makes it the root of this mount namespace, pivot_root(2), and lets go of the old one.
    pub(super) fn enter(self, plan: &Plan) -> Failing<()> {
        let readonly = match plan.rootfs {
            Rootfs::Overlay { readonly, .. } | Rootfs::Directory { readonly, .. } => readonly,
        };
        if readonly {
            mount::set_attributes(self.root.as_fd(), c"", attr::RDONLY, 0, 0, false)
                .map_err(failed("make the root read-only"))?;
        }
        let what = failed("pivot_root");
        rustix::process::fchdir(&self.root).map_err(|e| what(e.into()))?;
        // With both names the same the old root is stacked on the new one, and is unmounted from there.
        rustix::process::pivot_root(".", ".").map_err(|e| what(e.into()))?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
            .map_err(|e| failed("detach the old root")(e.into()))?;
        rustix::process::chdir("/").map_err(|e| failed("enter the new root")(e.into()))
    }
}
