//! Paths below /proc and /sys that a container shall not see or not write.

use std::sync::OnceLock;

/// Hidden, whether or not this host has them: files and directories of the host's hardware, kernel memory and keys.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only: writing to them changes the host.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// [`MASKED`] and each processor's `thermal_throttle` directory on this host, a side channel about other tenants. The
/// host is looked at once per process: the kernel makes these directories at boot.
pub fn masked() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<String> = MASKED.iter().map(ToString::to_string).collect();
        let mut throttles: Vec<String> = std::fs::read_dir("/sys/devices/system/cpu")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("thermal_throttle"))
            .filter(|path| path.is_dir())
            .filter_map(|path| path.into_os_string().into_string().ok())
            .collect();
        throttles.sort();
        all.append(&mut throttles);
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_order_and_complete() {
        assert!(MASKED.is_sorted() && READ_ONLY.is_sorted());
        assert!(masked().len() >= MASKED.len());
        assert!(masked().iter().all(|path| path.starts_with("/proc/") || path.starts_with("/sys/")));
    }
}
