//! Limits to write when others have failed half-way: those from before.
//!
//! What was not limited before is unlimited again, as far as that can be said
//! without knowing what the kernel made it: weights, processor sets and files
//! of version 2 that the configuration never had stay as they are.

use budu_spec::oci::{
    BlockIo, Cpu, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma, Resources, Throttle,
};

/// Microseconds, unless another one is given.
const CPU_PERIOD: u64 = 100_000;
const CPU_SHARES: u64 = 1024;
/// The kernel's `max` for RDMA.
const RDMA_MAX: u32 = i32::MAX.cast_unsigned();

/// Of what `written` has, the values of `before`.
pub(crate) fn to_undo(before: &Resources, written: &Resources) -> Resources {
    Resources {
        memory: written.memory.as_ref().map(|written| memory(&before.memory.clone().unwrap_or_default(), written)),
        cpu: written.cpu.as_ref().map(|written| cpu(&before.cpu.clone().unwrap_or_default(), written)),
        pids: written.pids.map(|_| before.pids.unwrap_or(Pids { limit: -1 })),
        block_io: written
            .block_io
            .as_ref()
            .map(|written| block_io(&before.block_io.clone().unwrap_or_default(), written)),
        hugepage_limits: written.hugepage_limits.iter().map(|written| huge_pages(before, written)).collect(),
        network: written.network.as_ref().map(|written| network(&before.network.clone().unwrap_or_default(), written)),
        rdma: {
            let most = Rdma { hca_handles: Some(RDMA_MAX), hca_objects: Some(RDMA_MAX) };
            let back = |device: &String| before.rdma.get(device).copied().unwrap_or(most);
            written.rdma.keys().map(|device| (device.clone(), back(device))).collect()
        },
        unified: {
            let touched = before.unified.iter().filter(|(file, _)| written.unified.contains_key(*file));
            touched.map(|(file, value)| (file.clone(), value.clone())).collect()
        },
        ..Resources::default()
    }
}

/// The value from before, where there is one.
fn back<T: Clone>(before: &Option<T>, written: &Option<T>) -> Option<T> {
    written.as_ref().and(before.clone())
}

/// The value from before, or what says that there is no limit.
fn back_or<T: Clone>(before: &Option<T>, written: &Option<T>, unlimited: T) -> Option<T> {
    written.as_ref().map(|_| before.clone().unwrap_or(unlimited))
}

fn memory(before: &Memory, written: &Memory) -> Memory {
    Memory {
        limit: back_or(&before.limit, &written.limit, -1),
        reservation: back_or(&before.reservation, &written.reservation, -1),
        swap: back_or(&before.swap, &written.swap, -1),
        swappiness: back(&before.swappiness, &written.swappiness),
        ..Memory::default()
    }
}

fn cpu(before: &Cpu, written: &Cpu) -> Cpu {
    let list = |before: &str, written: &str| if written.is_empty() { String::new() } else { before.to_owned() };
    Cpu {
        shares: back_or(&before.shares, &written.shares, CPU_SHARES),
        quota: back_or(&before.quota, &written.quota, -1),
        burst: back_or(&before.burst, &written.burst, 0),
        period: back_or(&before.period, &written.period, CPU_PERIOD),
        realtime_runtime: back(&before.realtime_runtime, &written.realtime_runtime),
        realtime_period: back(&before.realtime_period, &written.realtime_period),
        cpus: list(&before.cpus, &written.cpus),
        mems: list(&before.mems, &written.mems),
        idle: back_or(&before.idle, &written.idle, 0),
    }
}

fn block_io(before: &BlockIo, written: &BlockIo) -> BlockIo {
    let rates = |before: &[Throttle], written: &[Throttle]| {
        let of = |one: &Throttle| {
            let known = before.iter().rev().find(|known| (known.major, known.minor) == (one.major, one.minor));
            // Zero takes a limit away.
            Throttle { rate: known.map_or(0, |known| known.rate), ..*one }
        };
        written.iter().map(of).collect()
    };
    let weights = written.weight_device.iter().filter_map(|one| {
        before.weight_device.iter().rev().find(|known| (known.major, known.minor) == (one.major, one.minor)).copied()
    });
    BlockIo {
        weight: back(&before.weight, &written.weight),
        leaf_weight: back(&before.leaf_weight, &written.leaf_weight),
        weight_device: weights.collect(),
        throttle_read_bps_device: rates(&before.throttle_read_bps_device, &written.throttle_read_bps_device),
        throttle_write_bps_device: rates(&before.throttle_write_bps_device, &written.throttle_write_bps_device),
        throttle_read_iops_device: rates(&before.throttle_read_iops_device, &written.throttle_read_iops_device),
        throttle_write_iops_device: rates(&before.throttle_write_iops_device, &written.throttle_write_iops_device),
    }
}

