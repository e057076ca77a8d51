//! What is kept of a container between commands: a directory below `--root`.
//!
//! - `state.json`: [`State`], written whole or not at all.
//! - `config.json`: the configuration it was made of, byte for byte; later
//!   changes in the bundle have no effect (runtime.md "Lifecycle").
//! - `exec.fifo`, `news/exec.fifo`: the gate the first process waits at. They are
//!   there as long as the container is `created`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use budu_spec::oci;
use budu_sys::cgroup::Cgroup;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags, statx};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use super::arguments::Global;
use super::removal;
use crate::birth::CLONE_NEWNS;
use crate::cgroup;
use crate::init::{Failing, failed, invalid};
use crate::plan::CgroupPlan;
use crate::protocol::{Failure, FailureClass};

/// The FIFO that lets the first process go.
pub(crate) const GO: &str = "exec.fifo";
/// The FIFO that tells how that went.
pub(crate) const NEWS: &str = "news/exec.fifo";
/// Its directory.
pub(crate) const NEWS_DIRECTORY: &str = "news";
pub(super) const STATE: &str = "state.json";
const CONFIG: &str = "config.json";

/// The permanent part of a container's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// `ociVersion` of its configuration.
    pub(crate) oci_version: String,
    /// Identifier.
    pub(crate) id: String,
    /// First process; 0 while the container is being created.
    pub(crate) pid: i32,
    /// When that process started, in clock ticks since boot: distinguishes
    /// it from a later one with the same number.
    pub(crate) start_time: u64,
    /// Bundle directory.
    pub(crate) bundle: PathBuf,
    /// Root file system's directory.
    pub(crate) rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub(crate) created: String,
    /// User id of who created it.
    pub(crate) owner: u32,
    /// Annotations of the configuration.
    pub(crate) annotations: BTreeMap<String, String>,
    /// CLONE_NEW* bits in which it differs from the host.
    pub(crate) namespaces: u64,
    /// Path of its cgroup below every hierarchy's root; empty for none of its own.
    pub(crate) group: String,
    /// How the group was made; without the limits.
    pub(crate) cgroup: CgroupPlan,
    /// Made without root's privileges.
    pub(crate) rootless: bool,
    /// Its configuration names no program: it can only be deleted.
    #[serde(default)]
    pub(crate) programless: bool,
    /// Its processes keep their caller's session keyring.
    #[serde(default)]
    pub(crate) keep_keyring: bool,
    /// Mounts there were at its root file system's directory before it, when it has no mount namespace of its own.
    #[serde(default)]
    pub(crate) mounts_before: Option<Vec<u64>>,
    /// Hooks wait for its start.
    pub(crate) poststart: bool,
    /// Hooks wait for its end.
    pub(crate) poststop: bool,
}

/// Where a container is in its life (runtime.md "State"), and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// One container, by its directory.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// The same, held open.
    pub(crate) dir: OwnedFd,
    pub(crate) state: State,
}

/// The failure every command reports for an id it does not know.
pub(super) fn unknown() -> Failure {
    Failure { class: FailureClass::State, message: "container does not exist".to_owned() }
}

/// Refuses ids that could be no directory's name (runc's rule).
pub(crate) fn check_id(id: &str) -> Failing<()> {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.'));
    if id.is_empty() {
        return Err(invalid("container id must not be empty".to_owned()));
    }
    if !plain || id == "." || id == ".." || id.len() > 1024 {
        return Err(invalid(format!("invalid container id {id:?}: letters, digits and _ + - . are allowed")));
    }
    Ok(())
}

/// Ids of all containers below the root, sorted.
pub(crate) fn ids(global: &Global) -> Failing<Vec<String>> {
    let entries = match std::fs::read_dir(&global.root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(&format!("list {}", global.root.display()))(e)),
    };
    let mut ids: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(STATE).exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

