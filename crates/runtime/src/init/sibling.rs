//! Birth of a process as a sibling of the one that makes it.
//!
//! Some namespaces are entered only by being born into them, and whoever is
//! born into a container's pid namespace is seen by its processes from that
//! moment, some of which may look into it (ptrace(2)). So a process in between
//! goes everywhere else first, where nobody sees it, and then makes the real
//! one as a child of its own parent (CLONE_PARENT), which waits for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::{Failing, failed};
use crate::protocol::{self, Event};

/// Byte to the parent, with the pidfd of the new process.
const BORN: u8 = b'b';

/// Copies this process into a sibling and ends. Returns in the sibling, with
/// its process id as the ended one saw it.
pub(crate) fn bear(token: &SingleThreaded, args: CloneArgs<'_>, report: BorrowedFd<'_>) -> Failing<i32> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("make a pipe")(e.into()))?;
    let args = CloneArgs { sibling: true, ..args };
    match process::clone3(token, args).map_err(failed("create the container's process"))? {
        Side::Parent { pid, pidfd } => {
            // In this order: what the sibling says is for a parent that knows of it.
            let told = budu_sys::socket::send_with_fds(report, &[BORN], &[pidfd.as_fd()]);
            if told.is_ok() {
                let _ = rustix::io::write(&write, &pid.as_raw_nonzero().get().to_ne_bytes());
            }
            process::exit_now(0)
        }
        Side::Child => {
            drop(write);
            let mut number = [0u8; 4];
            match rustix::io::read(&read, &mut number) {
                Ok(4) => Ok(i32::from_ne_bytes(number)),
                // The parent is gone.
                _ => process::exit_now(1),
            }
        }
    }
}

/// The parent's part: takes the sibling over, or learns why there is none.
pub(crate) fn adopt(ours: BorrowedFd<'_>) -> Failing<(Pid, OwnedFd)> {
    let what = failed("make the container's process");
    let mut buffer = [0u8; 16 << 10];
    let (n, mut fds) = budu_sys::socket::receive_with_fds(ours, &mut buffer).map_err(&what)?;
    if let (Some([BORN]), Some(pidfd)) = (buffer.get(..n), fds.pop()) {
        let pid = process_id(&pidfd).map_err(&what)?;
        return Ok((pid, pidfd));
    }
    match buffer.get(protocol::HEADER..n).map(protocol::decode) {
        Some(Ok(Event::Failed(failure))) => Err(failure),
        _ => Err(what(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The process id a pidfd stands for, as this process sees it, proc_pid_fdinfo(5).
fn process_id(pidfd: &OwnedFd) -> io::Result<Pid> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|number| number.trim().parse().ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the process has ended already"))
}