fn huge_pages(before: &Resources, written: &HugepageLimit) -> HugepageLimit {
    let known = before.hugepage_limits.iter().rev().find(|known| known.page_size == written.page_size);
    // More than the kernel can count, which it takes for no limit.
    known.cloned().unwrap_or_else(|| HugepageLimit { page_size: written.page_size.clone(), limit: i64::MAX as u64 })
}

fn network(before: &Network, written: &Network) -> Network {
    let priority = |one: &InterfacePriority| {
        let known = before.priorities.iter().rev().find(|known| known.name == one.name);
        InterfacePriority { priority: known.map_or(0, |known| known.priority), ..one.clone() }
    };
    Network {
        class_id: back(&before.class_id, &written.class_id),
        priorities: written.priorities.iter().map(priority).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resources(value: Value) -> Resources {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_was_touched_is_undone() {
        let before = resources(json!({"cpu": {"shares": 100, "idle": 1, "cpus": "0"}, "memory": {"limit": 5},
            "pids": {"limit": 20}, "unified": {"memory.high": "7"}}));
        let undo = |written| to_undo(&before, &resources(written));
        assert_eq!(undo(json!({"cpu": {"idle": 3}})), resources(json!({"cpu": {"idle": 1}})));
        assert_eq!(
            undo(json!({"cpu": {"cpus": "7"}, "pids": {"limit": 3}})),
            resources(json!({"cpu": {"cpus": "0"}, "pids": {"limit": 20}}))
        );
        assert_eq!(undo(json!({"unified": {"a.b": "c"}})), Resources::default());
        assert_eq!(undo(json!({"unified": {"memory.high": "c"}})), resources(json!({"unified": {"memory.high": "7"}})));
    }

    #[test]
    fn every_section_goes_back_to_its_value_or_to_no_limit() {
        let devices = |rate: u64| json!([{"major": 8, "minor": 0, "rate": rate}, {"major": 8, "minor": 16, "rate": 9}]);
        let written = resources(json!({
            "memory": {"limit": 1, "swap": 2, "reservation": 1}, "pids": {"limit": 3}, "cpu": {"quota": 5000},
            "blockIO": {"weight": 20, "throttleReadBpsDevice": devices(7), "throttleWriteIOPSDevice": devices(7)},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 1}],
            "network": {"classID": 5, "priorities": [{"name": "eth0", "priority": 5}, {"name": "eth1", "priority": 5}]},
            "rdma": {"mlx": {"hcaHandles": 3}},
        }));
        let before = resources(json!({
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 4}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 6}],
            "network": {"classID": 4, "priorities": [{"name": "eth0", "priority": 2}]},
        }));
        let undo = to_undo(&before, &written);
        assert_eq!(
            undo.memory.unwrap(),
            Memory { limit: Some(-1), swap: Some(-1), reservation: Some(-1), ..Memory::default() }
        );
        assert_eq!((undo.pids.unwrap().limit, undo.cpu.unwrap().quota), (-1, Some(-1)));
        let io = undo.block_io.unwrap();
        let rates = |list: &[Throttle]| list.iter().map(|one| (one.minor, one.rate)).collect::<Vec<_>>();
        assert_eq!((io.weight, rates(&io.throttle_read_bps_device)), (Some(10), vec![(0, 4), (16, 0)]));
        assert_eq!(rates(&io.throttle_write_iops_device), [(0, 0), (16, 0)]);
        let pages: Vec<u64> = undo.hugepage_limits.iter().map(|one| one.limit).collect();
        assert_eq!(pages, [6, i64::MAX as u64]);
        let network = undo.network.unwrap();
        let priorities: Vec<u32> = network.priorities.iter().map(|one| one.priority).collect();
        assert_eq!((network.class_id, priorities), (Some(4), vec![2, 0]));
        assert_eq!(undo.rdma["mlx"], Rdma { hca_handles: Some(RDMA_MAX), hca_objects: Some(RDMA_MAX) });
    }
}
