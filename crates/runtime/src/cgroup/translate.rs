//! A plan's limits as those of `sys`.

use budu_sys::cgroup::{self, Access, DeviceKind};

use crate::init::{Failing, invalid};
use crate::plan::{BlockIoPlan, DeviceRule, Resources};

pub(super) fn translate(resources: &Resources) -> Failing<cgroup::Resources> {
    let non_empty = |text: &String| (!text.is_empty()).then(|| text.clone());
    Ok(cgroup::Resources {
        memory: cgroup::Memory {
            limit: resources.memory,
            reservation: resources.memory_reservation,
            swap: resources.memory_swap,
            // -1 in the configuration: as the kernel made it.
            swappiness: resources.memory_swappiness.filter(|value| *value != u64::MAX),
            disable_oom_killer: resources.oom_kill_disable,
            check: resources.memory_check,
        },
        cpu: cgroup::Cpu {
            shares: resources.cpu_shares,
            quota: resources.cpu_quota,
            period: resources.cpu_period,
            burst: resources.cpu_burst,
            realtime_runtime: resources.cpu_realtime_runtime,
            realtime_period: resources.cpu_realtime_period,
            cpus: non_empty(&resources.cpuset_cpus),
            mems: non_empty(&resources.cpuset_mems),
            idle: resources.cpu_idle,
        },
        pids: resources.pids,
        block_io: block_io(&resources.block_io),
        devices: match resources.devices.as_slice() {
            [] => None,
            rules => Some(rules.iter().map(rule).collect::<Failing<_>>()?),
        },
        huge_pages: {
            let page = |(size, limit): &(String, u64)| cgroup::HugePage { size: size.clone(), limit: *limit };
            resources.hugepages.iter().map(page).collect()
        },
        net_class: resources.net_class,
        net_priorities: resources.net_priorities.clone(),
        rdma: {
            let rdma = |(device, handles, objects): &(String, Option<u32>, Option<u32>)| cgroup::Rdma {
                device: device.clone(),
                handles: *handles,
                objects: *objects,
            };
            resources.rdma.iter().map(rdma).collect()
        },
        unified: resources.unified.iter().cloned().collect(),
    })
}

fn block_io(plan: &BlockIoPlan) -> cgroup::BlockIo {
    let throttles = |list: &[(u32, u32, u64)]| {
        list.iter().map(|&(major, minor, rate)| cgroup::Throttle { major, minor, rate }).collect()
    };
    let weight = |&(major, minor, weight, leaf): &(u32, u32, Option<u16>, Option<u16>)| cgroup::WeightDevice {
        major,
        minor,
        weight: weight.unwrap_or(0),
        leaf_weight: leaf.unwrap_or(0),
    };
    cgroup::BlockIo {
        weight: plan.weight,
        leaf_weight: plan.leaf_weight,
        weight_devices: plan.weight_devices.iter().map(weight).collect(),
        read_bps: throttles(&plan.read_bps),
        write_bps: throttles(&plan.write_bps),
        read_iops: throttles(&plan.read_iops),
        write_iops: throttles(&plan.write_iops),
    }
}

fn rule(rule: &DeviceRule) -> Failing<cgroup::DeviceRule> {
    let kind = match rule.kind {
        'c' => DeviceKind::Char,
        'b' => DeviceKind::Block,
        'a' => DeviceKind::All,
        other => return Err(invalid(format!("device rule type {other:?}: want a, b or c"))),
    };
    let access = Access::parse(&rule.access)
        .ok_or_else(|| invalid(format!("device rule access {:?}: want letters of rwm", rule.access)))?;
    Ok(cgroup::DeviceRule { allow: rule.allow, kind, major: rule.major, minor: rule.minor, access })
}
