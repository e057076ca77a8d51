//! Metrics from the files of a group. What a kernel does not tell, or tells
//! in words nobody knows, stays zero.

use std::collections::BTreeMap;

use budu_sys::cgroup::{Cgroup, Controllers, Version};

use super::metrics::{
    BlockIoMetric, BlockIoMetrics, CpuMetrics, CpuUsage, CpusetMetrics, HugePageMetrics, MemoryEntry, MemoryMetrics,
    Metrics, PidsMetrics, Pressure, Stall, Throttling,
};

/// Reads everything.
pub(super) fn measure(group: &Cgroup) -> Metrics {
    let files = Files { group, v2: group.version() == Version::V2 };
    Metrics {
        cpu: if files.v2 { files.cpu_v2() } else { files.cpu_v1() },
        cpuset: if files.v2 { CpusetMetrics::default() } else { files.cpuset() },
        memory: if files.v2 { files.memory_v2() } else { files.memory_v1() },
        pids: files.pids(),
        blkio: if files.v2 { files.block_io_v2() } else { files.block_io_v1() },
        hugetlb: files.huge_pages(),
        ..Metrics::default()
    }
}

struct Files<'a> {
    group: &'a Cgroup,
    v2: bool,
}

impl Files<'_> {
    fn text(&self, controller: Controllers, file: &str) -> String {
        self.group.text(controller, file).unwrap_or_default()
    }

    fn number(&self, controller: Controllers, file: &str) -> Option<u64> {
        number(&self.group.text(controller, file)?)
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        self.group.text(Controllers::NONE, file).and_then(|text| pressure(&text))
    }

    fn cpu_v1(&self) -> CpuMetrics {
        // In ticks of USER_HZ, which is 100 on all architectures that Linux still has.
        let split = pairs(&self.text(Controllers::CPUACCT, "cpuacct.stat"));
        let ticks = |name: &str| split.get(name).copied().unwrap_or(0).saturating_mul(10_000_000);
        let (percpu_kernel, percpu_user) = modes(&self.text(Controllers::CPUACCT, "cpuacct.usage_all"));
        let throttle = pairs(&self.text(Controllers::CPU, "cpu.stat"));
        let value = |name: &str| throttle.get(name).copied().unwrap_or(0);
        let percpu = self.text(Controllers::CPUACCT, "cpuacct.usage_percpu");
        CpuMetrics {
            usage: CpuUsage {
                total: self.number(Controllers::CPUACCT, "cpuacct.usage").unwrap_or(0),
                percpu: percpu.split_ascii_whitespace().filter_map(|one| one.parse().ok()).collect(),
                percpu_kernel,
                percpu_user,
                kernel: ticks("system"),
                user: ticks("user"),
            },
            throttling: Throttling {
                periods: value("nr_periods"),
                throttled_periods: value("nr_throttled"),
                throttled_time: value("throttled_time"),
            },
            psi: None,
        }
    }

    fn cpu_v2(&self) -> CpuMetrics {
        let stat = pairs(&self.text(Controllers::CPU, "cpu.stat"));
        let value = |name: &str| stat.get(name).copied().unwrap_or(0);
        let nanoseconds = |name: &str| value(name).saturating_mul(1000);
        CpuMetrics {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
                ..CpuUsage::default()
            },
            throttling: Throttling {
                periods: value("nr_periods"),
                throttled_periods: value("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
            psi: self.pressure("cpu.pressure"),
        }
    }

    fn cpuset(&self) -> CpusetMetrics {
        let flag = |name: &str| self.number(Controllers::CPUSET, &format!("cpuset.{name}")).unwrap_or(0);
        let level = self.text(Controllers::CPUSET, "cpuset.sched_relax_domain_level");
        CpusetMetrics {
            cpus: ranges(&self.text(Controllers::CPUSET, "cpuset.cpus")),
            cpu_exclusive: flag("cpu_exclusive"),
            mems: ranges(&self.text(Controllers::CPUSET, "cpuset.mems")),
            mem_hardwall: flag("mem_hardwall"),
            mem_exclusive: flag("mem_exclusive"),
            memory_migrate: flag("memory_migrate"),
            memory_spread_page: flag("memory_spread_page"),
            memory_spread_slab: flag("memory_spread_slab"),
            memory_pressure: flag("memory_pressure"),
            sched_load_balance: flag("sched_load_balance"),
            sched_relax_domain_level: level.trim().parse().unwrap_or(0),
        }
    }

    fn memory_v1(&self) -> MemoryMetrics {
        let entry = |name: &str| {
            let value = |what: &str| self.number(Controllers::MEMORY, &format!("memory{name}.{what}")).unwrap_or(0);
            MemoryEntry {
                limit: value("limit_in_bytes"),
                usage: value("usage_in_bytes"),
                max: value("max_usage_in_bytes"),
                failcnt: value("failcnt"),
            }
        };
        let raw = pairs(&self.text(Controllers::MEMORY, "memory.stat"));
        MemoryMetrics {
            cache: raw.get("cache").copied().unwrap_or(0),
            usage: entry(""),
            swap: entry(".memsw"),
            kernel: entry(".kmem"),
            kernel_tcp: entry(".kmem.tcp"),
            raw,
            psi: None,
        }
    }

    /// Swap is told as memory and swap together, as on version 1.
    fn memory_v2(&self) -> MemoryMetrics {
        let value = |file: &str| self.number(Controllers::MEMORY, file).unwrap_or(0);
        let raw = pairs(&self.text(Controllers::MEMORY, "memory.stat"));
        let usage = MemoryEntry {
            limit: value("memory.max"),
            usage: value("memory.current"),
            max: value("memory.peak"),
            failcnt: 0,
        };
        let swap_limit = value("memory.swap.max");
        let swap = MemoryEntry {
            limit: swap_limit.saturating_add(if swap_limit == u64::MAX { 0 } else { usage.limit }),
            usage: value("memory.swap.current").saturating_add(usage.usage),
            ..MemoryEntry::default()
        };
        MemoryMetrics {
            cache: raw.get("file").copied().unwrap_or(0),
            usage,
            swap,
            raw,
            psi: self.pressure("memory.pressure"),
            ..MemoryMetrics::default()
        }
    }

    fn pids(&self) -> PidsMetrics {
        let limit = self.number(Controllers::PIDS, "pids.max").filter(|limit| *limit != u64::MAX);
        match self.number(Controllers::PIDS, "pids.current") {
            Some(current) => PidsMetrics { current, limit: limit.unwrap_or(0) },
            None => PidsMetrics { current: self.group.population() as u64, limit: 0 },
        }
    }

    /// The first family of files in which something is told: which one it is
    /// depends on the scheduler of the disk.
    fn block_io_v1(&self) -> BlockIoMetrics {
        for (family, complete) in
            [("blkio.bfq.", true), ("blkio.bfq.", false), ("blkio.", true), ("blkio.throttle.", false)]
        {
            if let Some(found) = self.block_io_family(family, "_recursive", complete) {
                return found;
            }
        }
        self.block_io_family("blkio.throttle.", "", false).unwrap_or_default()
    }

    fn block_io_family(&self, family: &str, ending: &str, complete: bool) -> Option<BlockIoMetrics> {
        let read = |what: &str| block_io_lines(&self.text(Controllers::BLKIO, &format!("{family}{what}{ending}")));
        let mut found = BlockIoMetrics::default();
        if complete {
            found.sectors_recursive = read("sectors");
            if found.sectors_recursive.is_empty() {
                return None;
            }
            found.io_service_time_recursive = read("io_service_time");
            found.io_wait_time_recursive = read("io_wait_time");
            found.io_merged_recursive = read("io_merged");
            found.io_queue_recursive = read("io_queued");
            found.io_time_recursive = read("time");
        }
        found.io_serviced_recursive = read("io_serviced");
        if found.io_serviced_recursive.is_empty() {
            return None;
        }
        found.io_service_bytes_recursive = read("io_service_bytes");
        Some(found)
    }

    fn block_io_v2(&self) -> BlockIoMetrics {
        let (io_service_bytes_recursive, io_serviced_recursive) = io_stat(&self.text(Controllers::IO, "io.stat"));
        BlockIoMetrics {
            io_service_bytes_recursive,
            io_serviced_recursive,
            psi: self.pressure("io.pressure"),
            ..BlockIoMetrics::default()
        }
    }

    fn huge_pages(&self) -> BTreeMap<String, HugePageMetrics> {
        if self.group.directory(Controllers::HUGETLB).is_none() {
            return BTreeMap::new();
        }
        let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
        let sizes = sizes.filter_map(|entry| page_size(entry.file_name().to_str()?));
        sizes.filter_map(|size| Some((size.clone(), self.huge_page(&size)?))).collect()
    }

    fn huge_page(&self, size: &str) -> Option<HugePageMetrics> {
        let number = |file: &str| self.number(Controllers::HUGETLB, &format!("hugetlb.{size}{file}"));
        if self.v2 {
            let events = pairs(&self.text(Controllers::HUGETLB, &format!("hugetlb.{size}.events")));
            let usage = number(".rsvd.current").or_else(|| number(".current"))?;
            return Some(HugePageMetrics { usage, max: 0, failcnt: events.get("max").copied().unwrap_or(0) });
        }
        let prefix = if number(".rsvd.usage_in_bytes").is_some() { ".rsvd" } else { "" };
        Some(HugePageMetrics {
            usage: number(&format!("{prefix}.usage_in_bytes"))?,
            max: number(&format!("{prefix}.max_usage_in_bytes")).unwrap_or(0),
            failcnt: number(&format!("{prefix}.failcnt")).unwrap_or(0),
        })
    }
}

