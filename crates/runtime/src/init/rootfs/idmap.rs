//! Id-mapped mounts: owners shown through a user namespace's maps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use budu_sys::mount::{self, Detached};
use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use budu_sys::socket;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::CLONE_NEWUSER;
use crate::plan::{IdmapPlan, Plan};

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
            mount::reason(&error)
        )),
        _ => error,
    })
}

/// Starts a process that maps the owners of clones which can be made only
/// later, from inside the container's mount namespace: of what other mounts
/// brought. It ends when everybody has let go of the socket that is returned.
///
/// Only the privilege over the file system's own user namespace allows the
/// mapping, and that is the parent's.
pub(super) fn serve(plan: &Plan, container: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let token = SingleThreaded::check()?;
    let (ours, theirs) = socket::seqpacket_pair()?;
    let pidfd = match process::clone3(&token, CloneArgs::default())? {
        Side::Parent { pidfd, .. } => pidfd,
        Side::Child => {
            // A child of our child is nobody's to wait for.
            if let Ok(Side::Child) = process::clone3(&token, CloneArgs::default()) {
                let _ = answer_all(plan, theirs.as_fd(), container);
            }
            process::exit_now(0)
        }
    };
    drop(theirs);
    let _ = process::reap(pidfd.as_fd(), true);
    Ok(ours)
}

fn answer_all(plan: &Plan, socket: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    // Whatever else this copy holds open would stay open for others.
    process::replace_standard_stream(socket, 0)?;
    process::replace_standard_stream(container, 1)?;
    process::replace_standard_stream(rustix::stdio::stdin(), 2)?;
    process::close_inherited_from(3)?;
    let (socket, container) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    loop {
        let mut number = [0u8; 2];
        let (length, fds) = socket::receive_with_fds(socket, &mut number)?;
        let (2, [clone]) = (length, fds.as_slice()) else { return Ok(()) };
        let clone = Detached::received(clone.try_clone()?);
        let mount = plan.mounts.get(usize::from(u16::from_le_bytes(number)));
        let outcome = match mount.and_then(|mount| mount.idmap.as_ref()) {
            Some(map) => apply(&clone, map, Some(container)),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        let said = outcome.err().map(|error| mount::reason(&error)).unwrap_or_default();
        socket::send_with_fds(socket, format!(" {said}").as_bytes(), &[])?;
    }
}

/// Has the process behind `socket` map the owners of the clone for a mount.
pub(super) fn ask(socket: &OwnedFd, number: u16, clone: &Detached) -> io::Result<()> {
    socket::send_with_fds(socket, &number.to_le_bytes(), &[clone.as_fd()])?;
    let mut answer = [0u8; 512];
    match socket::receive_with_fds(socket, &mut answer)? {
        (1, _) => Ok(()),
        (length, _) => {
            let text = String::from_utf8_lossy(answer.get(1..length).unwrap_or_default()).into_owned();
            Err(io::Error::other(if text.is_empty() {
                "the process that maps owners has ended".to_owned()
            } else {
                text
            }))
        }
    }
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
