//! System calls that somebody else decides: the agent gets the filter's
//! listener, seccomp_unotify(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use budu_spec::oci;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Failing, failed, invalid};
use crate::plan::SeccompAgent;

/// A connection to the agent, and what it will be sent.
pub(super) struct Agent {
    socket: OwnedFd,
    state: oci::ProcessState,
    message: Vec<u8>,
}

/// This process's id as the /proc at hand shows it. Call while that is the host's.
pub(super) fn outer_pid() -> i32 {
    let name = std::fs::read_link("/proc/self").ok();
    name.and_then(|name| name.to_str()?.parse().ok()).unwrap_or_else(|| std::process::id().cast_signed())
}

impl Agent {
    /// The process that will have the filter is another one than was expected.
    pub(super) fn speak_for(&mut self, pid: i32) -> Failing<()> {
        self.state.pid = pid;
        // Made here, since the filter may forbid to ask for memory.
        self.message = serde_json::to_vec(&self.state).map_err(|e| invalid(e.to_string()))?;
        Ok(())
    }

    /// Connects to the agent, whose socket is the host's: call before its
    /// mounts are left. `state` is the container's, `pid` the process's on the host.
    pub(super) fn connect(plan: &SeccompAgent, state: oci::State, pid: i32) -> Failing<Agent> {
        let state = oci::ProcessState {
            oci_version: state.oci_version.clone(),
            fds: vec![oci::SECCOMP_FD.to_owned()],
            pid,
            metadata: plan.metadata.clone(),
            state,
        };
        let message = serde_json::to_vec(&state).map_err(|e| invalid(e.to_string()))?;
        let socket = open(&plan.path).map_err(failed(&format!(
            "failed to connect with seccomp agent specified in the seccomp profile: {}",
            plan.path.display()
        )))?;
        Ok(Agent { socket, state, message })
    }

    /// The connection.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands the listener over.
    pub(super) fn deliver(&self, listener: &OwnedFd) -> Failing<()> {
        budu_sys::socket::send_with_fds(&self.socket, &self.message, &[listener.as_fd()])
            .map_err(failed("send the filter's listener to the seccomp agent"))
    }
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let address = match (SocketAddrUnix::new(path), path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Ok(address), ..) => address,
        (Err(_), Some(parent), Some(name)) => {
            let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = rustix::fs::open(parent, directory, Mode::empty())?;
            let address = budu_sys::socket::address_in(parent.as_fd(), name)?;
            rustix::net::connect(&socket, &address)?;
            return Ok(socket);
        }
        (Err(error), ..) => return Err(error.into()),
    };
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}