/// `max` is the largest; a negative number counts as zero.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        negative if negative.starts_with('-') => negative.parse::<i64>().ok().map(|_| 0),
        other => other.parse().ok(),
    }
}

/// Lines `name value`.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, value)| Some((name.to_owned(), number(value)?))).collect()
}

/// Lines `cpu user system` after a heading; kernel first.
fn modes(text: &str) -> (Vec<u64>, Vec<u64>) {
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1).map(|word| word.parse::<u64>().ok());
        let user = words.next()??;
        Some((words.next()??, user))
    };
    text.lines().skip(1).filter_map(line).unzip()
}

/// `0-2,7` as numbers.
fn ranges(text: &str) -> Vec<u16> {
    let mut found = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            found.extend(first..=last);
        }
        // More than there can be: not what the kernel writes.
        if found.len() > usize::from(u16::MAX) {
            break;
        }
    }
    found
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let mut found = Pressure::default();
    let mut any = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let stall = match words.next() {
            Some("some") => &mut found.some,
            Some("full") => &mut found.full,
            _ => continue,
        };
        any = true;
        *stall = words.filter_map(|word| word.split_once('=')).fold(Stall::default(), |mut stall, (key, value)| {
            // Never `inf` nor `nan`: those have no place in JSON.
            let share = value.parse::<f64>().ok().filter(|share| share.is_finite()).unwrap_or(0.0);
            match key {
                "avg10" => stall.avg10 = share,
                "avg60" => stall.avg60 = share,
                "avg300" => stall.avg300 = share,
                "total" => stall.total = value.parse().unwrap_or(0),
                _ => {}
            }
            stall
        });
    }
    any.then_some(found)
}

