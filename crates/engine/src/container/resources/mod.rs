//! cgroup limits and devices: checked at create, told to the runtime at start.

mod check;
mod devices;
mod support;

use budu_spec::docker::{HostConfig, Ulimit};
use budu_spec::oci;

use crate::Error;

pub(crate) use check::{Purpose, validate};
pub(crate) use devices::nodes;

/// Microseconds in which `--cpus` is measured out.
const PERIOD: i64 = 100_000;

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
        devices: devices::rules(host)?,
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
            realtime_period: u64::try_from(r.cpu_realtime_period).ok().filter(|n| *n != 0),
            realtime_runtime: set(r.cpu_realtime_runtime),
            ..oci::Cpu::default()
        }),
        pids: r.pids_limit.filter(|n| *n > 0).map(|limit| oci::Pids { limit }),
        block_io: Some(oci::BlockIo {
            weight: Some(r.blkio_weight).filter(|n| *n != 0),
            weight_device: r.blkio_weight_device.iter().map(weight).collect::<Result<_, _>>()?,
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
    let (major, minor) = devices::number(&wish.path)?;
    Ok(oci::Throttle { major, minor, rate: wish.rate })
}

fn weight(wish: &budu_spec::docker::WeightDevice) -> Result<oci::WeightDevice, Error> {
    let (major, minor) = devices::number(&wish.path)?;
    Ok(oci::WeightDevice { major, minor, weight: Some(wish.weight), leaf_weight: None })
}

/// One ulimit, for the runtime.
pub(crate) fn rlimit(ulimit: &Ulimit) -> Result<oci::Rlimit, Error> {
    let name = ulimit.name.to_ascii_lowercase();
    if budu_spec::kernel::rlimit(&name).is_none() {
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
    use budu_spec::docker::Resources;

    #[test]
    fn limits_for_the_runtime() {
        let host = HostConfig {
            resources: Resources { nano_cpus: 500_000_000, cpu_realtime_runtime: 9, ..Resources::default() },
            ..HostConfig::default()
        };
        let cpu = oci(&host).unwrap().cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period, cpu.realtime_runtime), (Some(50_000), Some(100_000), Some(9)));
    }

    #[test]
    fn resource_limits() {
        assert!(rlimit(&Ulimit { name: "nofile".into(), soft: 10, hard: 5 }).is_err());
        assert_eq!(rlimit(&Ulimit { name: "core".into(), soft: -1, hard: -1 }).unwrap().hard, u64::MAX);
    }
}
