//! What a process of a container is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// Who decides the system calls that the filter hands over.
    pub seccomp_agent: Option<SeccompAgent>,
    /// AppArmor profile; empty for none.
    pub apparmor_profile: String,
    /// SELinux label; empty for none.
    pub selinux_label: String,
    /// sched_setattr(2).
    pub scheduler: Option<SchedulerPlan>,
    /// ioprio_set(2): class in the upper three of sixteen bits, level below.
    pub io_priority: Option<u16>,
    /// CPUs it may use before it enters the container's cgroup (exec only).
    pub initial_cpus: Vec<u32>,
    /// CPUs the program may use; empty leaves the cgroup's.
    pub final_cpus: Vec<u32>,
    /// personality(2).
    pub personality: Option<u64>,
    /// set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// Descriptors 3 … 2+n that the program inherits.
    pub preserve_fds: u32,
    /// Make a missing working directory (container) or fail (exec).
    pub make_cwd: bool,
}

/// A program on the host that decides system calls, seccomp_unotify(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompAgent {
    /// Its socket on the host (AF_UNIX, stream).
    pub path: PathBuf,
    /// Opaque text it is given.
    pub metadata: String,
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerPlan {
    /// SCHED_* number.
    pub policy: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// set_mempolicy(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicyPlan {
    /// MPOL_* mode.
    pub mode: u32,
    /// MPOL_F_* bits.
    pub flags: u32,
    /// Nodes.
    pub nodes: Vec<u32>,
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
