//! cgroup limits and devices: checked at create, told to the runtime at start.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use budu_runtime::defaults::devices;
use budu_spec::docker::{DeviceMapping, HostConfig, Resources, Ulimit};
use budu_spec::oci;

use crate::Error;

/// Smallest memory limit, bytes.
const MEMORY_MINIMUM: i64 = 6 << 20;
/// Microseconds in which `--cpus` is measured out.
const PERIOD: i64 = 100_000;

/// Checks limits with Docker's texts, and fills in what follows from others.
pub(crate) fn validate(resources: &mut Resources, warnings: &mut Vec<String>) -> Result<(), Error> {
    memory(resources, warnings)?;
    cpu(resources)?;
    let bad = |message: String| Err(Error::invalid(message));
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return bad("Range of blkio weight is from 10 to 1000".to_owned());
    }
    if !resources.device_requests.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::unsupported("device requests (GPUs, CDI)"));
    }
    if resources.cpu_realtime_period != 0 || resources.cpu_realtime_runtime != 0 {
        return Err(Error::unsupported("real-time CPU limits"));
    }
    if !resources.blkio_weight_device.is_empty() {
        return Err(Error::unsupported("block IO weights per device"));
    }
    for rule in resources.device_cgroup_rules.iter().flatten() {
        device_rule(rule)?;
    }
    for ulimit in &resources.ulimits {
        rlimit(ulimit)?;
    }
    for device in &resources.devices {
        let access = &device.cgroup_permissions;
        if access.chars().any(|c| !"rwm".contains(c)) {
            return bad(format!("invalid device mode: {access}"));
        }
    }
    Ok(())
}

fn memory(resources: &mut Resources, warnings: &mut Vec<String>) -> Result<(), Error> {
    let bad = |message: &str| Err(Error::invalid(message));
    let (limit, swap, reservation) = (resources.memory, resources.memory_swap, resources.memory_reservation);
    if limit != 0 && limit < MEMORY_MINIMUM {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if limit > 0 && swap > 0 && swap < limit {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limit == 0 && swap > 0 {
        return bad("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if reservation != 0 && reservation < MEMORY_MINIMUM {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if limit > 0 && limit < reservation {
        return bad("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100")));
    }
    if limit > 0 && swap == 0 {
        resources.memory_swap = limit.saturating_mul(2);
    }
    if resources.oom_kill_disable == Some(true) && limit == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    Ok(())
}

fn cpu(resources: &Resources) -> Result<(), Error> {
    let bad = |message: String| Err(Error::invalid(message));
    // Counted once: the standard library reads a dozen files for it.
    static CPUS: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    let cpus = *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()) as i64);
    if resources.nano_cpus > 0 && resources.cpu_period != 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned());
    }
    if resources.nano_cpus > 0 && resources.cpu_quota != 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned());
    }
    if resources.nano_cpus < 0 || resources.nano_cpus > cpus * 1_000_000_000 {
        return bad(format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"));
    }
    if resources.cpu_period != 0 && !(1000..=1_000_000).contains(&resources.cpu_period) {
        return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".to_owned());
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    if resources.cpu_shares < 0 {
        return bad(format!("invalid CPU shares ({}): value must be a positive integer", resources.cpu_shares));
    }
    for (what, wish, file) in [
        ("cpus", &resources.cpuset_cpus, "/sys/devices/system/cpu/online"),
        ("mems", &resources.cpuset_mems, "/sys/devices/system/node/online"),
    ] {
        cpuset(what, wish, file)?;
    }
    Ok(())
}

/// Compares a CPU or node list with what is online.
fn cpuset(what: &str, wish: &str, online: &str) -> Result<(), Error> {
    if wish.is_empty() {
        return Ok(());
    }
    let Some(wished) = numbers(wish) else {
        return Err(Error::invalid(format!("Invalid value {wish} for cpuset {what}")));
    };
    let text = std::fs::read_to_string(online).unwrap_or_default();
    let available = numbers(text.trim()).unwrap_or_default();
    if !available.is_empty() && wished.iter().any(|n| !available.contains(n)) {
        let noun = if what == "cpus" { "CPUs" } else { "memory nodes" };
        return Err(Error::invalid(format!(
            "Requested {noun} are not available - requested {wish}, available: {}",
            text.trim()
        )));
    }
    Ok(())
}

/// Parses `0-3,7`.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > 8192 {
            return None;
        }
        list.extend(first..=last);
    }
    Some(list)
}

