//! `linux.resources`: limits, with Go's habit that a zero is no limit where the kernel would not take one.

use budu_spec::oci;

use super::{CompileError, devices, wrong};
use crate::plan::{BlockIoPlan, Resources};

/// Plans the limits. Device rules are those of the configuration alone.
///
/// # Errors
/// Names the member that is out of range.
pub fn resources(config: &oci::Resources) -> Result<Resources, CompileError> {
    let memory = config.memory.clone().unwrap_or_default();
    let cpu = config.cpu.clone().unwrap_or_default();
    let network = config.network.clone().unwrap_or_default();
    Ok(Resources {
        memory: given(memory.limit),
        memory_check: memory.check_before_update.unwrap_or(false),
        memory_reservation: given(memory.reservation),
        memory_swap: given(memory.swap),
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer.unwrap_or(false),
        cpu_shares: given(cpu.shares),
        cpu_quota: given(cpu.quota),
        cpu_period: given(cpu.period),
        cpu_burst: cpu.burst,
        cpu_idle: cpu.idle,
        cpu_realtime_runtime: given(cpu.realtime_runtime),
        cpu_realtime_period: given(cpu.realtime_period),
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        pids: config.pids.map(|pids| pids.limit),
        block_io: config.block_io.as_ref().map_or_else(|| Ok(BlockIoPlan::default()), block_io)?,
        hugepages: config.hugepage_limits.iter().map(|one| (one.page_size.clone(), one.limit)).collect(),
        net_class: given(network.class_id),
        net_priorities: network.priorities.into_iter().map(|one| (one.name, one.priority)).collect(),
        rdma: config.rdma.iter().map(|(k, v)| (k.clone(), v.hca_handles, v.hca_objects)).collect(),
        devices: config.devices.iter().enumerate().map(|(n, d)| devices::rule(n, d)).collect::<Result<_, _>>()?,
        unified: config.unified.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}

fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn block_io(config: &oci::BlockIo) -> Result<BlockIoPlan, CompileError> {
    let weight_device = |n: usize, device: &oci::WeightDevice| {
        let (major, minor) = numbers("weightDevice", n, device.major, device.minor)?;
        Ok((major, minor, given(device.weight), given(device.leaf_weight)))
    };
    Ok(BlockIoPlan {
        weight: given(config.weight),
        leaf_weight: given(config.leaf_weight),
        weight_devices: config
            .weight_device
            .iter()
            .enumerate()
            .map(|(n, device)| weight_device(n, device))
            .collect::<Result<_, _>>()?,
        read_bps: throttles("throttleReadBpsDevice", &config.throttle_read_bps_device)?,
        write_bps: throttles("throttleWriteBpsDevice", &config.throttle_write_bps_device)?,
        read_iops: throttles("throttleReadIOPSDevice", &config.throttle_read_iops_device)?,
        write_iops: throttles("throttleWriteIOPSDevice", &config.throttle_write_iops_device)?,
    })
}

fn throttles(member: &str, config: &[oci::Throttle]) -> Result<Vec<(u32, u32, u64)>, CompileError> {
    let one = |(n, throttle): (usize, &oci::Throttle)| {
        let (major, minor) = numbers(member, n, throttle.major, throttle.minor)?;
        Ok((major, minor, throttle.rate))
    };
    config.iter().enumerate().map(one).collect()
}

fn numbers(member: &str, n: usize, major: i64, minor: i64) -> Result<(u32, u32), CompileError> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(wrong(format!("linux.resources.blockIO.{member}[{n}]"), format!("{major}:{minor} is no device"))),
    }
}
