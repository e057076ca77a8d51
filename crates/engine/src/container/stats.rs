//! Stats: what a container uses at this moment.

use std::collections::BTreeMap;

use budu_spec::docker::{
    BlkioEntry, BlkioUsage, ContainerStats, CpuTime, CpuUsage, MemoryUsage, NetworkUsage, PidsUsage, Throttling,
};
use budu_spec::units::ZERO_TIME;
use budu_sys::cgroup::{BlockIoEntry, Cgroup, CgroupPath, Layout, Stats, Version};

use super::{Container, spec};
use crate::{Engine, Error, clock};

impl Engine {
    /// Takes a sample; what came before it is left to the caller. A container that does not run uses nothing.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn stats(&self, name: &str) -> Result<ContainerStats, Error> {
        let container = self.find(name)?;
        let record = container.record();
        let empty = ContainerStats {
            name: format!("/{}", record.name),
            id: container.id.to_string(),
            read: ZERO_TIME.to_owned(),
            preread: ZERO_TIME.to_owned(),
            ..ContainerStats::default()
        };
        let path = spec::cgroup_path(&record, &self.0.options.cgroup_parent);
        let Some((stats, version)) = measure(&container, &path) else { return Ok(empty) };
        let shared = record.host_config.network_mode == "host" || record.host_config.network_mode.contains(':');
        let networks = if shared { None } else { interfaces(container.state().pid) };
        Ok(ContainerStats {
            read: clock::print(clock::now()),
            pids_stats: PidsUsage {
                current: stats.pids.current,
                // No limit travels as the largest number.
                limit: if stats.pids.limit == 0 { u64::MAX } else { stats.pids.limit },
            },
            blkio_stats: disks(&stats.block_io, version),
            cpu_stats: processors(&stats, version),
            memory_stats: memory(&stats, version),
            networks,
            ..empty
        })
    }
}

fn measure(container: &Container, path: &str) -> Option<(Stats, Version)> {
    container.control()?;
    let layout = Layout::detect().ok()?;
    let group = Cgroup::open(&layout, &CgroupPath::parse(path).ok()?).ok()?.keep();
    Some((group.stats().ok()?, group.version()))
}

fn disks(entries: &[BlockIoEntry], version: Version) -> BlkioUsage {
    let words = match version {
        Version::V1 => ["Read", "Write"],
        Version::V2 => ["read", "write"],
    };
    let list = |values: fn(&BlockIoEntry) -> [u64; 2]| -> Vec<BlkioEntry> {
        let rows = entries.iter().flat_map(|entry| {
            let (major, minor) = (u64::from(entry.major), u64::from(entry.minor));
            let row = move |(op, value): (&str, u64)| BlkioEntry { major, minor, op: op.to_owned(), value };
            words.into_iter().zip(values(entry)).map(row).collect::<Vec<_>>()
        });
        rows.collect()
    };
    let bytes = list(|entry| [entry.read_bytes, entry.write_bytes]);
    match version {
        Version::V1 => BlkioUsage {
            io_service_bytes_recursive: Some(bytes),
            io_serviced_recursive: Some(list(|entry| [entry.reads, entry.writes])),
            io_queue_recursive: Some(Vec::new()),
            io_service_time_recursive: Some(Vec::new()),
            io_wait_time_recursive: Some(Vec::new()),
            io_merged_recursive: Some(Vec::new()),
            io_time_recursive: Some(Vec::new()),
            sectors_recursive: Some(Vec::new()),
        },
        Version::V2 => BlkioUsage {
            io_service_bytes_recursive: Some(bytes).filter(|bytes| !bytes.is_empty()),
            ..BlkioUsage::default()
        },
    }
}

fn processors(stats: &Stats, version: Version) -> CpuUsage {
    let cpu = &stats.cpu;
    let per_cpu = (version == Version::V1).then(|| cpu.per_cpu_ns.clone());
    CpuUsage {
        cpu_usage: CpuTime {
            total_usage: cpu.usage_ns,
            percpu_usage: per_cpu,
            usage_in_kernelmode: cpu.system_ns,
            usage_in_usermode: cpu.user_ns,
        },
        system_cpu_usage: machine_time(),
        online_cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        throttling_data: Throttling {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_ns,
        },
    }
}

/// Nanoseconds that all processors together spent, idle or not, since the machine started.
fn machine_time() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // User to softirq: what comes behind is counted in these already. Ticks are 10 ms everywhere.
    let ticks: u64 = line.split_ascii_whitespace().take(7).filter_map(|word| word.parse::<u64>().ok()).sum();
    ticks.saturating_mul(10_000_000)
}

fn memory(stats: &Stats, version: Version) -> MemoryUsage {
    let memory = &stats.memory;
    let machine = rustix::system::sysinfo();
    let total = (machine.totalram as u64).saturating_mul(u64::from(machine.mem_unit.max(1)));
    let old = version == Version::V1;
    MemoryUsage {
        usage: memory.usage,
        max_usage: if old { memory.max_usage } else { 0 },
        stats: memory.stat.iter().cloned().collect::<BTreeMap<_, _>>(),
        failcnt: if old { memory.fail_count } else { 0 },
        limit: memory.limit.min(total),
    }
}

/// Counters of a process' network, by interface, without the loopback.
fn interfaces(pid: u32) -> Option<BTreeMap<String, NetworkUsage>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let found = parse_interfaces(&text);
    (!found.is_empty()).then_some(found)
}

fn parse_interfaces(text: &str) -> BTreeMap<String, NetworkUsage> {
    let one = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            numbers[..]
        else {
            return None;
        };
        let usage =
            NetworkUsage { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
        Some((name.trim().to_owned(), usage))
    };
    text.lines().filter_map(one).filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_the_loopback() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:  10 2 3 4 5 6 7 8 90 10 11 12 13 14 15 16\n";
        let found = parse_interfaces(text);
        assert_eq!(found.len(), 1);
        let eth = &found["eth0"];
        assert_eq!((eth.rx_bytes, eth.rx_dropped, eth.tx_bytes, eth.tx_dropped), (10, 4, 90, 12));
    }

    #[test]
    fn disks_are_spelled_as_each_version_spells_them() {
        let entry = BlockIoEntry { major: 8, minor: 1, read_bytes: 5, write_bytes: 6, reads: 1, writes: 2 };
        let old = disks(std::slice::from_ref(&entry), Version::V1);
        assert_eq!(old.io_service_bytes_recursive.expect("there")[1].op, "Write");
        assert_eq!(old.io_serviced_recursive.expect("there")[1].value, 2);
        let new = disks(&[entry], Version::V2);
        assert_eq!(new.io_service_bytes_recursive.expect("there")[0].op, "read");
        assert_eq!(new.io_serviced_recursive, None);
    }
}
