//! What running containers use, for whoever watches them all.

use budu_sys::cgroup::{Cgroup, CgroupPath, Controllers, Layout, Stats};

use super::record::Status;
use super::spec;
use crate::{Engine, Error};

/// What one running container uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image, as it was asked for.
    pub image: String,
    /// Processor time, nanoseconds since it started.
    pub cpu_ns: u64,
    /// Nanoseconds it wanted to run and was not let.
    pub throttled_ns: u64,
    /// Memory charged, bytes, page cache included.
    pub memory: u64,
    /// Memory it needs: without the page cache that nobody used lately, bytes.
    pub working_set: u64,
    /// Its limit, bytes; `None` without.
    pub memory_limit: Option<u64>,
    /// Tasks.
    pub pids: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub written_bytes: u64,
    /// Pressure: time in which its tasks waited for something. Only where the
    /// kernel tells (control groups version 2).
    pub pressure: Vec<Pressure>,
}

/// Pressure stall information: time lost for want of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressure {
    /// `cpu`, `memory`, `io`.
    pub resource: &'static str,
    /// `some`: at least one task waited; `full`: all did.
    pub share: &'static str,
    /// Microseconds in all.
    pub total_us: u64,
}

impl Pressure {
    /// The machine's own.
    pub fn of_the_machine() -> Vec<Pressure> {
        let read = |resource: &str| std::fs::read_to_string(format!("/proc/pressure/{resource}")).ok();
        gather(read)
    }
}

fn gather(read: impl Fn(&str) -> Option<String>) -> Vec<Pressure> {
    let resources = ["cpu", "memory", "io"];
    resources.into_iter().flat_map(|resource| parse(resource, &read(resource).unwrap_or_default())).collect()
}

/// Parses `some avg10=0.00 avg60=0.00 avg300=0.00 total=1`.
fn parse(resource: &'static str, text: &str) -> Vec<Pressure> {
    let line = |line: &str| {
        let share = ["some", "full"].into_iter().find(|share| line.starts_with(share))?;
        let total_us = line.rsplit_once("total=")?.1.trim().parse().ok()?;
        Some(Pressure { resource, share, total_us })
    };
    text.lines().filter_map(line).collect()
}

impl Engine {
    /// What each running container uses. One that ends meanwhile is left out.
    ///
    /// # Errors
    /// There are no control groups.
    pub fn usage(&self) -> Result<Vec<Usage>, Error> {
        let layout = Layout::detect().map_err(|e| Error::Runtime { message: e.to_string() })?;
        let running = self.all().into_iter().filter(|c| matches!(c.state().status, Status::Running | Status::Paused));
        let measured = running.filter_map(|container| {
            let record = container.record();
            let path = CgroupPath::parse(&spec::cgroup_path(&record, &self.0.options.cgroup_parent)).ok()?;
            let cgroup = Cgroup::open(&layout, &path).ok()?;
            let mut usage = shape(&cgroup.stats().ok()?);
            usage.id = container.id.to_string();
            usage.name.clone_from(&record.name);
            usage.image.clone_from(&record.config.image);
            usage.pressure = gather(|resource| {
                let controller = match resource {
                    "cpu" => Controllers::CPU,
                    "memory" => Controllers::MEMORY,
                    _ => Controllers::IO,
                };
                cgroup.text(controller, &format!("{resource}.pressure"))
            });
            Some(usage)
        });
        let mut list: Vec<Usage> = measured.collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }
}

fn shape(stats: &Stats) -> Usage {
    let memory = &stats.memory;
    let idle = memory.stat("total_inactive_file").or_else(|| memory.stat("inactive_file")).unwrap_or(0);
    /// Where the kernel's "no limit" begins: the largest multiple of a page.
    const NO_LIMIT: u64 = i64::MAX as u64 & !0xfff;
    Usage {
        cpu_ns: stats.cpu.usage_ns,
        throttled_ns: stats.cpu.throttled_ns,
        memory: memory.usage,
        working_set: memory.usage.saturating_sub(idle),
        memory_limit: Some(memory.limit).filter(|limit| *limit < NO_LIMIT && *limit > 0),
        pids: stats.pids.current,
        read_bytes: stats.block_io.iter().map(|device| device.read_bytes).sum(),
        written_bytes: stats.block_io.iter().map(|device| device.write_bytes).sum(),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_lines() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let found: Vec<_> = parse("io", text).into_iter().map(|p| (p.share, p.total_us)).collect();
        assert_eq!(found, [("some", 12), ("full", 3)]);
        assert!(parse("io", "").is_empty());
    }
}
