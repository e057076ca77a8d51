//! What this host's kernel can limit; the rest is left out with a warning.

use std::sync::OnceLock;

use budu_spec::docker::Resources;
use budu_sys::cgroup::{Controllers, Layout, Version};

/// Kinds of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Support {
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) reservation: bool,
    pub(super) swappiness: bool,
    pub(super) oom_kill_disable: bool,
    pub(super) pids: bool,
    pub(super) cpu_shares: bool,
    pub(super) cpu_quota: bool,
    pub(super) cpu_realtime: bool,
    pub(super) cpuset: bool,
    pub(super) io_weight: bool,
    pub(super) io_weight_device: bool,
    pub(super) io_throttle: bool,
}

impl Support {
    /// What the kernel can at best.
    pub(super) const ALL: Support = Support {
        memory: true,
        swap: true,
        reservation: true,
        swappiness: true,
        oom_kill_disable: true,
        pids: true,
        cpu_shares: true,
        cpu_quota: true,
        cpu_realtime: true,
        cpuset: true,
        io_weight: true,
        io_weight_device: true,
        io_throttle: true,
    };

    /// Looks at the host, once.
    pub(super) fn of_host() -> Support {
        static SUPPORT: OnceLock<Support> = OnceLock::new();
        // Without any hierarchy the start says what is wrong.
        *SUPPORT.get_or_init(|| Layout::detect().map_or(Support::ALL, |layout| detect(&layout)))
    }

    /// Leaves out what the kernel cannot do, with Docker's words.
    pub(super) fn reduce(self, wish: &mut Resources, warnings: &mut Vec<String>) {
        self.reduce_memory(wish, warnings);
        self.reduce_cpu(wish, warnings);
        self.reduce_io(wish, warnings);
    }

    fn reduce_memory(self, wish: &mut Resources, warnings: &mut Vec<String>) {
        let mut warn = |text: &str| warnings.push(text.to_owned());
        if wish.memory > 0 && !self.memory {
            warn(
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
            );
            (wish.memory, wish.memory_swap) = (0, -1);
        }
        if wish.memory > 0 && wish.memory_swap != -1 && !self.swap {
            warn(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
            );
            wish.memory_swap = -1;
        }
        if wish.memory_swappiness.is_some_and(|n| n >= 0) && !self.swappiness {
            warn(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
            );
            wish.memory_swappiness = None;
        }
        if wish.memory_reservation > 0 && !self.reservation {
            warn(
                "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
            );
            wish.memory_reservation = 0;
        }
        if wish.oom_kill_disable.is_some() && !self.oom_kill_disable {
            if wish.oom_kill_disable == Some(true) {
                warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
            }
            wish.oom_kill_disable = None;
        }
        if wish.pids_limit.is_some() && !self.pids {
            if wish.pids_limit.is_some_and(|limit| limit > 0) {
                warn(
                    "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
                );
            }
            wish.pids_limit = None;
        }
    }

    fn reduce_cpu(self, wish: &mut Resources, warnings: &mut Vec<String>) {
        let mut warn = |text: &str| warnings.push(text.to_owned());
        if wish.cpu_shares > 0 && !self.cpu_shares {
            warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.");
            wish.cpu_shares = 0;
        }
        if (wish.cpu_period != 0 || wish.cpu_quota != 0) && !self.cpu_quota {
            warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.");
            (wish.cpu_period, wish.cpu_quota) = (0, 0);
        }
        if wish.cpu_percent > 0 {
            warn("linux does not support CPU percent. Percent discarded.");
            wish.cpu_percent = 0;
        }
        let asked = !wish.cpuset_cpus.is_empty() || !wish.cpuset_mems.is_empty();
        if asked && !self.cpuset {
            warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.");
            wish.cpuset_cpus.clear();
            wish.cpuset_mems.clear();
        }
    }

    fn reduce_io(self, wish: &mut Resources, warnings: &mut Vec<String>) {
        let mut warn = |text: String| warnings.push(text);
        if wish.blkio_weight > 0 && !self.io_weight {
            warn(
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                    .to_owned(),
            );
            wish.blkio_weight = 0;
        }
        if !wish.blkio_weight_device.is_empty() && !self.io_weight_device {
            warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.".to_owned());
            wish.blkio_weight_device.clear();
        }
        if self.io_throttle {
            return;
        }
        for (list, kind, what) in [
            (&mut wish.blkio_device_read_bps, "BPS Block I/O read", "Block I/O BPS read"),
            (&mut wish.blkio_device_write_bps, "BPS Block I/O write", "Block I/O BPS write"),
            (&mut wish.blkio_device_read_iops, "IOPS Block read", "Block I/O IOPS read"),
            (&mut wish.blkio_device_write_iops, "IOPS Block write", "Block I/O IOPS write"),
        ] {
            if !list.is_empty() {
                warn(format!(
                    "Your kernel does not support {kind} limit or the cgroup is not mounted. {what} limit discarded."
                ));
                list.clear();
            }
        }
    }
}

fn detect(layout: &Layout) -> Support {
    let known = layout.support();
    let v1 = layout.version == Version::V1;
    let file = |controller: Controllers, name: &str| {
        v1 && layout.hierarchy(controller).is_some_and(|one| one.mount.join(name).exists())
    };
    let device = file(Controllers::BLKIO, "blkio.weight_device") || file(Controllers::BLKIO, "blkio.bfq.weight_device");
    Support {
        memory: known.memory,
        swap: known.swap,
        reservation: if v1 { file(Controllers::MEMORY, "memory.soft_limit_in_bytes") } else { known.memory },
        swappiness: file(Controllers::MEMORY, "memory.swappiness"),
        oom_kill_disable: known.oom_kill_disable,
        pids: known.pids,
        cpu_shares: known.cpu_shares,
        cpu_quota: known.cpu_quota,
        cpu_realtime: file(Controllers::CPU, "cpu.rt_runtime_us"),
        cpuset: known.cpuset,
        io_weight: known.block_io_weight,
        io_weight_device: if v1 { device } else { known.block_io_weight },
        io_throttle: known.block_io_throttle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_cannot_do_is_left_out_and_said() {
        let none = Support { memory: false, cpuset: false, io_throttle: false, pids: false, ..Support::ALL };
        let mut wish: Resources = serde_json::from_str(
            r#"{"Memory":67108864,"CpusetCpus":"0","PidsLimit":0,"BlkioDeviceReadBps":[{"Path":"/dev/x","Rate":1}]}"#,
        )
        .unwrap();
        let mut warnings = Vec::new();
        none.reduce(&mut wish, &mut warnings);
        assert_eq!((wish.memory, wish.memory_swap, wish.cpuset_cpus.as_str(), wish.pids_limit), (0, -1, "", None));
        assert!(wish.blkio_device_read_bps.is_empty());
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[2].ends_with("Block I/O BPS read limit discarded."));
    }
}
