//! Limits of a request: what makes no sense, with Docker's texts, and what follows from what.

use std::sync::OnceLock;

use budu_spec::docker::Resources;

use super::support::Support;
use super::{devices, rlimit};
use crate::Error;

/// Smallest memory limit, bytes.
const MEMORY_MINIMUM: i64 = 6 << 20;

/// What limits are checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A new container: what follows from other values is filled in.
    Create,
    /// One that exists: what is absent stays as it is.
    Update,
}

/// Checks limits, fills in what follows from others, and leaves out what the
/// kernel cannot do.
pub(crate) fn validate(wish: &mut Resources, purpose: Purpose, warnings: &mut Vec<String>) -> Result<(), Error> {
    checked(wish, purpose, Support::of_host(), warnings)
}

fn checked(wish: &mut Resources, purpose: Purpose, support: Support, warnings: &mut Vec<String>) -> Result<(), Error> {
    if wish.memory_swappiness == Some(-1) {
        wish.memory_swappiness = None;
    }
    if purpose == Purpose::Create && wish.memory > 0 && wish.memory_swap == 0 {
        wish.memory_swap = wish.memory.saturating_mul(2);
    }
    if wish.nano_cpus > 0 && !support.cpu_quota {
        return bad(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    if purpose == Purpose::Create {
        // As inspect of Docker says it; left out where the kernel has no such switch.
        wish.oom_kill_disable.get_or_insert(false);
    }
    support.reduce(wish, warnings);
    memory(wish, purpose, warnings)?;
    cpu(wish)?;
    realtime(wish, support)?;
    io(wish)?;
    devices::check(wish)?;
    wish.ulimits.iter().try_for_each(|ulimit| rlimit(ulimit).map(|_| ()))
}

fn bad<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::invalid(message))
}

fn memory(wish: &Resources, purpose: Purpose, warnings: &mut Vec<String>) -> Result<(), Error> {
    let (limit, swap, reservation) = (wish.memory, wish.memory_swap, wish.memory_reservation);
    if limit != 0 && limit < MEMORY_MINIMUM {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if limit > 0 && swap > 0 && swap < limit {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limit == 0 && swap > 0 && purpose == Purpose::Create {
        return bad("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if reservation != 0 && reservation < MEMORY_MINIMUM {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if limit > 0 && limit < reservation {
        return bad("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = wish.memory_swappiness.filter(|n| !(0..=100).contains(n)) {
        return bad(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if wish.oom_kill_disable == Some(true) && limit == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    Ok(())
}

fn cpu(wish: &Resources) -> Result<(), Error> {
    // Counted once: the standard library reads a dozen files for it.
    static CPUS: OnceLock<i64> = OnceLock::new();
    let cpus = *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()) as i64);
    if wish.nano_cpus > 0 && wish.cpu_period != 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if wish.nano_cpus > 0 && wish.cpu_quota != 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if wish.nano_cpus < 0 || wish.nano_cpus > cpus * 1_000_000_000 {
        return bad(format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"));
    }
    if wish.cpu_period != 0 && !(1000..=1_000_000).contains(&wish.cpu_period) {
        return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if wish.cpu_quota > 0 && wish.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if wish.cpu_shares < 0 {
        return bad(format!("invalid CPU shares ({}): value must be a positive integer", wish.cpu_shares));
    }
    for (what, list, file) in [
        ("cpus", &wish.cpuset_cpus, "/sys/devices/system/cpu/online"),
        ("mems", &wish.cpuset_mems, "/sys/devices/system/node/online"),
    ] {
        cpuset(what, list, file)?;
    }
    Ok(())
}

fn realtime(wish: &Resources, support: Support) -> Result<(), Error> {
    let (period, runtime) = (wish.cpu_realtime_period, wish.cpu_realtime_runtime);
    if period == 0 && runtime == 0 {
        return Ok(());
    }
    if !support.cpu_realtime {
        return bad("Your kernel does not support CPU real-time scheduler");
    }
    if period < 0 {
        return bad(format!("invalid CPU real-time period ({period}): value must be a positive integer"));
    }
    if period != 0 && runtime != 0 && runtime > period {
        return bad("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    Ok(())
}

fn io(wish: &Resources) -> Result<(), Error> {
    if wish.blkio_weight != 0 && !(10..=1000).contains(&wish.blkio_weight) {
        return bad("Range of blkio weight is from 10 to 1000");
    }
    if wish.io_maximum_bandwidth != 0 || wish.io_maximum_iops != 0 {
        return bad("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps");
    }
    for device in &wish.blkio_weight_device {
        if device.weight != 0 && !(10..=1000).contains(&device.weight) {
            return bad(format!("Range of blkio weight is from 10 to 1000: {}", device.path));
        }
    }
    Ok(())
}

/// Compares a CPU or node list with what is online.
fn cpuset(what: &str, wish: &str, online: &str) -> Result<(), Error> {
    if wish.is_empty() {
        return Ok(());
    }
    let Some(wished) = numbers(wish) else {
        return bad(format!("Invalid value {wish} for cpuset {what}: invalid format: {wish}"));
    };
    let text = std::fs::read_to_string(online).unwrap_or_default();
    let available = numbers(text.trim()).unwrap_or_default();
    if !available.is_empty() && wished.iter().any(|n| !available.contains(n)) {
        let noun = if what == "cpus" { "CPUs" } else { "memory nodes" };
        return bad(format!("Requested {noun} are not available - requested {wish}, available: {}", text.trim()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wish: &mut Resources, purpose: Purpose) -> Result<(), Error> {
        checked(wish, purpose, Support::ALL, &mut Vec::new())
    }

    fn refused(wish: Resources) -> String {
        let mut wish = wish;
        check(&mut wish, Purpose::Create).unwrap_err().to_string()
    }

    #[test]
    fn memory_has_a_minimum_and_swap_follows_it() {
        assert_eq!(
            refused(Resources { memory: 1 << 20, ..Resources::default() }),
            "Minimum memory limit allowed is 6MB"
        );
        let mut wish = Resources { memory: 64 << 20, ..Resources::default() };
        check(&mut wish, Purpose::Update).unwrap();
        assert_eq!(wish.memory_swap, 0);
        check(&mut wish, Purpose::Create).unwrap();
        assert_eq!(wish.memory_swap, 128 << 20);
        let swap = Resources { memory_swap: 64 << 20, ..Resources::default() };
        assert!(refused(swap.clone()).contains("always set the Memory limit"));
        check(&mut swap.clone(), Purpose::Update).unwrap();
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
            "Invalid value a for cpuset cpus: invalid format: a"
        );
        assert_eq!(
            refused(Resources { cpu_realtime_period: 5, cpu_realtime_runtime: 6, ..Resources::default() }),
            "cpu real-time runtime cannot be higher than cpu real-time period"
        );
    }

    #[test]
    fn what_only_windows_has() {
        assert_eq!(
            refused(Resources { io_maximum_iops: 1, ..Resources::default() }),
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
        );
    }
}
