//! What a group has used.

use super::control::{number_after as value, read};
use super::{Cgroup, Controllers, Error, Version};
use std::os::fd::AsFd;

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

impl Cgroup {
    /// Reads everything that the group's controllers tell. What a controller does not tell stays zero.
    ///
    /// # Errors
    /// [`Error::Io`] when the group is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        let reader = Reader { group: self };
        // One file that always exists tells a vanished group from a missing controller.
        let any = self.directories.first().ok_or(Error::NotMounted)?;
        read(any.fd.as_fd(), "cgroup.procs").map_err(|errno| Error::io("read", self.full(any), errno))?;
        Ok(match self.version() {
            Version::V1 => reader.v1(),
            Version::V2 => reader.v2(),
        })
    }

    /// A file's text; `None` where the group has no such file or no such controller.
    pub fn text(&self, controller: Controllers, file: &str) -> Option<String> {
        let bytes = read(self.directory(controller)?, file).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How many processes the kernel has killed here for lack of memory.
    ///
    /// # Errors
    /// [`Error::Io`] when the group is gone or has no memory controller.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let file = match self.version() {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let directory = self.directory(Controllers::MEMORY).ok_or_else(|| Error::NoController {
            controller: "memory".to_owned(),
            what: "counting OOM kills".to_owned(),
        })?;
        let text =
            read(directory, file).map_err(|errno| Error::io("read", format!("{}/{file}", self.path()), errno))?;
        Ok(value(&String::from_utf8_lossy(&text), "oom_kill"))
    }
}

struct Reader<'a> {
    group: &'a Cgroup,
}

impl Reader<'_> {
    /// A file's text; empty when there is none.
    fn text(&self, controller: Controllers, file: &str) -> String {
        self.group.text(controller, file).unwrap_or_default()
    }

    /// A file with one number; `max` and unreadable count as `fallback`.
    fn number(&self, controller: Controllers, file: &str, fallback: u64) -> u64 {
        self.text(controller, file).trim().parse().unwrap_or(fallback)
    }

    fn v1(&self) -> Stats {
        let throttle = self.text(Controllers::CPU, "cpu.stat");
        let split = self.text(Controllers::CPUACCT, "cpuacct.stat");
        let per_cpu = self.text(Controllers::CPUACCT, "cpuacct.usage_percpu");
        let cpu = CpuStats {
            usage_ns: self.number(Controllers::CPUACCT, "cpuacct.usage", 0),
            // In ticks of USER_HZ, which is 100 on all architectures that Linux still has.
            user_ns: value(&split, "user").saturating_mul(10_000_000),
            system_ns: value(&split, "system").saturating_mul(10_000_000),
            per_cpu_ns: per_cpu.split_ascii_whitespace().filter_map(|one| one.parse().ok()).collect(),
            periods: value(&throttle, "nr_periods"),
            throttled_periods: value(&throttle, "nr_throttled"),
            throttled_ns: value(&throttle, "throttled_time"),
        };
        let limit = self.number(Controllers::MEMORY, "memory.limit_in_bytes", u64::MAX);
        let memory = MemoryStats {
            usage: self.number(Controllers::MEMORY, "memory.usage_in_bytes", 0),
            max_usage: self.number(Controllers::MEMORY, "memory.max_usage_in_bytes", 0),
            // "Unlimited" is the largest multiple of the page size below 2^63.
            limit: if limit >= i64::MAX.cast_unsigned() - 65_535 { u64::MAX } else { limit },
            fail_count: self.number(Controllers::MEMORY, "memory.failcnt", 0),
            stat: pairs(&self.text(Controllers::MEMORY, "memory.stat")),
        };
        let bytes = self.text(Controllers::BLKIO, "blkio.throttle.io_service_bytes_recursive");
        let counts = self.text(Controllers::BLKIO, "blkio.throttle.io_serviced_recursive");
        Stats { cpu, memory, pids: self.pids(), block_io: block_io_v1(&bytes, &counts) }
    }

    fn v2(&self) -> Stats {
        let cpu = self.text(Controllers::CPU, "cpu.stat");
        let cpu = CpuStats {
            usage_ns: value(&cpu, "usage_usec").saturating_mul(1000),
            user_ns: value(&cpu, "user_usec").saturating_mul(1000),
            system_ns: value(&cpu, "system_usec").saturating_mul(1000),
            per_cpu_ns: Vec::new(),
            periods: value(&cpu, "nr_periods"),
            throttled_periods: value(&cpu, "nr_throttled"),
            throttled_ns: value(&cpu, "throttled_usec").saturating_mul(1000),
        };
        let memory = MemoryStats {
            usage: self.number(Controllers::MEMORY, "memory.current", 0),
            max_usage: self.number(Controllers::MEMORY, "memory.peak", 0),
            limit: self.number(Controllers::MEMORY, "memory.max", u64::MAX),
            fail_count: value(&self.text(Controllers::MEMORY, "memory.events"), "max"),
            stat: pairs(&self.text(Controllers::MEMORY, "memory.stat")),
        };
        Stats { cpu, memory, pids: self.pids(), block_io: block_io_v2(&self.text(Controllers::IO, "io.stat")) }
    }

    fn pids(&self) -> PidsStats {
        PidsStats {
            current: self.number(Controllers::PIDS, "pids.current", 0),
            limit: self.number(Controllers::PIDS, "pids.max", 0),
        }
    }
}

fn pairs(text: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect()
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines `8:0 Read 4096`.
fn block_io_v1(bytes: &str, counts: &str) -> Vec<BlockIoEntry> {
    let mut entries: Vec<BlockIoEntry> = Vec::new();
    for (text, is_bytes) in [(bytes, true), (counts, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(number), Some(what), Some(amount)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let (Some((major, minor)), Ok(amount)) = (device(number), amount.parse::<u64>()) else {
                continue;
            };
            let at = entries.iter().position(|one| (one.major, one.minor) == (major, minor)).unwrap_or_else(|| {
                entries.push(BlockIoEntry { major, minor, read_bytes: 0, write_bytes: 0, reads: 0, writes: 0 });
                entries.len() - 1
            });
            let entry = &mut entries[at];
            match (what, is_bytes) {
                ("Read", true) => entry.read_bytes = amount,
                ("Write", true) => entry.write_bytes = amount,
                ("Read", false) => entry.reads = amount,
                ("Write", false) => entry.writes = amount,
                _ => {}
            }
        }
    }
    entries
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn block_io_v2(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let (number, rest) = line.split_once(' ')?;
        let (major, minor) = device(number)?;
        let value = |key: &str| {
            let found = rest.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            found.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Some(BlockIoEntry {
            major,
            minor,
            read_bytes: value("rbytes"),
            write_bytes: value("wbytes"),
            reads: value("rios"),
            writes: value("wios"),
        })
    };
    text.lines().filter_map(entry).collect()
}
