//! Which limits this host can enforce, for `info` and for warnings instead of failures.

use super::{Controllers, Layout, Version};
use std::path::Path;

/// One flag per kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Support {
    /// Memory limit.
    pub memory: bool,
    /// Limit on memory plus swap.
    pub swap: bool,
    /// Switching the OOM killer off.
    pub oom_kill_disable: bool,
    /// Relative processor weight.
    pub cpu_shares: bool,
    /// Processor quota.
    pub cpu_quota: bool,
    /// Processor placement.
    pub cpuset: bool,
    /// Task limit.
    pub pids: bool,
    /// Relative disk weight.
    pub block_io_weight: bool,
    /// Disk rate limits.
    pub block_io_throttle: bool,
    /// Pausing.
    pub freeze: bool,
}

impl Layout {
    /// Looks at the hierarchies' files.
    pub fn support(&self) -> Support {
        match self.version {
            Version::V1 => self.support_v1(),
            Version::V2 => self.support_v2(),
        }
    }

    /// The layout without the hierarchies that carry only these controllers.
    #[must_use]
    pub fn without(mut self, controllers: Controllers) -> Layout {
        self.hierarchies.retain(|one| !one.controllers.difference(controllers).is_empty());
        self
    }

    fn support_v1(&self) -> Support {
        let has = |controller: Controllers, file: &str| {
            self.hierarchy(controller).is_some_and(|one| one.mount.join(file).exists())
        };
        Support {
            memory: has(Controllers::MEMORY, "memory.limit_in_bytes"),
            swap: has(Controllers::MEMORY, "memory.memsw.limit_in_bytes"),
            oom_kill_disable: has(Controllers::MEMORY, "memory.oom_control"),
            cpu_shares: has(Controllers::CPU, "cpu.shares"),
            // The root of the hierarchy has no quota of its own; only CONFIG_CFS_BANDWIDTH makes this file.
            cpu_quota: has(Controllers::CPU, "cpu.cfs_quota_us") || has(Controllers::CPU, "cpu.stat"),
            cpuset: has(Controllers::CPUSET, "cpuset.cpus"),
            pids: self.controllers().contains(Controllers::PIDS),
            block_io_weight: has(Controllers::BLKIO, "blkio.weight") || has(Controllers::BLKIO, "blkio.bfq.weight"),
            block_io_throttle: has(Controllers::BLKIO, "blkio.throttle.read_bps_device"),
            freeze: self.controllers().contains(Controllers::FREEZER),
        }
    }

    fn support_v2(&self) -> Support {
        let has = |controller| self.controllers().contains(controller);
        // The root group has no limits, any group below it shows what the kernel offers.
        let below = |file: &str| self.hierarchies.iter().any(|one| any_child_has(&one.mount, file));
        Support {
            memory: has(Controllers::MEMORY),
            swap: has(Controllers::MEMORY) && below("memory.swap.max"),
            oom_kill_disable: false,
            cpu_shares: has(Controllers::CPU),
            cpu_quota: has(Controllers::CPU),
            cpuset: has(Controllers::CPUSET),
            pids: has(Controllers::PIDS),
            block_io_weight: has(Controllers::IO) && (below("io.weight") || below("io.bfq.weight")),
            block_io_throttle: has(Controllers::IO),
            freeze: true,
        }
    }
}

fn any_child_has(directory: &Path, file: &str) -> bool {
    let children = std::fs::read_dir(directory).into_iter().flatten().flatten();
    children.map(|child| child.path().join(file)).any(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_can_be_left_out() {
        let text =
            b"1 2 0:3 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n4 2 0:5 / /c/blkio rw - cgroup cgroup rw,blkio\n";
        let layout = Layout::parse(text).expect("mounted");
        let fewer = layout.clone().without(Controllers::BLKIO.union(Controllers::CPUACCT));
        assert_eq!(fewer.controllers().to_string(), "cpu,cpuacct", "what shares a mount stays");
        assert_eq!(layout.without(Controllers::NONE).hierarchies.len(), 2);
    }

    #[test]
    fn this_host_supports_something() {
        match Layout::detect() {
            Ok(layout) => {
                let support = layout.support();
                assert_eq!(support.pids, layout.controllers().contains(Controllers::PIDS), "{support:?}");
            }
            Err(error) => println!("skipped: {error}"),
        }
    }
}
