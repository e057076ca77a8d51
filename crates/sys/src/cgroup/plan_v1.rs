//! First generation: one file and one unit per controller.

use super::plan::Write;
use super::resources::{BlockIo, Cpu, Memory};
use super::{CgroupPath, Controllers, DeviceRule, Error, Hierarchy, Layout, Plan, Resources, Version};

/// Hierarchies every container joins, for accounting, freezing and guarding devices, limit or not.
const ALWAYS: Controllers = Controllers::CPU
    .union(Controllers::CPUACCT)
    .union(Controllers::MEMORY)
    .union(Controllers::PIDS)
    .union(Controllers::DEVICES)
    .union(Controllers::FREEZER)
    .union(Controllers::BLKIO);

struct Writer<'a> {
    hierarchies: &'a [Hierarchy],
    writes: Vec<Write>,
}

impl Writer<'_> {
    fn add(&mut self, controller: Controllers, file: &str, value: impl ToString) -> Result<&mut Write, Error> {
        let missing = || Error::NoController { controller: controller.to_string(), what: file.to_owned() };
        let hierarchy =
            self.hierarchies.iter().position(|one| one.controllers.contains(controller)).ok_or_else(missing)?;
        self.writes.push(Write {
            hierarchy,
            file: file.to_owned(),
            value: value.to_string(),
            otherwise: None,
            optional: false,
        });
        self.writes.last_mut().ok_or_else(missing)
    }
}

pub(super) fn plan(layout: &Layout, path: &CgroupPath, resources: &Resources) -> Result<Plan, Error> {
    resources.check_names()?;
    if let Some(key) = resources.unified.keys().next() {
        return Err(Error::BadValue {
            what: "unified",
            value: key.clone(),
            reason: "invalid configuration: only cgroup v2 takes raw settings, and this host has version 1",
        });
    }
    let wanted = wanted(resources);
    let hierarchies: Vec<Hierarchy> = layout
        .hierarchies
        .iter()
        .filter(|one| layout.complete || one.controllers.intersects(wanted))
        .cloned()
        .collect();
    let mut writer = Writer { hierarchies: &hierarchies, writes: Vec::new() };
    cpu(&mut writer, &resources.cpu)?;
    memory(&mut writer, &resources.memory)?;
    if let Some(limit) = resources.pids.filter(|limit| *limit != 0) {
        writer.add(Controllers::PIDS, "pids.max", limit_text(limit))?;
    }
    block_io(&mut writer, &resources.block_io)?;
    for page in &resources.huge_pages {
        let file = |kind: &str| format!("hugetlb.{}{kind}.limit_in_bytes", page.size);
        writer.add(Controllers::HUGETLB, &file(""), page.limit)?;
        writer.add(Controllers::HUGETLB, &file(".rsvd"), page.limit)?.optional = true;
    }
    if let Some(class) = resources.net_class.filter(|class| *class != 0) {
        writer.add(Controllers::NET_CLS, "net_cls.classid", class)?;
    }
    for (interface, priority) in &resources.net_priorities {
        writer.add(Controllers::NET_PRIO, "net_prio.ifpriomap", format!("{interface} {priority}"))?;
    }
    for rdma in &resources.rdma {
        writer.add(Controllers::RDMA, "rdma.max", rdma.line())?;
    }
    if let Some(rules) = &resources.devices {
        devices(&mut writer, rules)?;
    }
    let writes = writer.writes;
    Ok(Plan {
        version: Version::V1,
        path: path.clone(),
        hierarchies,
        enable: Controllers::NONE,
        needed: Controllers::NONE,
        complete: layout.complete,
        writes,
        devices: None,
        check_memory: None,
        lenient: false,
        optional: false,
        adopt: false,
    })
}

/// Hierarchies that limits need, and those that are always joined.
fn wanted(resources: &Resources) -> Controllers {
    [
        (Controllers::CPUSET, resources.cpu.cpus.is_some() || resources.cpu.mems.is_some()),
        (Controllers::HUGETLB, !resources.huge_pages.is_empty()),
        (Controllers::NET_CLS, resources.net_class.is_some()),
        (Controllers::NET_PRIO, !resources.net_priorities.is_empty()),
        (Controllers::RDMA, !resources.rdma.is_empty()),
    ]
    .into_iter()
    .filter(|(_, needed)| *needed)
    .fold(ALWAYS, |all, (one, _)| all.union(one))
}

