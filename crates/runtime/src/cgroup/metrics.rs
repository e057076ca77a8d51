//! What a container has used, as runc's `events` tells it: the same names in
//! the same order, the same ones left out when they are zero.

use std::collections::BTreeMap;

use serde::Serialize;

/// One line of `events`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event<'a> {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    /// The container.
    pub(crate) id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Metrics>,
}

// The order of the fields is the order in the output.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct Metrics {
    pub(crate) cpu: CpuMetrics,
    pub(crate) cpuset: CpusetMetrics,
    pub(crate) memory: MemoryMetrics,
    pub(crate) pids: PidsMetrics,
    pub(crate) blkio: BlockIoMetrics,
    /// By page size.
    pub(crate) hugetlb: BTreeMap<String, HugePageMetrics>,
    pub(crate) intel_rdt: super::rdt_metrics::RdtMetrics,
    /// Always none: interfaces are not the runtime's.
    pub(crate) network_interfaces: Option<Vec<()>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct CpuMetrics {
    pub(crate) usage: CpuUsage,
    pub(crate) throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct CpuUsage {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) percpu_user: Vec<u64>,
    pub(crate) kernel: u64,
    pub(crate) user: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Throttling {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) periods: u64,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub(crate) throttled_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Pressure {
    pub(crate) some: Stall,
    pub(crate) full: Stall,
}

/// Shares of time in percent, and the total in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Stall {
    pub(crate) avg10: f64,
    pub(crate) avg60: f64,
    pub(crate) avg300: f64,
    pub(crate) total: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct CpusetMetrics {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cpus: Vec<u16>,
    pub(crate) cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mems: Vec<u16>,
    pub(crate) mem_hardwall: u64,
    pub(crate) mem_exclusive: u64,
    pub(crate) memory_migrate: u64,
    pub(crate) memory_spread_page: u64,
    pub(crate) memory_spread_slab: u64,
    pub(crate) memory_pressure: u64,
    pub(crate) sched_load_balance: u64,
    pub(crate) sched_relax_domain_level: i64,
}

/// Bytes; `u64::MAX` is no limit.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct MemoryEntry {
    pub(crate) limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) usage: u64,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) max: u64,
    pub(crate) failcnt: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct MemoryMetrics {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) cache: u64,
    pub(crate) usage: MemoryEntry,
    pub(crate) swap: MemoryEntry,
    pub(crate) kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub(crate) kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi: Option<Pressure>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct PidsMetrics {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) current: u64,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) limit: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct BlockIoMetric {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) major: u64,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) op: String,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) value: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockIoMetrics {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_service_bytes_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_serviced_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_queue_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_service_time_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_wait_time_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_merged_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) io_time_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sectors_recursive: Vec<BlockIoMetric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi: Option<Pressure>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct HugePageMetrics {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) usage: u64,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) max: u64,
    pub(crate) failcnt: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
pub(super) fn zero(value: &u64) -> bool {
    *value == 0
}
