//! Control groups, both generations, behind one plan.
//!
//! [`Layout::detect`] looks once at what the host mounts. [`plan`] turns a [`CgroupPath`] and [`Resources`] into a
//! [`Plan`], which is pure data that prints as text; [`Plan::apply`] makes the directories and writes the limits and
//! returns a [`Cgroup`], a guard that removes them again unless [`Cgroup::keep`] is called. [`Cgroup::open`] finds a
//! group again after a restart.
//!
//! A process enters by one of two doors, see [`Cgroup::entry`]: on v2 it is born inside (`CLONE_INTO_CGROUP`), on v1 it
//! writes `0` into each `tasks` file itself. Writing a foreign process id to `cgroup.procs` instead makes the kernel
//! take a lock over all threads of the machine, which costs milliseconds.
//!
//! File operations are relative to directory handles, never to strings that are resolved again.

mod apply;
mod control;
mod convert;
mod device;
mod device_program;
#[cfg(test)]
mod kernel_tests;
mod layout;
mod path;
mod plan;
#[cfg(test)]
mod plan_tests;
mod plan_v1;
mod plan_v2;
mod resources;
mod stats;
mod support;

pub use apply::{Cgroup, Entry};
pub use device::{Access, DeviceKind, DeviceRule};
pub use layout::{Controllers, Hierarchy, Layout, Version};
pub use path::CgroupPath;
pub use plan::{Plan, Write, plan, plan_update};
pub use resources::{BlockIo, Cpu, HugePage, Memory, Resources, Throttle, WeightDevice};
pub use stats::{BlockIoEntry, CpuStats, MemoryStats, PidsStats, Stats};
pub use support::Support;

use std::path::PathBuf;

/// What can go wrong. `EBUSY`, `ENOENT` and friends stay readable through [`Error::errno`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No control group file system.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// A path that could leave its parent.
    #[error("cgroup path {path:?} is not usable: {reason}")]
    BadPath {
        /// As given.
        path: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A limit needs a controller that this host does not offer.
    #[error("cgroup controller {controller} is not available on this host, needed for {what}")]
    NoController {
        /// Its name.
        controller: String,
        /// The setting.
        what: String,
    },
    /// A value outside what the kernel or Docker accepts.
    #[error("{what} {value:?} is not valid: {reason}")]
    BadValue {
        /// The setting.
        what: &'static str,
        /// As given.
        value: String,
        /// What would be valid.
        reason: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "create", "write 42 to", …
        action: String,
        /// Which file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn io(action: impl Into<String>, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Error {
        Error::Io { action: action.into(), path: path.into(), source: source.into() }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
