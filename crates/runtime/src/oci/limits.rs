//! Changing limits: which ones a container has afterwards, and what the
//! kernel must be told for that.

use budu_spec::oci::{BlockIo, Cpu, Memory, Resources, Throttle, WeightDevice};

/// Takes what `wish` has into `all`; the rest stays. Device rules are never
/// changed: others may have added theirs to the running container.
pub(crate) fn merge(all: &mut Resources, wish: &Resources) {
    if let Some(wish) = &wish.memory {
        memory(all.memory.get_or_insert_default(), wish);
    }
    if let Some(wish) = &wish.cpu {
        cpu(all.cpu.get_or_insert_default(), wish);
    }
    if let Some(wish) = wish.pids.filter(|pids| pids.limit != 0) {
        all.pids = Some(wish);
    }
    if let Some(wish) = &wish.block_io {
        block_io(all.block_io.get_or_insert_default(), wish);
    }
    for wish in &wish.hugepage_limits {
        match all.hugepage_limits.iter_mut().rev().find(|one| one.page_size == wish.page_size) {
            Some(known) => known.limit = wish.limit,
            None => all.hugepage_limits.push(wish.clone()),
        }
    }
    if let Some(wish) = &wish.network {
        let all = all.network.get_or_insert_default();
        set(&mut all.class_id, wish.class_id);
        for wish in &wish.priorities {
            match all.priorities.iter_mut().rev().find(|one| one.name == wish.name) {
                Some(known) => known.priority = wish.priority,
                None => all.priorities.push(wish.clone()),
            }
        }
    }
    all.rdma.extend(wish.rdma.iter().map(|(name, rdma)| (name.clone(), *rdma)));
    all.unified.extend(wish.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
}

/// Whether nothing is wished for.
pub(crate) fn is_nothing(wish: &Resources) -> bool {
    let mut rest = Resources { devices: Vec::new(), ..wish.clone() };
    rest.memory = rest.memory.filter(|memory| *memory != Memory::default());
    rest.cpu = rest.cpu.filter(|cpu| *cpu != Cpu::default());
    rest == Resources::default()
}

/// What to write for a wish, given all limits with it merged in: the wish,
/// and those that the kernel, or the conversion for it, needs beside it.
pub(crate) fn to_write(all: &Resources, wish: &Resources) -> Resources {
    let mut write = Resources { devices: Vec::new(), ..wish.clone() };
    if let (Some(cpu), Some(all)) = (&mut write.cpu, &all.cpu)
        && (some(cpu.quota) || some(cpu.period))
    {
        (cpu.quota, cpu.period) = (all.quota, all.period);
    }
    if let (Some(memory), Some(all)) = (&mut write.memory, &all.memory)
        && (some(memory.limit) || some(memory.swap))
    {
        (memory.limit, memory.swap) = (all.limit, all.swap);
    }
    write
}

fn some<T: Default + PartialEq>(value: Option<T>) -> bool {
    value.is_some_and(|value| value != T::default())
}

fn set<T>(place: &mut Option<T>, wish: Option<T>) {
    if wish.is_some() {
        *place = wish;
    }
}

/// As [`set`], where zero means: whatever it is.
fn forget<T: Default + PartialEq>(place: &mut Option<T>, wish: Option<T>) {
    if let Some(wish) = wish {
        *place = Some(wish).filter(|wish| *wish != T::default());
    }
}

fn memory(all: &mut Memory, wish: &Memory) {
    forget(&mut all.limit, wish.limit);
    forget(&mut all.reservation, wish.reservation);
    forget(&mut all.swap, wish.swap);
    if wish.limit == Some(-1) && wish.swap.is_none() {
        // The old sum would be a limit of memory after all.
        all.swap = None;
    }
    set(&mut all.swappiness, wish.swappiness);
    set(&mut all.disable_oom_killer, wish.disable_oom_killer);
    set(&mut all.check_before_update, wish.check_before_update);
}

fn cpu(all: &mut Cpu, wish: &Cpu) {
    // Of quota and period one may be given alone; a zero is none.
    set(&mut all.quota, wish.quota.filter(|quota| *quota != 0));
    set(&mut all.period, wish.period.filter(|period| *period != 0));
    set(&mut all.burst, wish.burst);
    forget(&mut all.shares, wish.shares);
    forget(&mut all.realtime_runtime, wish.realtime_runtime);
    forget(&mut all.realtime_period, wish.realtime_period);
    set(&mut all.idle, wish.idle);
    for (place, wish) in [(&mut all.cpus, &wish.cpus), (&mut all.mems, &wish.mems)] {
        if !wish.is_empty() {
            place.clone_from(wish);
        }
    }
}

fn block_io(all: &mut BlockIo, wish: &BlockIo) {
    set(&mut all.weight, wish.weight);
    set(&mut all.leaf_weight, wish.leaf_weight);
    for wish in &wish.weight_device {
        weight(&mut all.weight_device, wish);
    }
    for (all, wish) in [
        (&mut all.throttle_read_bps_device, &wish.throttle_read_bps_device),
        (&mut all.throttle_write_bps_device, &wish.throttle_write_bps_device),
        (&mut all.throttle_read_iops_device, &wish.throttle_read_iops_device),
        (&mut all.throttle_write_iops_device, &wish.throttle_write_iops_device),
    ] {
        wish.iter().for_each(|wish| throttle(all, wish));
    }
}

/// Of several entries for one device the last counts.
fn weight(all: &mut Vec<WeightDevice>, wish: &WeightDevice) {
    match all.iter_mut().rev().find(|one| (one.major, one.minor) == (wish.major, wish.minor)) {
        Some(known) => {
            set(&mut known.weight, wish.weight);
            set(&mut known.leaf_weight, wish.leaf_weight);
        }
        None => all.push(*wish),
    }
}

fn throttle(all: &mut Vec<Throttle>, wish: &Throttle) {
    match all.iter_mut().rev().find(|one| (one.major, one.minor) == (wish.major, wish.minor)) {
        Some(known) => known.rate = wish.rate,
        None => all.push(*wish),
    }
}

#[cfg(test)]
mod tests {
    use budu_spec::oci::Pids;
    use serde_json::{Value, json};

    use super::*;

    fn resources(value: Value) -> Resources {
        serde_json::from_value(value).unwrap()
    }

    /// All limits afterwards, and what is written.
    fn update(before: Value, wish: Value) -> (Resources, Resources) {
        let (mut all, wish) = (resources(before), resources(wish));
        merge(&mut all, &wish);
        let write = to_write(&all, &wish);
        (all, write)
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let before = json!({"memory": {"limit": 5, "reservation": 4}, "cpu": {"shares": 7, "cpus": "0"},
            "pids": {"limit": 20}, "devices": [{"allow": false, "access": "rwm"}]});
        let (all, write) = update(before, json!({"pids": {"limit": 30}, "devices": [{"allow": true}]}));
        assert_eq!(all.pids, Some(Pids { limit: 30 }));
        assert_eq!(all.memory.unwrap().limit, Some(5));
        assert_eq!(all.cpu.unwrap().cpus, "0");
        assert_eq!(all.devices.len(), 1);
        assert_eq!(write, resources(json!({"pids": {"limit": 30}})));
    }

    #[test]
    fn quota_and_period_are_written_together() {
        let before = json!({"cpu": {"quota": 500_000, "period": 1_000_000, "shares": 100}});
        let (_, write) = update(before.clone(), json!({"cpu": {"period": 900_000}}));
        assert_eq!(write, resources(json!({"cpu": {"quota": 500_000, "period": 900_000}})));
        let (all, write) = update(before.clone(), json!({"cpu": {"quota": -1}}));
        assert_eq!(write, resources(json!({"cpu": {"quota": -1, "period": 1_000_000}})));
        assert_eq!(all.cpu.unwrap().quota, Some(-1));
        let (_, write) = update(before, json!({"cpu": {"shares": 200, "quota": 0}}));
        assert_eq!(write.cpu.unwrap().period, None);
        let (_, write) = update(json!({}), json!({"cpu": {"period": 50_000}}));
        assert_eq!(write, resources(json!({"cpu": {"period": 50_000}})));
    }

    #[test]
    fn memory_and_swap_are_written_together() {
        let before = json!({"memory": {"limit": 100, "swap": 300}});
        let (_, write) = update(before.clone(), json!({"memory": {"limit": 200}}));
        assert_eq!(write, resources(json!({"memory": {"limit": 200, "swap": 300}})));
        let (_, write) = update(before.clone(), json!({"memory": {"swap": -1}}));
        assert_eq!(write, resources(json!({"memory": {"limit": 100, "swap": -1}})));
        let (all, write) = update(before.clone(), json!({"memory": {"limit": -1}}));
        assert_eq!(write, resources(json!({"memory": {"limit": -1}})));
        assert_eq!(all.memory.unwrap().swap, None);
        let (_, write) = update(before, json!({"memory": {"reservation": 50}}));
        assert_eq!(write, resources(json!({"memory": {"reservation": 50}})));
    }

    #[test]
    fn the_last_entry_of_a_device_is_changed() {
        let before = json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1},
            {"major": 8, "minor": 0, "rate": 2}], "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 5}]}});
        let wish = json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 3},
            {"major": 8, "minor": 16, "rate": 4}], "weightDevice": [{"major": 8, "minor": 0, "weight": 6}]}});
        let all = update(before, wish).0.block_io.unwrap();
        let rates: Vec<u64> = all.throttle_read_bps_device.iter().map(|one| one.rate).collect();
        assert_eq!(rates, [1, 3, 4]);
        assert_eq!((all.weight_device[0].weight, all.weight_device[0].leaf_weight), (Some(6), Some(5)));
    }
}