/// Lines `8:0 Read 4096`, or `8:0 4096`; `Total 4096` is left out.
fn block_io_lines(text: &str) -> Vec<BlockIoMetric> {
    let line = |line: &str| {
        let mut words = line.split([' ', ':']).filter(|word| !word.is_empty());
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let third = words.next()?;
        let (op, value) = match words.next() {
            Some(value) => (third, value),
            None => ("", third),
        };
        Some(BlockIoMetric { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`: bytes and operations.
fn io_stat(text: &str) -> (Vec<BlockIoMetric>, Vec<BlockIoMetric>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let numbers = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = numbers.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlockIoMetric { major, minor, op: op.to_owned(), value });
            }
        }
    }
    (bytes, operations)
}

/// `hugepages-2048kB` as the cgroup's files spell it: `2MB`.
fn page_size(name: &str) -> Option<String> {
    let mut size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    for unit in ["KB", "MB"] {
        if size < 1024 {
            return Some(format!("{size}{unit}"));
        }
        size /= 1024;
    }
    Some(format!("{size}GB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lists() {
        assert!(ranges(&["0-65535"; 1000].join(",")).len() <= 2 << 16);
        assert_eq!(
            (number("max\n"), number("-1\n"), number("7\n"), number("x")),
            (Some(u64::MAX), Some(0), Some(7), None)
        );
        assert_eq!(ranges("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(ranges("\n"), Vec::<u16>::new());
        assert_eq!(ranges("5-2,x,-,1-70000"), Vec::<u16>::new());
        assert_eq!(modes("cpu user system\n0 10 20\n1 30 40\nx\n"), (vec![20, 40], vec![10, 30]));
        for (name, size) in [("hugepages-2048kB", "2MB"), ("hugepages-1048576kB", "1GB"), ("hugepages-64kB", "64KB")] {
            assert_eq!(page_size(name).as_deref(), Some(size));
        }
        assert_eq!(page_size("hugepages-kB"), None);
    }

    #[test]
    fn stalls() {
        let text = "some avg10=1.50 avg60=0.00 avg300=inf total=77\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=9\n";
        let found = pressure(text).unwrap();
        assert_eq!((found.some.avg10, found.some.avg300, found.some.total), (1.5, 0.0, 77));
        assert_eq!((found.full.avg10, found.full.total), (0.25, 9));
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn disks() {
        let lines = block_io_lines("8:0 Read 4096\n8:0 Total 4096\n8:16 7\nTotal 4096\nnonsense\n8:x Read 1\n");
        let found: Vec<_> = lines.iter().map(|one| (one.major, one.minor, one.op.as_str(), one.value)).collect();
        assert_eq!(found, [(8, 0, "Read", 4096), (8, 0, "Total", 4096), (8, 16, "", 7)]);
        let (bytes, operations) =
            io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n253:1 \nx:y rbytes=1\n8:1 rbytes=z\n");
        assert_eq!((bytes.len(), operations.len()), (2, 2));
        assert_eq!((bytes[1].op.as_str(), bytes[1].value), ("Write", 2));
    }

    #[test]
    fn the_output_has_the_names_of_runc() {
        let event = super::super::metrics::Event { kind: "stats", id: "x", data: Some(Metrics::default()) };
        let entry = r#"{"limit":0,"failcnt":0}"#;
        let expected = format!(
            r#"{{"type":"stats","id":"x","data":{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},"cpuset":{{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}},"memory":{{"usage":{entry},"swap":{entry},"kernel":{entry},"kernelTCP":{entry}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}},"intel_rdt":{{}},"network_interfaces":null}}}}"#
        );
        assert_eq!(serde_json::to_string(&event).unwrap(), expected);
        let event = super::super::metrics::Event { kind: "oom", id: "x", data: None };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"type":"oom","id":"x"}"#);
    }
}
