//! The plan of a container: everything its shim and init do, decided beforehand.
//!
//! A plan is plain data. The engine makes it (see [`crate::compile`]), the shim
//! receives it, the init executes it step by step. Paths of the host are
//! absolute; paths of the container are resolved inside its root when the step
//! is executed, never earlier.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Identifier, for messages.
    pub id: String,
    /// Directory of this container below the exec root: socket, pid, exit record.
    pub run_dir: PathBuf,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Host name; empty leaves the inherited one.
    pub hostname: String,
    /// NIS domain name; empty leaves the inherited one.
    pub domainname: String,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Mounts below it, in order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes to make in /dev.
    pub devices: Vec<DevicePlan>,
    /// Make the default symbolic links of /dev (fd, stdin, stdout, stderr, ptmx, core).
    pub dev_links: bool,
    /// Paths hidden.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters: path below /proc/sys, value.
    pub sysctls: Vec<(String, String)>,
    /// The cgroup.
    pub cgroup: CgroupPlan,
    /// The program.
    pub process: ProcessPlan,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Where its output is kept.
    pub log: Option<LogPlan>,
    /// Be pid 1 ourselves: reap orphans and forward signals to the program.
    pub init: bool,
}

/// Which namespaces are made (`new`), and which are joined by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// CLONE_NEW* bits, clone(2).
    pub new: u64,
    /// CLONE_NEW* bit and path of namespaces to join. The network namespace
    /// that came as a descriptor with the shim is joined besides.
    pub join: Vec<(u64, PathBuf)>,
    /// Lines of uid_map, when a user namespace is made: inside, outside, count.
    pub uid_map: Vec<(u32, u32, u32)>,
    /// Lines of gid_map.
    pub gid_map: Vec<(u32, u32, u32)>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// overlayfs of image layers and a writable layer.
    Overlay {
        /// Layers, topmost first.
        lower: Vec<PathBuf>,
        /// Writable layer.
        upper: PathBuf,
        /// overlayfs work directory, same file system as `upper`.
        work: PathBuf,
        /// Make it read-only once it is prepared.
        readonly: bool,
    },
    /// A directory.
    Directory {
        /// Its path.
        path: PathBuf,
        /// Make it read-only once it is prepared.
        readonly: bool,
    },
}

impl Default for Rootfs {
    fn default() -> Rootfs {
        Rootfs::Directory { path: PathBuf::new(), readonly: false }
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Path in the container.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// MOUNT_ATTR_* bits to set, mount_setattr(2).
    pub set: u64,
    /// MOUNT_ATTR_* bits to clear.
    pub clear: u64,
    /// MOUNT_ATTR_* bits to set on everything below as well.
    pub set_recursive: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC; 0 leaves it private.
    pub propagation: u64,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A new instance of a file system.
    New {
        /// File system type.
        kind: String,
        /// Source string.
        source: String,
        /// Parameters, with or without value, fsconfig(2).
        options: Vec<(String, Option<String>)>,
        /// Copy what the image has below the target into the new tmpfs.
        copy_up: bool,
    },
    /// A file or directory of the host.
    Bind {
        /// Its path.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// The container's view of the cgroup file system, version 1 or 2.
    Cgroup,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Path in the container.
    pub path: String,
    /// File type and permission bits, mknod(2).
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The cgroup of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path below every hierarchy's root, such as `budu/<id>`; empty stays in the caller's.
    pub path: String,
    /// Limits.
    pub resources: Resources,
}

/// cgroup limits in the units of cgroup v1; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes, soft limit.
    pub memory_reservation: Option<i64>,
    /// Bytes, memory plus swap; -1 unlimited.
    pub memory_swap: Option<i64>,
    /// 0 … 100.
    pub memory_swappiness: Option<u64>,
    /// No OOM killer (v1).
    pub oom_kill_disable: bool,
    /// Relative weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds a period; -1 unlimited.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// CPU list.
    pub cpuset_cpus: String,
    /// Node list.
    pub cpuset_mems: String,
    /// Number of processes; -1 unlimited.
    pub pids: Option<i64>,
    /// 10 … 1000.
    pub blkio_weight: Option<u16>,
    /// Device access rules, in order; the first denies everything.
    pub devices: Vec<DeviceRule>,
    /// cgroup v2 files and values.
    pub unified: Vec<(String, String)>,
}

/// One device access rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `a`, `c` or `b`.
    pub kind: char,
    /// Major number; `None` is all.
    pub major: Option<u32>,
    /// Minor number; `None` is all.
    pub minor: Option<u32>,
    /// Some of `rwm`.
    pub access: String,
}

/// A program to execute inside a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Working directory, absolute, made when it is missing.
    pub cwd: String,
    /// Whom it runs as.
    pub user: UserPlan,
    /// umask(2).
    pub umask: Option<u32>,
    /// Capabilities, one bit each, capabilities(7).
    pub capabilities: Capabilities,
    /// Resource limits: RLIMIT_* number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// Classic BPF program of the system call filter, 8 bytes an instruction; empty for none.
    pub seccomp: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_* bits.
    pub seccomp_flags: u32,
    /// /proc/PID/oom_score_adj; `None` leaves the inherited value.
    pub oom_score_adj: Option<i32>,
}

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserPlan {
    /// By number.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Further groups.
        groups: Vec<u32>,
    },
    /// `user[:group]` and further groups by name or number, looked up in the
    /// container's own /etc/passwd and /etc/group.
    Named {
        /// `user[:group]`; empty is root.
        user: String,
        /// Further groups.
        groups: Vec<String>,
    },
}

impl Default for UserPlan {
    fn default() -> UserPlan {
        UserPlan::Ids { uid: 0, gid: 0, groups: Vec::new() }
    }
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// The standard streams of a container's first process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Keep standard input open (else it is /dev/null).
    pub open_stdin: bool,
    /// Close standard input when the first attached client that sent it goes.
    pub stdin_once: bool,
    /// Initial size: rows, columns; zeros leave it.
    pub size: (u16, u16),
}

/// Where output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// The file, in json-file format.
    pub path: PathBuf,
    /// Rotate when it would grow over this many bytes; `None` never.
    pub max_size: Option<u64>,
    /// Files kept.
    pub max_file: u32,
}

/// A further process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The program.
    pub process: ProcessPlan,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// The client will send standard input.
    pub stdin: bool,
    /// Initial size: rows, columns; zeros leave it.
    pub size: (u16, u16),
}