impl Container {
    /// Makes the directory of a new container.
    ///
    /// # Errors
    /// When there is a container of this id.
    pub(crate) fn reserve(global: &Global, id: &str) -> Failing<Container> {
        check_id(id)?;
        let what = format!("make the state directory {}", global.root.display());
        make_root(&global.root).map_err(failed(&what))?;
        let path = std::path::absolute(global.root.join(id)).map_err(failed(&what))?;
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o711)) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {
                return Err(Failure {
                    class: FailureClass::State,
                    message: "container with given ID already exists".to_owned(),
                });
            }
            Err(e) => return Err(failed(&what)(e.into())),
        }
        let container = open_directory(&path).and_then(|dir| {
            // Held until nobody makes it any more: us, and its first process until that stands.
            rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Container { path: path.clone(), dir, state: State { id: id.to_owned(), ..State::default() } })
        });
        container.map_err(|e| {
            let _ = std::fs::remove_dir(&path);
            failed(&what)(e)
        })
    }

    /// Finds a container.
    ///
    /// # Errors
    /// When there is none of this id, or its state cannot be read.
    pub(crate) fn open(global: &Global, id: &str) -> Failing<Container> {
        check_id(id)?;
        let path = global.root.join(id);
        let dir = open_directory(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => unknown(),
            _ => failed(&format!("open {}", path.display()))(e),
        })?;
        let bytes = std::fs::read(path.join(STATE)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => unknown(),
            _ => failed(&format!("read the state of container {id}"))(e),
        })?;
        let state = serde_json::from_slice(&bytes)
            .map_err(|e| failed(&format!("read the state of container {id}"))(e.into()))?;
        Ok(Container { path, dir, state })
    }

    /// Writes the state.
    pub(crate) fn save(&self) -> Failing<()> {
        let bytes = serde_json::to_vec(&self.state).expect("plain data always encodes");
        self.write_whole(STATE, &bytes)
    }

    /// Writes the state that says which process it is: from now on others may change it.
    pub(crate) fn save_made(&self) -> Failing<()> {
        self.save()?;
        self.release()
    }

    /// Keeps the configuration.
    pub(crate) fn save_config(&self, bytes: &[u8]) -> Failing<()> {
        self.write_whole(CONFIG, bytes)
    }

    fn write_whole(&self, name: &str, bytes: &[u8]) -> Failing<()> {
        let what = failed("keep the container's state");
        let temporary = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.dir, &temporary, flags, Mode::from_raw_mode(0o600)).map_err(|e| what(e.into()))?;
        io::Write::write_all(&mut std::fs::File::from(file), bytes).map_err(&what)?;
        rustix::fs::renameat(&self.dir, &temporary, &self.dir, name).map_err(|e| what(e.into()))
    }

    /// The configuration the container was made of.
    pub(crate) fn config(&self) -> Failing<oci::Spec> {
        let what = failed("read the container's configuration");
        let bytes = std::fs::read(self.path.join(CONFIG)).map_err(&what)?;
        oci::decode(&bytes).map_err(|e| invalid(format!("the container's configuration: {e}")))
    }

    /// Where it is in its life.
    pub(crate) fn status(&self) -> Failing<Status> {
        if self.state.pid == 0 {
            return Ok(Status::Creating);
        }
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.is_frozen()? {
            return Ok(Status::Paused);
        }
        if self.waits() { Ok(Status::Created) } else { Ok(Status::Running) }
    }

    /// Whether it has a gate that nobody has opened.
    pub(crate) fn waits(&self) -> bool {
        rustix::fs::accessat(&self.dir, GO, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    pub(crate) fn is_frozen(&self) -> Failing<bool> {
        Ok(match self.group()? {
            Some(group) => group.is_frozen()?,
            None => false,
        })
    }

    /// Whether the first process lives: a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(process_stat(self.state.pid), Ok((state, start)) if start == self.state.start_time && !"ZX".contains(state))
    }

    /// Whether the first process, alive or not yet reaped, has executed its program; `None` when it is gone.
    pub(crate) fn has_executed(&self) -> Option<bool> {
        let executed = has_executed(self.state.pid)?;
        // Asked afterwards: the number may have become another process's meanwhile.
        matches!(process_stat(self.state.pid), Ok((_, start)) if start == self.state.start_time).then_some(executed)
    }

    /// The first process; `None` when it has ended.
    pub(crate) fn pidfd(&self) -> Failing<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.state.pid) else { return Ok(None) };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The number may have been given to another process before it was opened.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(e) => Err(failed("find the container's first process")(e.into())),
        }
    }

    /// Its cgroup, if it has one of its own that still exists.
    pub(crate) fn group(&self) -> Failing<Option<Cgroup>> {
        if self.state.group.is_empty() {
            return Ok(None);
        }
        let Some(layout) = cgroup::layout()? else { return Ok(None) };
        Ok(cgroup::open(&layout, &self.state.group).ok().map(Cgroup::keep))
    }

    /// The state as hooks are told it (runtime.md "State").
    pub(crate) fn told(&self, status: oci::Status) -> oci::State {
        let State { oci_version, id, pid, bundle, annotations, .. } = self.state.clone();
        let pid = if status == oci::Status::Stopped { 0 } else { pid };
        oci::State { oci_version, id, status, pid, bundle, annotations }
    }

    /// Notes what is mounted where its root file system will be, if that will be for everybody to see.
    pub(crate) fn note_mounts(&mut self) -> Failing<()> {
        if self.state.namespaces & CLONE_NEWNS == 0 {
            self.state.mounts_before = Some(self.root_mounts()?.into_iter().map(|mount| mount.id).collect());
        }
        Ok(())
    }

    /// Unmounts the root file system that it made in its caller's mount namespace, and with that all that is below.
    pub(crate) fn unmount_root(&self) -> Failing<()> {
        let Some(before) = &self.state.mounts_before else { return Ok(()) };
        // One at a time, and only from the top: where mounts are shared, the kernel puts copies below what was there
        // before, and takes them away again by itself.
        while let Some(top) = self.top_mount()?.filter(|mount| !before.contains(&mount.id)) {
            removal::detach(std::iter::once(top.point)).map_err(failed("unmount the root file system"))?;
            if self.top_mount()?.is_some_and(|mount| mount.id == top.id) {
                break;
            }
        }
        Ok(())
    }

    /// What is mounted on the root file system, over all else there.
    fn top_mount(&self) -> Failing<Option<removal::Mounted>> {
        let Ok(seen) = statx(CWD, &self.state.rootfs, AtFlags::empty(), StatxFlags::MNT_ID) else { return Ok(None) };
        Ok(self.root_mounts()?.into_iter().find(|mount| mount.id == seen.stx_mnt_id))
    }

    fn root_mounts(&self) -> Failing<Vec<removal::Mounted>> {
        // The kernel's table of mounts knows no links.
        let Ok(path) = std::fs::canonicalize(&self.state.rootfs) else { return Ok(Vec::new()) };
        let mut mounts = removal::mounts().map_err(failed("list mounts"))?;
        mounts.retain(|mount| mount.point == path);
        Ok(mounts)
    }

    /// Removes the directory and all that is in it.
    pub(crate) fn remove(self) -> Failing<()> {
        self.unmount_root()?;
        removal::remove(&self.path).map_err(failed(&format!("remove {}", self.path.display())))
    }

    /// Waits until nobody else makes, starts or ends it, and keeps others from it as long as this value lives, or
    /// until [`Container::release`]. False when somebody has removed it.
    pub(crate) fn seize(&self) -> Failing<bool> {
        let what = failed("lock the container");
        while let Err(e) = rustix::fs::flock(&self.dir, FlockOperation::LockExclusive) {
            if e != rustix::io::Errno::INTR {
                return Err(what(e.into()));
            }
        }
        let held = rustix::fs::fstat(&self.dir).map_err(|e| what(e.into()))?;
        // Another one may have its id by now.
        let there = rustix::fs::lstat(&self.path);
        Ok(there.is_ok_and(|there| (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)))
    }

    /// Lets others change it.
    pub(crate) fn release(&self) -> Failing<()> {
        rustix::fs::flock(&self.dir, FlockOperation::Unlock).map_err(|e| failed("unlock the container")(e.into()))
    }

    /// The gate is open: the container is no longer `created`.
    pub(crate) fn remove_gate(&self) {
        for name in [GO, NEWS] {
            let _ = rustix::fs::unlinkat(self.dir.as_fd(), name, AtFlags::empty());
        }
        let _ = rustix::fs::unlinkat(self.dir.as_fd(), NEWS_DIRECTORY, AtFlags::REMOVEDIR);
    }
}

