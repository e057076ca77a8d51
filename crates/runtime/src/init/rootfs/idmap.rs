//! Id-mapped mounts: owners shown through a user namespace's maps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use budu_sys::mount::Detached;
use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::CLONE_NEWUSER;
use crate::plan::IdmapPlan;

/// Applies `map` to a detached clone; without maps of its own those of
/// `container`, the container's user namespace.
pub(super) fn apply(clone: &Detached, map: &IdmapPlan, container: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let helper;
    let userns = if map.uid_map.is_empty() && map.gid_map.is_empty() {
        container.ok_or_else(|| io::Error::other("there is neither a map nor a user namespace to take it from"))?
    } else {
        helper = user_namespace(map)?;
        helper.as_fd()
    };
    clone.map_owners(userns, map.recursive).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::other(format!(
            "{} (maybe the file system does not support id-mapped mounts on this kernel)",
            budu_sys::mount::reason(&error)
        )),
        _ => error,
    })
}

/// Makes a user namespace with these maps. It needs a process to be born in
/// it, which ends before this function does.
fn user_namespace(map: &IdmapPlan) -> io::Result<OwnedFd> {
    let token = SingleThreaded::check()?;
    let (wait, hold) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let args = CloneArgs { namespaces: CLONE_NEWUSER, ..CloneArgs::default() };
    let (pid, pidfd) = match process::clone3(&token, args)? {
        Side::Parent { pid, pidfd } => (pid, pidfd),
        Side::Child => {
            process::close_borrowed(hold.as_fd());
            let _ = rustix::io::read(&wait, &mut [0u8]);
            process::exit_now(0)
        }
    };
    let namespace = write_maps(map, &pidfd, pid.as_raw_nonzero().get());
    drop(hold);
    // Whoever ignores its children has none left to reap.
    let _ = process::reap(pidfd.as_fd(), true);
    namespace
}

fn write_maps(map: &IdmapPlan, pidfd: &OwnedFd, pid: i32) -> io::Result<OwnedFd> {
    let pid = pid_in_procfs(pidfd).unwrap_or(pid);
    let text = |map: &[(u32, u32, u32)]| {
        map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect::<String>()
    };
    std::fs::write(format!("/proc/{pid}/uid_map"), text(&map.uid_map))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), text(&map.gid_map))?;
    Ok(rustix::fs::open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What the procfs mounted here calls a process: ours may have been mounted
/// in the pid namespace above.
fn pid_in_procfs(pidfd: &OwnedFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}
