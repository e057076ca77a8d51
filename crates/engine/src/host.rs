//! Facts about the host that the daemon reports but may not look up itself.

use std::io;
use std::os::fd::OwnedFd;

use budu_sys::cgroup::{Controllers, Layout, Version};

/// What the host's control groups can limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Host {
    /// 1 or 2; 0 when none are mounted.
    pub cgroup_version: u8,
    /// Memory.
    pub memory: bool,
    /// CPU time and weight.
    pub cpu: bool,
    /// CPUs.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
}

impl Host {
    /// Looks at the host.
    pub fn detect() -> Host {
        let Ok(layout) = Layout::detect() else { return Host::default() };
        let all = layout.controllers();
        Host {
            cgroup_version: if layout.version == Version::V2 { 2 } else { 1 },
            memory: all.contains(Controllers::MEMORY),
            cpu: all.contains(Controllers::CPU),
            cpuset: all.contains(Controllers::CPUSET),
            pids: all.contains(Controllers::PIDS),
        }
    }
}

/// Takes over a descriptor that the parent process announced as ours, such as
/// the one it waits on until we are ready. Call once, at start.
///
/// # Errors
/// When there is none of that number.
pub fn inherited_descriptor(number: i32) -> io::Result<OwnedFd> {
    let fd = budu_sys::process::take_inherited(number)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}
