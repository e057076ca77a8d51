//! Second generation: one directory, every controller's files in it.

use super::convert::{cpu_weight, io_weight, swap_alone};
use super::plan::Write;
use super::plan_v1::limit_text;
use super::resources::{BlockIo, Cpu, Memory};
use super::{CgroupPath, Controllers, Error, Layout, Plan, Resources, Version, device_program};

/// Switched on for every container where the host offers them, for accounting.
const ALWAYS: Controllers = Controllers::CPU.union(Controllers::MEMORY).union(Controllers::PIDS).union(Controllers::IO);

const DEFAULT_PERIOD: u64 = 100_000;

struct Writer {
    available: Controllers,
    enable: Controllers,
    needed: Controllers,
    writes: Vec<Write>,
}

impl Writer {
    fn need(&mut self, controller: Controllers, what: &str) -> Result<(), Error> {
        if !self.available.contains(controller) {
            return Err(Error::NoController { controller: controller.to_string(), what: what.to_owned() });
        }
        self.enable = self.enable.union(controller);
        self.needed = self.needed.union(controller);
        Ok(())
    }

    fn add(&mut self, controller: Controllers, file: &str, value: impl ToString) -> Result<&mut Write, Error> {
        self.need(controller, file)?;
        Ok(self.push(file, value.to_string()))
    }

    fn push(&mut self, file: &str, value: String) -> &mut Write {
        let write = Write { hierarchy: 0, file: file.to_owned(), value, otherwise: None, optional: false };
        let at = self.writes.len();
        self.writes.push(write);
        &mut self.writes[at]
    }
}

pub(super) fn plan(layout: &Layout, path: &CgroupPath, resources: &Resources) -> Result<Plan, Error> {
    resources.check_names()?;
    let available = layout.controllers();
    let enable = if layout.complete { available } else { ALWAYS.intersection(available) };
    let mut writer = Writer { available, enable, needed: Controllers::NONE, writes: Vec::new() };
    cpu(&mut writer, &resources.cpu)?;
    memory(&mut writer, &resources.memory)?;
    if let Some(limit) = resources.pids.filter(|limit| *limit != 0) {
        writer.add(Controllers::PIDS, "pids.max", limit_text(limit))?;
    }
    block_io(&mut writer, &resources.block_io)?;
    for page in &resources.huge_pages {
        writer.add(Controllers::HUGETLB, &format!("hugetlb.{}.max", page.size), page.limit)?;
        writer.add(Controllers::HUGETLB, &format!("hugetlb.{}.rsvd.max", page.size), page.limit)?.optional = true;
    }
    for rdma in &resources.rdma {
        writer.add(Controllers::RDMA, "rdma.max", rdma.line())?;
    }
    for (key, value) in &resources.unified {
        raw(&mut writer, key, value)?;
    }
    let Writer { enable, needed, writes, .. } = writer;
    Ok(Plan {
        version: Version::V2,
        path: path.clone(),
        hierarchies: layout.hierarchies.clone(),
        enable,
        needed,
        complete: layout.complete,
        writes,
        devices: resources.devices.as_deref().map(device_program::compile),
        check_memory: resources.memory.check.then(|| resources.memory.clone()),
        lenient: false,
        optional: false,
        adopt: false,
    })
}

fn cpu(writer: &mut Writer, cpu: &Cpu) -> Result<(), Error> {
    if let Some(cpus) = &cpu.cpus {
        writer.add(Controllers::CPUSET, "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = &cpu.mems {
        writer.add(Controllers::CPUSET, "cpuset.mems", mems)?;
    }
    if let Some(idle) = cpu.idle {
        writer.add(Controllers::CPU, "cpu.idle", idle)?;
    }
    // An idle group has no weight; the kernel refuses to set one.
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0 && cpu.idle != Some(1)) {
        writer.add(Controllers::CPU, "cpu.weight", cpu_weight(shares))?;
    }
    let period = cpu.period.filter(|period| *period != 0);
    match (cpu.quota.filter(|quota| *quota != 0), period) {
        (None, None) => {}
        (Some(quota), period) if quota > 0 => {
            let value = format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD));
            writer.add(Controllers::CPU, "cpu.max", value)?;
        }
        (_, period) => {
            writer.add(Controllers::CPU, "cpu.max", format!("max {}", period.unwrap_or(DEFAULT_PERIOD)))?;
        }
    }
    if let Some(burst) = cpu.burst {
        writer.add(Controllers::CPU, "cpu.max.burst", burst)?;
    }
    Ok(())
}

fn memory(writer: &mut Writer, memory: &Memory) -> Result<(), Error> {
    if let Some(swap) = swap_alone(memory.limit, memory.swap)? {
        // Without swap accounting there is no such file: then "none" and "any" are no lie, a number would be.
        writer.add(Controllers::MEMORY, "memory.swap.max", limit_text(swap))?.optional = swap <= 0;
    }
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        writer.add(Controllers::MEMORY, "memory.max", limit_text(limit))?;
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        writer.add(Controllers::MEMORY, "memory.low", limit_text(reservation))?;
    }
    Ok(())
}

fn block_io(writer: &mut Writer, io: &BlockIo) -> Result<(), Error> {
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        writer.add(Controllers::IO, "io.bfq.weight", weight)?.otherwise =
            Some(("io.weight".to_owned(), io_weight(weight).to_string()));
    }
    for device in io.weight_devices.iter().filter(|device| device.weight != 0) {
        let line = |weight: u64| format!("{}:{} {weight}", device.major, device.minor);
        writer.add(Controllers::IO, "io.bfq.weight", line(u64::from(device.weight)))?.otherwise =
            Some(("io.weight".to_owned(), line(io_weight(device.weight))));
    }
    for (list, key) in
        [(&io.read_bps, "rbps"), (&io.write_bps, "wbps"), (&io.read_iops, "riops"), (&io.write_iops, "wiops")]
    {
        for one in list {
            let rate = if one.rate == 0 { "max".to_owned() } else { one.rate.to_string() };
            writer.add(Controllers::IO, "io.max", format!("{}:{} {key}={rate}", one.major, one.minor))?;
        }
    }
    Ok(())
}

/// A file named by the user.
fn raw(writer: &mut Writer, key: &str, value: &str) -> Result<(), Error> {
    let bad = |reason| Error::BadValue { what: "unified", value: key.to_owned(), reason };
    if key.is_empty() || key.contains('/') || key == "." || key == ".." || key.bytes().any(|byte| byte < 0x20) {
        return Err(bad("it must be a file name in the group's directory"));
    }
    let (controller, _) = key.split_once('.').ok_or_else(|| bad("it must be CONTROLLER.FILE"))?;
    match (controller, Controllers::from_name(controller)) {
        ("cgroup", _) if matches!(key, "cgroup.max.descendants" | "cgroup.max.depth" | "cgroup.pressure") => {}
        // Others move processes, kill or delegate: actions and not limits.
        ("cgroup", _) => return Err(bad("it is not a limit")),
        (_, Some(known)) => writer.need(known, key)?,
        (_, None) => {}
    }
    for line in value.split('\n').filter(|line| !line.is_empty()) {
        writer.push(key, line.to_owned());
    }
    Ok(())
}
