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
mod enable;
mod entry;
#[cfg(test)]
mod kernel_tests;
mod layout;
mod path;
mod plan;
#[cfg(test)]
mod plan_tests;
mod plan_v1;
mod plan_v2;
mod remove;
mod resources;
mod stats;
mod support;
mod watch;

pub use apply::Cgroup;
pub use convert::{cpu_weight, swap_alone};
pub use device::{Access, DeviceKind, DeviceRule};
pub use entry::Entry;
pub use layout::{Controllers, Hierarchy, Layout, Version};
pub use path::CgroupPath;
pub use plan::{Plan, Write, plan, plan_update};
pub use resources::{BlockIo, Cpu, HugePage, Memory, Rdma, Resources, Throttle, WeightDevice};
pub use stats::{BlockIoEntry, CpuStats, MemoryStats, PidsStats, Stats};
pub use support::Support;
pub use watch::{News, OomWatch};

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
    /// A limit on a hierarchy that could not be entered.
    #[error("cannot set {controller} limit: container could not join or create cgroup")]
    NotJoined {
        /// Of the limit.
        controller: String,
    },
    /// A group of that name has processes.
    #[error("container's cgroup is not empty: {count} process(es) found in {}", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// In it and below.
        count: usize,
    },
    /// A group of that name is frozen: whoever enters it stands still.
    #[error("container's cgroup unexpectedly frozen: {}", path.display())]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// Limits for processes in a group for threads.
    #[error("cannot limit {controllers} in {}: it is {kind}, since a group above it is for threads", path.display())]
    Threaded {
        /// The directory.
        path: PathBuf,
        /// cgroup.type.
        kind: String,
        /// What was asked for.
        controllers: Controllers,
    },
    /// v2 with [`Memory::check`]: a limit that is reached already.
    #[error("rejecting {what} {limit} <= usage {used}")]
    InUse {
        /// Which limit.
        what: &'static str,
        /// As given, bytes.
        limit: u64,
        /// Bytes.
        used: u64,
    },
    /// v1: a limit that is reached already and cannot be reclaimed to.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    TooSmall {
        /// As given, bytes.
        limit: String,
        /// Bytes.
        usage: u64,
        /// Bytes.
        peak: u64,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {}", path.display(), plain(source))]
    Io {
        /// "create", "write 42 to", …
        action: String,
        /// Which file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// The kernel's words alone, in lower case as all our messages.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

impl Error {
    pub(super) fn io(action: impl Into<String>, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Error {
        Error::Io { action: action.into(), path: path.into(), source: source.into() }
    }

    /// Whether it was for lack of privilege.
    pub fn is_denied(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            Error::NotEmpty { .. } | Error::TooSmall { .. } => Some(libc::EBUSY),
            _ => None,
        }
    }
}