/// Makes the root, closed to others from the first moment.
fn make_root(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

/// Whether somebody is making the container of this directory: it has no process yet, but will.
pub(super) fn is_being_made(directory: impl AsFd) -> bool {
    rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::AGAIN)
}

pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// State letter and start time of a process, proc_pid_stat(5).
pub(crate) fn process_stat(pid: i32) -> io::Result<(char, u64)> {
    let text = stat_line(pid)?;
    let mut fields = fields(&text);
    let state = fields.next().and_then(|word| word.chars().next());
    let start = fields.nth(18).and_then(|word| word.parse().ok());
    state.zip(start).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether a process, or what is left of it until it is reaped, has executed
/// a program since it was made; `None` when it is gone.
pub(crate) fn has_executed(pid: i32) -> Option<bool> {
    /// A flag of the kernel's that exec takes away, before it closes descriptors.
    const PF_FORKNOEXEC: u64 = 0x40;
    let text = stat_line(pid).ok()?;
    let flags: u64 = fields(&text).nth(6)?.parse().ok()?;
    Some(flags & PF_FORKNOEXEC == 0)
}

fn stat_line(pid: i32) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat"))?).into_owned())
}

/// From the process's state on. The name in parentheses before it may hold
/// anything, so fields are counted from its end.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.trim_start()).unwrap_or_default().split(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_directories() {
        for good in ["a", "A_b+c-d.e", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn own_process_is_alive() {
        let (state, start) = process_stat(std::process::id().cast_signed()).unwrap();
        assert!("RS".contains(state));
        assert!(start > 0);
        // A test's threads are of a program that was executed.
        assert_eq!(has_executed(std::process::id().cast_signed()), Some(true));
        assert_eq!(has_executed(-1), None);
    }
}
