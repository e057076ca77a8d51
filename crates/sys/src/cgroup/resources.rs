//! The limits a container may have, as the OCI runtime specification names them (config-linux, "Control groups").

use super::{DeviceRule, Error};
use std::collections::BTreeMap;

/// All limits of one group. `None` means: leave as the kernel made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Memory and swap.
    pub memory: Memory,
    /// Processor time.
    pub cpu: Cpu,
    /// Most tasks; 0 counts as not given, less means no limit at all (`max`).
    pub pids: Option<i64>,
    /// Disk.
    pub block_io: BlockIo,
    /// Device rules in order; the last one that matches a device decides. `None` leaves every device open.
    pub devices: Option<Vec<DeviceRule>>,
    /// Huge page limits.
    pub huge_pages: Vec<HugePage>,
    /// Class identifier of packets; v1 only, 0 counts as not given.
    pub net_class: Option<u32>,
    /// Interface and priority; v1 only.
    pub net_priorities: Vec<(String, u32)>,
    /// Remote DMA.
    pub rdma: Vec<Rdma>,
    /// cgroup v2 files written as they are, after everything else.
    pub unified: BTreeMap<String, String>,
}

/// Memory limits, all in bytes; -1 means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Reclaim target under pressure.
    pub reservation: Option<i64>,
    /// Memory *plus* swap.
    pub swap: Option<i64>,
    /// 0 to 100; v1 only, v2 has no such file.
    pub swappiness: Option<u64>,
    /// Let tasks wait instead of killing one; v1 only.
    pub disable_oom_killer: bool,
    /// Refuse a limit that what is in use already reaches; v2 only, v1 always does.
    pub check: bool,
}

/// Processor limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cpu {
    /// Relative weight, 2 to 262144, 1024 being the default.
    pub shares: Option<u64>,
    /// Microseconds of processor time per period; 0 or less means unlimited.
    pub quota: Option<i64>,
    /// Microseconds, 1000 to 1000000; 0 counts as not given.
    pub period: Option<u64>,
    /// Microseconds that may be saved up for later.
    pub burst: Option<u64>,
    /// Microseconds of real-time scheduling per period; v1 only.
    pub realtime_runtime: Option<i64>,
    /// Microseconds; v1 only.
    pub realtime_period: Option<u64>,
    /// Processors, "0-3,5".
    pub cpus: Option<String>,
    /// Memory nodes, "0-1".
    pub mems: Option<String>,
    /// SCHED_IDLE for the whole group: 1; 0 takes it back.
    pub idle: Option<i64>,
}

/// Disk limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIo {
    /// Relative weight, 10 to 1000; 0 counts as not given.
    pub weight: Option<u16>,
    /// Weight of the group's own tasks against the groups below it; v1 with the CFQ scheduler only.
    pub leaf_weight: Option<u16>,
    /// The same for single devices.
    pub weight_devices: Vec<WeightDevice>,
    /// Bytes read per second.
    pub read_bps: Vec<Throttle>,
    /// Bytes written per second.
    pub write_bps: Vec<Throttle>,
    /// Reads per second.
    pub read_iops: Vec<Throttle>,
    /// Writes per second.
    pub write_iops: Vec<Throttle>,
}

/// Weight of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightDevice {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// 10 to 1000; 0 counts as not given.
    pub weight: u16,
    /// As [`BlockIo::leaf_weight`].
    pub leaf_weight: u16,
}

/// Rate limit of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Per second; 0 removes the limit.
    pub rate: u64,
}

/// Limit on huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePage {
    /// As in the file names: "2MB", "1GB".
    pub size: String,
    /// Bytes.
    pub limit: u64,
}

/// Limits of one RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rdma {
    /// Its name, `mlx4_0`.
    pub device: String,
    /// Most HCA handles.
    pub handles: Option<u32>,
    /// Most HCA objects.
    pub objects: Option<u32>,
}

impl Rdma {
    /// As rdma.max wants it.
    pub(super) fn line(&self) -> String {
        let mut line = self.device.clone();
        for (key, value) in [("hca_handle", self.handles), ("hca_object", self.objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        line
    }
}

impl Resources {
    /// Names from a configuration become parts of file names and lines of kernel files: neither may be left.
    ///
    /// # Errors
    /// [`Error::BadValue`].
    pub(super) fn check_names(&self) -> Result<(), Error> {
        let word =
            |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        let all = self.huge_pages.iter().map(|page| ("huge page size", &page.size));
        let all = all.chain(self.rdma.iter().map(|rdma| ("rdma device", &rdma.device)));
        let all = all.chain(self.net_priorities.iter().map(|(name, _)| ("network interface", name)));
        for (what, name) in all {
            if !word(name) {
                return Err(Error::BadValue { what, value: name.clone(), reason: "it must be a name" });
            }
        }
        Ok(())
    }

    /// Whether nothing is limited, devices aside.
    pub fn is_unlimited(&self) -> bool {
        let open = Resources { devices: None, ..self.clone() };
        let cpu = Cpu { cpus: self.cpu.cpus.clone().filter(|list| !list.is_empty()), ..open.cpu.clone() };
        Resources { cpu, ..open } == Resources::default()
    }
}
