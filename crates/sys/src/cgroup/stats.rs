//! What a group has used.

/// One reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Disk bytes and operations; one entry per device and direction.
    pub block_io: Vec<BlockIoEntry>,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuStats {
    /// Nanoseconds since the group was made.
    pub usage_ns: u64,
    /// In user space, nanoseconds.
    pub user_ns: u64,
    /// In the kernel, nanoseconds.
    pub system_ns: u64,
    /// Per processor, nanoseconds; v1 only.
    pub per_cpu_ns: Vec<u64>,
    /// Quota periods that passed while the group wanted to run.
    pub periods: u64,
    /// Of these, those in which it ran out of quota.
    pub throttled_periods: u64,
    /// Nanoseconds spent waiting for quota.
    pub throttled_ns: u64,
}

/// Memory use, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryStats {
    /// Charged now, page cache included.
    pub usage: u64,
    /// Highest so far; 0 where the kernel does not say (v2 before 5.19).
    pub max_usage: u64,
    /// The hard limit; `u64::MAX` when there is none.
    pub limit: u64,
    /// How often the limit was hit.
    pub fail_count: u64,
    /// memory.stat as it is.
    pub stat: Vec<(String, u64)>,
}

impl MemoryStats {
    /// A value of memory.stat.
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.stat.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// Tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; 0 when there is none.
    pub limit: u64,
}

/// One line of disk accounting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIoEntry {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}
