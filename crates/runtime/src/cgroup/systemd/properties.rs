//! Limits as properties of a unit (systemd.resource-control(5)).

use budu_sys::cgroup::{Resources, Version, cpu_weight, swap_alone};
use budu_sys::dbus::Value;

use super::{Property, devices};
use crate::init::{Failing, invalid};

const DEFAULT_PERIOD: u64 = 100_000;
/// First version that takes CPUWeight=0 (`idle`).
const KNOWS_IDLE: u32 = 252;
/// First version with AllowedCPUs=.
const KNOWS_CPUS: u32 = 244;
/// First version with CPUQuotaPeriodSec=.
const KNOWS_PERIOD: u32 = 242;

#[derive(Default)]
struct Properties {
    all: Vec<Property>,
    systemd: u32,
}

impl Properties {
    fn add(&mut self, name: &str, value: Value) {
        self.all.push((name.to_owned(), value));
    }

    /// -1 becomes the largest number, which is systemd's "infinity".
    fn number(&mut self, name: &str, value: i64) {
        self.add(name, Value::U64(value.cast_unsigned()));
    }

    /// systemd knows whole percents of a processor: the quota is rounded up to
    /// one, here and in what is written to files later.
    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) -> Option<i64> {
        if let Some(period) = period.filter(|_| self.systemd >= KNOWS_PERIOD) {
            self.add("CPUQuotaPeriodUSec", Value::U64(period));
        }
        if quota.is_none() && period.is_none() {
            return quota;
        }
        let Some(given) = quota.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0) else {
            self.add("CPUQuotaPerSecUSec", Value::U64(u64::MAX));
            return quota;
        };
        let period = u128::from(period.unwrap_or(DEFAULT_PERIOD));
        let exact = u128::from(given) * 1_000_000 / period;
        let rounded = exact.next_multiple_of(10_000);
        self.add("CPUQuotaPerSecUSec", Value::U64(u64::try_from(rounded).unwrap_or(u64::MAX)));
        if rounded == exact { quota } else { i64::try_from(rounded * period / 1_000_000).ok() }
    }

    fn cpuset(&mut self, name: &str, list: &str) -> Failing<()> {
        let bits = bits(list).ok_or_else(|| invalid(format!("{name}: {list:?} is no list of numbers")))?;
        if self.systemd >= KNOWS_CPUS {
            self.add(name, Value::Array("y".to_owned(), bits.into_iter().map(Value::Byte).collect()));
        }
        Ok(())
    }
}

/// All properties of these limits. May round the processor quota.
pub(super) fn resources(version: Version, systemd: u32, resources: &mut Resources) -> Failing<Vec<Property>> {
    let mut out = Properties { systemd, ..Properties::default() };
    if let Some(rules) = &resources.devices {
        out.all.extend(devices::properties(rules));
    }
    match version {
        Version::V1 => {
            if let Some(limit) = resources.memory.limit.filter(|limit| *limit != 0) {
                out.number("MemoryLimit", limit);
            }
            if let Some(shares) = resources.cpu.shares.filter(|shares| *shares != 0) {
                out.add("CPUShares", Value::U64(shares));
            }
            if let Some(weight) = resources.block_io.weight.filter(|weight| *weight != 0) {
                out.add("BlockIOWeight", Value::U64(u64::from(weight)));
            }
        }
        Version::V2 => v2(&mut out, resources)?,
    }
    let quota = resources.cpu.quota.filter(|quota| *quota != 0);
    resources.cpu.quota = out.quota(quota, resources.cpu.period.filter(|period| *period != 0));
    if let Some(limit) = resources.pids.filter(|limit| *limit != 0) {
        out.number("TasksMax", limit.max(-1));
    }
    if let Some(list) = &resources.cpu.cpus {
        out.cpuset("AllowedCPUs", list)?;
    }
    if let Some(list) = &resources.cpu.mems {
        out.cpuset("AllowedMemoryNodes", list)?;
    }
    if systemd >= KNOWS_IDLE && resources.unified.get("cpu.idle").is_some_and(|idle| idle.trim() == "1") {
        // An idle group has no weight; the kernel refuses to set one.
        resources.unified.remove("cpu.weight");
    }
    for (file, value) in &resources.unified {
        unified(&mut out, file, value.trim(), resources.unified.get("cpu.idle").map(String::as_str))?;
    }
    Ok(out.all)
}

fn v2(out: &mut Properties, resources: &Resources) -> Failing<()> {
    let memory = &resources.memory;
    for (name, limit) in [("MemoryMax", memory.limit), ("MemoryLow", memory.reservation)] {
        if let Some(limit) = limit.filter(|limit| *limit != 0) {
            out.number(name, limit);
        }
    }
    if let Some(swap) = swap_alone(memory.limit, memory.swap)? {
        out.number("MemorySwapMax", swap);
    }
    let idle = resources.cpu.idle == Some(1);
    if idle && out.systemd >= KNOWS_IDLE {
        out.add("CPUWeight", Value::U64(0));
    } else if let Some(shares) = resources.cpu.shares.filter(|shares| *shares != 0 && !idle) {
        out.add("CPUWeight", Value::U64(cpu_weight(shares)));
    }
    Ok(())
}

