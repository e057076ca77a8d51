//! What a container uses, as `GET /containers/{id}/stats` says it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One sample, and the one before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    /// The container's name, with slash.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `linux`, from API 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_type: Option<String>,
    /// When, RFC 3339.
    pub read: String,
    /// When the sample before was taken.
    pub preread: String,
    /// Tasks.
    pub pids_stats: PidsUsage,
    /// Disk.
    pub blkio_stats: BlkioUsage,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only.
    pub storage_stats: super::Empty,
    /// Processors.
    pub cpu_stats: CpuUsage,
    /// Processors, in the sample before.
    pub precpu_stats: CpuUsage,
    /// Memory.
    pub memory_stats: MemoryUsage,
    /// By interface; not there without a network of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeMap<String, NetworkUsage>>,
}

/// Tasks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsUsage {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// At most.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// One counter of one disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `read`, `write`; capitalised on control groups v1.
    pub op: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Disk counters. All but the first are of control groups v1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioUsage {
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    /// Operations.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Not kept by any kernel we run on.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Likewise.
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    /// Likewise.
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    /// Likewise.
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    /// Likewise.
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    /// Likewise.
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// Of the container.
    pub cpu_usage: CpuTime,
    /// Of the whole machine, nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub system_cpu_usage: u64,
    /// Processors.
    #[serde(skip_serializing_if = "zero")]
    pub online_cpus: u64,
    /// How the quota held it back.
    pub throttling_data: Throttling,
}

/// Nanoseconds of processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuTime {
    /// All.
    pub total_usage: u64,
    /// By processor; control groups v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percpu_usage: Option<Vec<u64>>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In programs.
    pub usage_in_usermode: u64,
}

/// Quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttling {
    /// Periods.
    pub periods: u64,
    /// Of these, those it was held back in.
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryUsage {
    /// Now, page cache included.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most so far; control groups v1.
    #[serde(skip_serializing_if = "zero")]
    pub max_usage: u64,
    /// The kernel's own counters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was hit; control groups v1.
    #[serde(skip_serializing_if = "zero")]
    pub failcnt: u64,
    /// The limit, or what the machine has.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Counters of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkUsage {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Not sent.
    pub tx_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn zero(value: &u64) -> bool {
    *value == 0
}