/// The limits, for the runtime.
pub(crate) fn oci(host: &HostConfig) -> Result<oci::Resources, Error> {
    let r = &host.resources;
    let set = |n: i64| Some(n).filter(|n| *n != 0);
    let (mut quota, mut period) = (set(r.cpu_quota), u64::try_from(r.cpu_period).ok().filter(|n| *n != 0));
    if r.nano_cpus > 0 {
        quota = Some(r.nano_cpus * PERIOD / 1_000_000_000);
        period = Some(PERIOD as u64);
    }
    let throttle =
        |list: &[budu_spec::docker::ThrottleDevice]| list.iter().map(throttle).collect::<Result<Vec<_>, _>>();
    Ok(oci::Resources {
        devices: device_rules(host)?,
        memory: Some(oci::Memory {
            limit: set(r.memory),
            reservation: set(r.memory_reservation),
            swap: set(r.memory_swap),
            swappiness: r.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
            disable_oom_killer: r.oom_kill_disable.filter(|on| *on),
            ..oci::Memory::default()
        }),
        cpu: Some(oci::Cpu {
            shares: u64::try_from(r.cpu_shares).ok().filter(|n| *n != 0),
            quota,
            period,
            cpus: r.cpuset_cpus.clone(),
            mems: r.cpuset_mems.clone(),
            ..oci::Cpu::default()
        }),
        pids: r.pids_limit.filter(|n| *n > 0).map(|limit| oci::Pids { limit }),
        block_io: Some(oci::BlockIo {
            weight: Some(r.blkio_weight).filter(|n| *n != 0),
            throttle_read_bps_device: throttle(&r.blkio_device_read_bps)?,
            throttle_write_bps_device: throttle(&r.blkio_device_write_bps)?,
            throttle_read_iops_device: throttle(&r.blkio_device_read_iops)?,
            throttle_write_iops_device: throttle(&r.blkio_device_write_iops)?,
            ..oci::BlockIo::default()
        }),
        ..oci::Resources::default()
    })
}

fn throttle(wish: &budu_spec::docker::ThrottleDevice) -> Result<oci::Throttle, Error> {
    let (_, major, minor, _) = node(&wish.path)?;
    Ok(oci::Throttle { major, minor, rate: wish.rate })
}

fn device_rules(host: &HostConfig) -> Result<Vec<oci::DeviceRule>, Error> {
    let convert = |rule: budu_runtime::plan::DeviceRule| oci::DeviceRule {
        allow: rule.allow,
        kind: rule.kind.to_string(),
        major: rule.major.map(i64::from),
        minor: rule.minor.map(i64::from),
        access: rule.access,
    };
    if host.privileged {
        return Ok(devices::privileged_rules().into_iter().map(convert).collect());
    }
    let mut rules: Vec<oci::DeviceRule> = devices::rules().into_iter().map(convert).collect();
    for device in &host.resources.devices {
        for (kind, _, major, minor, _) in mapped(device)? {
            let access = match device.cgroup_permissions.as_str() {
                "" => "rwm",
                given => given,
            };
            let access = access.to_owned();
            rules.push(oci::DeviceRule { allow: true, kind, major: Some(major), minor: Some(minor), access });
        }
    }
    for rule in host.resources.device_cgroup_rules.iter().flatten() {
        rules.push(device_rule(rule)?);
    }
    Ok(rules)
}

/// Parses `c 42:* rmw`.
fn device_rule(text: &str) -> Result<oci::DeviceRule, Error> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()),
    };
    if access.is_empty() || access.chars().any(|c| !"rwm".contains(c)) {
        return Err(bad());
    }
    let (major, minor) = (number(major)?, number(minor)?);
    Ok(oci::DeviceRule { allow: true, kind: kind.to_owned(), major, minor, access: access.to_owned() })
}

type Node = (String, String, i64, i64, u32);

/// The nodes of one `--device`: one, or all below a directory.
fn mapped(device: &DeviceMapping) -> Result<Vec<Node>, Error> {
    let source = Path::new(&device.path_on_host);
    if !source.is_dir() {
        let (kind, major, minor, mode) = node(&device.path_on_host)?;
        return Ok(vec![(kind, device.path_in_container.clone(), major, minor, mode)]);
    }
    let mut list = Vec::new();
    collect(source, &device.path_in_container, &mut list);
    Ok(list)
}