/// A count for files that spell "unlimited" as `max`.
pub(super) fn limit_text(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn cpu(writer: &mut Writer<'_>, cpu: &Cpu) -> Result<(), Error> {
    if let Some(cpus) = &cpu.cpus {
        writer.add(Controllers::CPUSET, "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = &cpu.mems {
        writer.add(Controllers::CPUSET, "cpuset.mems", mems)?;
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        // The kernel would take the nearest without a word.
        let reason = match shares {
            1 => Some("the minimum allowed cpu-shares is 2"),
            262_145.. => Some("the maximum allowed cpu-shares is 262144"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::BadValue { what: "cpu-shares", value: shares.to_string(), reason });
        }
        writer.add(Controllers::CPU, "cpu.shares", shares)?;
    }
    if let Some(period) = cpu.period.filter(|period| *period != 0) {
        writer.add(Controllers::CPU, "cpu.cfs_period_us", period)?;
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        writer.add(Controllers::CPU, "cpu.cfs_quota_us", quota)?;
    }
    if let Some(burst) = cpu.burst {
        writer.add(Controllers::CPU, "cpu.cfs_burst_us", burst)?.optional = true;
    }
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        writer.add(Controllers::CPU, "cpu.rt_period_us", period)?;
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        writer.add(Controllers::CPU, "cpu.rt_runtime_us", runtime)?;
    }
    if let Some(idle) = cpu.idle {
        writer.add(Controllers::CPU, "cpu.idle", idle)?;
    }
    Ok(())
}

/// The kernel insists on limit <= memory+swap at every moment; a write that comes too early is repeated after the
/// others by [`Plan::apply`].
fn memory(writer: &mut Writer<'_>, memory: &Memory) -> Result<(), Error> {
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        writer.add(Controllers::MEMORY, "memory.limit_in_bytes", limit)?;
    }
    match (memory.limit, memory.swap.filter(|swap| *swap != 0)) {
        (Some(-1), None) => {
            // Swap without memory limit would be refused; a kernel without swap accounting has no such file.
            writer.add(Controllers::MEMORY, "memory.memsw.limit_in_bytes", -1)?.optional = true;
        }
        (_, Some(swap)) => {
            writer.add(Controllers::MEMORY, "memory.memsw.limit_in_bytes", swap)?.optional = swap == -1;
        }
        (_, None) => {}
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        writer.add(Controllers::MEMORY, "memory.soft_limit_in_bytes", reservation)?;
    }
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            let value = swappiness.to_string();
            return Err(Error::BadValue { what: "memory-swappiness", value, reason: "valid range is 0-100" });
        }
        writer.add(Controllers::MEMORY, "memory.swappiness", swappiness)?;
    }
    if memory.disable_oom_killer {
        writer.add(Controllers::MEMORY, "memory.oom_control", 1)?;
    }
    Ok(())
}

fn block_io(writer: &mut Writer<'_>, io: &BlockIo) -> Result<(), Error> {
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        // The plain file went with the CFQ scheduler in Linux 5.0; BFQ has its own.
        writer.add(Controllers::BLKIO, "blkio.weight", weight)?.otherwise =
            Some(("blkio.bfq.weight".to_owned(), weight.to_string()));
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        writer.add(Controllers::BLKIO, "blkio.leaf_weight", weight)?;
    }
    for device in &io.weight_devices {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if device.weight != 0 {
            writer.add(Controllers::BLKIO, "blkio.weight_device", line(device.weight))?.otherwise =
                Some(("blkio.bfq.weight_device".to_owned(), line(device.weight)));
        }
        if device.leaf_weight != 0 {
            writer.add(Controllers::BLKIO, "blkio.leaf_weight_device", line(device.leaf_weight))?;
        }
    }
    for (list, file) in [
        (&io.read_bps, "blkio.throttle.read_bps_device"),
        (&io.write_bps, "blkio.throttle.write_bps_device"),
        (&io.read_iops, "blkio.throttle.read_iops_device"),
        (&io.write_iops, "blkio.throttle.write_iops_device"),
    ] {
        for one in list {
            writer.add(Controllers::BLKIO, file, format!("{}:{} {}", one.major, one.minor, one.rate))?;
        }
    }
    Ok(())
}

/// A new group has its parent's rules, so everything is closed first; each write carries one rule.
fn devices(writer: &mut Writer<'_>, rules: &[DeviceRule]) -> Result<(), Error> {
    if !rules.first().is_some_and(DeviceRule::is_total) {
        writer.add(Controllers::DEVICES, "devices.deny", "a")?;
    }
    for rule in rules {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        let value = if rule.is_total() { "a".to_owned() } else { rule.to_string() };
        writer.add(Controllers::DEVICES, file, value)?;
    }
    Ok(())
}
