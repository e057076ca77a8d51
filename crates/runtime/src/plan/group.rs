//! The cgroup of a container, and its limits.

use serde::{Deserialize, Serialize};

/// The cgroup of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path below every hierarchy's root, such as `budu/<id>`; empty stays in
    /// the caller's. With `systemd`: `slice:prefix:name`.
    pub path: String,
    /// The path starts at the caller's own group instead of the root.
    pub under_own: bool,
    /// Ask systemd for the group (a scope unit) instead of making it.
    pub systemd: bool,
    /// Without the privilege to make one, go on in the caller's (rootless).
    pub optional: bool,
    /// User who may manage what is below it, cgroup v2 delegation.
    pub owner: Option<u32>,
    /// Intel RDT, linux.intelRdt.
    pub intel_rdt: Option<IntelRdtPlan>,
    /// Limits.
    pub resources: Resources,
    /// With `systemd`: further properties of the unit, by name, in the text form of D-Bus variants (GVariant).
    pub scope_properties: Vec<(String, String)>,
}

/// Cache and memory bandwidth allocation, resctrl (config-linux.md "Intel RDT").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntelRdtPlan {
    /// Group name below /sys/fs/resctrl: given, or the container's id.
    pub group: String,
    /// The group was named by the configuration: it may exist, and is not removed.
    pub shared: bool,
    /// Lines of `schemata`, in the order to be written.
    pub schemata: Vec<String>,
    /// Make a monitoring group.
    pub monitoring: bool,
}

/// cgroup limits in the units of cgroup v1; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<i64>,
    /// Refuse a memory limit below what is in use already (`checkBeforeUpdate`).
    pub memory_check: bool,
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
    /// Microseconds a burst may use of what earlier periods left over.
    pub cpu_burst: Option<u64>,
    /// SCHED_IDLE for the whole group: 1; 0 takes it back.
    pub cpu_idle: Option<i64>,
    /// Microseconds a real-time period (v1); -1 unlimited.
    pub cpu_realtime_runtime: Option<i64>,
    /// Microseconds (v1).
    pub cpu_realtime_period: Option<u64>,
    /// CPU list.
    pub cpuset_cpus: String,
    /// Node list.
    pub cpuset_mems: String,
    /// Number of processes; -1 unlimited.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIoPlan,
    /// Huge pages: page size such as `2MB`, limit in bytes.
    pub hugepages: Vec<(String, u64)>,
    /// net_cls.classid (v1).
    pub net_class: Option<u32>,
    /// net_prio.ifpriomap (v1): interface, priority.
    pub net_priorities: Vec<(String, u32)>,
    /// RDMA: device, HCA handles, HCA objects; `None` is unlimited.
    pub rdma: Vec<(String, Option<u32>, Option<u32>)>,
    /// Device access rules, in order; the first denies everything.
    pub devices: Vec<DeviceRule>,
    /// cgroup v2 files and values.
    pub unified: Vec<(String, String)>,
}

/// Block device limits; devices are major and minor numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIoPlan {
    /// 10 … 1000.
    pub weight: Option<u16>,
    /// 10 … 1000 (v1, CFQ).
    pub leaf_weight: Option<u16>,
    /// Major, minor, weight, leaf weight.
    pub weight_devices: Vec<(u32, u32, Option<u16>, Option<u16>)>,
    /// Major, minor, bytes a second.
    pub read_bps: Vec<(u32, u32, u64)>,
    /// Major, minor, bytes a second.
    pub write_bps: Vec<(u32, u32, u64)>,
    /// Major, minor, operations a second.
    pub read_iops: Vec<(u32, u32, u64)>,
    /// Major, minor, operations a second.
    pub write_iops: Vec<(u32, u32, u64)>,
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