fn collect(dir: &Path, target: &str, list: &mut Vec<Node>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = format!("{}/{name}", target.trim_end_matches('/'));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"].contains(&name.as_str()) {
                collect(&entry.path(), &target, list);
            }
        } else if let Ok((kind, major, minor, mode)) = node(&entry.path().to_string_lossy())
            && name != "console"
        {
            list.push((kind, target, major, minor, mode));
        }
    }
}

/// Looks at a device node of the host.
fn node(path: &str) -> Result<(String, i64, i64, u32), Error> {
    let failed = |why: &str| {
        Error::invalid(format!("error gathering device information while adding custom device \"{path}\": {why}"))
    };
    let meta = std::fs::metadata(path).map_err(|_| failed("no such file or directory"))?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(failed("not a device node")),
    };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    Ok((kind.to_owned(), i64::from(major), i64::from(minor), meta.mode() & 0o777))
}

/// Nodes to make in /dev beyond the default ones.
pub(crate) fn nodes(host: &HostConfig) -> Result<Vec<oci::Device>, Error> {
    let mut list = Vec::new();
    if host.privileged {
        collect(Path::new("/dev"), "/dev", &mut list);
    }
    for device in &host.resources.devices {
        list.extend(mapped(device)?);
    }
    let device = |(kind, path, major, minor, mode)| oci::Device {
        kind,
        path,
        major,
        minor,
        file_mode: Some(mode),
        uid: Some(0),
        gid: Some(0),
    };
    Ok(list.into_iter().map(device).collect())
}

/// Names of resource limits, getrlimit(2), without `RLIMIT_`.
const RLIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One ulimit, for the runtime.
pub(crate) fn rlimit(ulimit: &Ulimit) -> Result<oci::Rlimit, Error> {
    let name = ulimit.name.to_ascii_lowercase();
    if !RLIMITS.contains(&name.as_str()) {
        return Err(Error::invalid(format!("invalid ulimit type: {}", ulimit.name)));
    }
    if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || ulimit.soft == -1) {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            ulimit.soft, ulimit.hard
        )));
    }
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(oci::Rlimit {
        kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
        hard: value(ulimit.hard),
        soft: value(ulimit.soft),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(resources: Resources) -> String {
        let mut resources = resources;
        validate(&mut resources, &mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn memory_has_a_minimum_and_swap_follows_it() {
        assert_eq!(
            refused(Resources { memory: 1 << 20, ..Resources::default() }),
            "Minimum memory limit allowed is 6MB"
        );
        let mut resources = Resources { memory: 64 << 20, ..Resources::default() };
        validate(&mut resources, &mut Vec::new()).unwrap();
        assert_eq!(resources.memory_swap, 128 << 20);
        assert!(
            refused(Resources { memory_swap: 64 << 20, ..Resources::default() })
                .contains("always set the Memory limit")
        );
    }

    #[test]
    fn cpus() {
        assert!(
            refused(Resources { nano_cpus: 9999 * 1_000_000_000, ..Resources::default() })
                .starts_with("range of CPUs is from 0.01 to ")
        );
        assert!(
            refused(Resources { cpuset_cpus: "4000".into(), ..Resources::default() })
                .starts_with("Requested CPUs are not available - requested 4000")
        );
        assert_eq!(
            refused(Resources { cpuset_cpus: "a".into(), ..Resources::default() }),
            "Invalid value a for cpuset cpus"
        );
        let host = HostConfig {
            resources: Resources { nano_cpus: 500_000_000, ..Resources::default() },
            ..HostConfig::default()
        };
        let cpu = oci(&host).unwrap().cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
    }

    #[test]
    fn devices_and_limits() {
        let device = DeviceMapping {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/x".into(),
            cgroup_permissions: "r".into(),
        };
        let host = HostConfig {
            resources: Resources { devices: vec![device], ..Resources::default() },
            ..HostConfig::default()
        };
        let last = device_rules(&host).unwrap().pop().unwrap();
        assert_eq!((last.kind.as_str(), last.major, last.minor, last.access.as_str()), ("c", Some(1), Some(3), "r"));
        assert_eq!(nodes(&host).unwrap()[0].path, "/dev/x");
        assert!(device_rule("c 42:* rmw").is_ok());
        for bad in ["c 42 rwm", "x 1:1 r", "c a:b r", "c 1:1 q"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
        assert!(rlimit(&Ulimit { name: "nofile".into(), soft: 10, hard: 5 }).is_err());
        assert_eq!(rlimit(&Ulimit { name: "core".into(), soft: -1, hard: -1 }).unwrap().hard, u64::MAX);
    }
}