/// Files of cgroup v2 that systemd has a word for; it hears of no other.
fn unified(out: &mut Properties, file: &str, value: &str, idle: Option<&str>) -> Failing<()> {
    let bad = || invalid(format!("unified resource {file:?} value invalid: {value:?}"));
    let limit = || match value {
        "max" => Ok(u64::MAX),
        number => number.parse::<u64>().map_err(|_| bad()),
    };
    let idle = idle.map(str::trim) == Some("1") && out.systemd >= KNOWS_IDLE;
    let name = match file {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpuset.cpus" => return out.cpuset("AllowedCPUs", value),
        "cpuset.mems" => return out.cpuset("AllowedMemoryNodes", value),
        "cpu.weight" if !idle => "CPUWeight",
        "cpu.idle" if idle => {
            out.add("CPUWeight", Value::U64(0));
            return Ok(());
        }
        "cpu.max" => {
            let mut words = value.split_ascii_whitespace();
            let quota = match words.next().ok_or_else(bad)? {
                "max" => None,
                number => Some(number.parse::<i64>().map_err(|_| bad())?),
            };
            let period = words.next().map(str::parse::<u64>).transpose().map_err(|_| bad())?;
            if words.next().is_some() {
                return Err(bad());
            }
            out.quota(quota, Some(period.filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD)));
            return Ok(());
        }
        _ => return Ok(()),
    };
    let limit = limit()?;
    out.add(name, Value::U64(limit));
    Ok(())
}

/// `0-2,7` as bits, the lowest first.
fn bits(list: &str) -> Option<Vec<u8>> {
    // As many as the kernel can have.
    const MOST: usize = 1 << 16;
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for bit in first..=last {
            if bits.len() <= bit / 8 {
                bits.resize(bit / 8 + 1, 0_u8);
            }
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    (!bits.is_empty()).then_some(bits)
}

#[cfg(test)]
mod tests {
    use budu_sys::cgroup::{Cpu, Memory};

    use super::*;

    fn text(properties: &[Property]) -> Vec<String> {
        let one = |(name, value): &Property| match value {
            Value::U64(u64::MAX) => format!("{name}=infinity"),
            Value::U64(number) => format!("{name}={number}"),
            Value::Array(_, bytes) => format!("{name}={bytes:?}").replace("Byte", ""),
            other => format!("{name}={other:?}"),
        };
        properties.iter().map(one).collect()
    }

    fn limits() -> Resources {
        Resources {
            memory: Memory { limit: Some(1 << 20), swap: Some(3 << 20), reservation: Some(5), ..Memory::default() },
            cpu: Cpu {
                shares: Some(1024),
                quota: Some(12_345),
                period: Some(100_000),
                cpus: Some("0-1,9".to_owned()),
                ..Cpu::default()
            },
            pids: Some(-1),
            ..Resources::default()
        }
    }

    #[test]
    fn second_generation() {
        let mut wish = limits();
        let found = text(&resources(Version::V2, 255, &mut wish).unwrap());
        let expected = [
            "MemoryMax=1048576",
            "MemoryLow=5",
            "MemorySwapMax=2097152",
            "CPUWeight=100",
            "CPUQuotaPeriodUSec=100000",
            "CPUQuotaPerSecUSec=130000",
            "TasksMax=infinity",
            "AllowedCPUs=[(3), (2)]",
        ];
        assert_eq!(found, expected);
        assert_eq!(wish.cpu.quota, Some(13_000), "rounded up to whole percents");
    }

    #[test]
    fn first_generation_and_an_old_systemd() {
        let mut wish = limits();
        wish.cpu.quota = Some(-1);
        let found = text(&resources(Version::V1, 219, &mut wish).unwrap());
        assert_eq!(
            found,
            ["MemoryLimit=1048576", "CPUShares=1024", "CPUQuotaPerSecUSec=infinity", "TasksMax=infinity"]
        );
        assert!(resources(Version::V2, 255, &mut Resources::default()).unwrap().is_empty());
    }

    #[test]
    fn files_by_name() {
        let unified = [
            ("cpu.max", "max 50000"),
            ("cpu.idle", "1"),
            ("cpu.weight", "7"),
            ("memory.high", "max"),
            ("memory.oom.group", "1"),
            ("pids.max", " 9 "),
        ];
        let unified = unified.map(|(file, value)| (file.to_owned(), value.to_owned())).into();
        let found = text(&resources(Version::V2, 255, &mut Resources { unified, ..Resources::default() }).unwrap());
        let expected = [
            "CPUWeight=0",
            "CPUQuotaPeriodUSec=50000",
            "CPUQuotaPerSecUSec=infinity",
            "MemoryHigh=infinity",
            "TasksMax=9",
        ];
        assert_eq!(found, expected);
        for (file, value) in [("cpu.max", ""), ("cpu.max", "1 2 3"), ("memory.max", "much"), ("cpuset.cpus", "2-1")] {
            let unified = [(file.to_owned(), value.to_owned())].into();
            assert!(resources(Version::V2, 255, &mut Resources { unified, ..Resources::default() }).is_err(), "{file}");
        }
    }

    #[test]
    fn lists_as_bits() {
        assert_eq!(bits("0"), Some(vec![1]));
        assert_eq!(bits(" 1, 3-5 ,,16"), Some(vec![0b11_1010, 0, 1]));
        for bad in ["", ",", "x", "-", "3-", "4-3", "99999999"] {
            assert_eq!(bits(bad), None, "{bad:?}");
        }
    }
}
