//! The payload of the built-in image `hello`: says what a container sees.
//!
//! A static program of its own with no crates, so that the image needs nothing
//! else. It reads only what the kernel shows every process.

use std::fs;

fn main() {
    println!("Hello from Budu. This is a container; here is what it sees.\n");
    row("pid", &std::process::id().to_string());
    row("host name", &read("/proc/sys/kernel/hostname"));
    row("kernel", &read("/proc/sys/kernel/osrelease"));
    row("root file system", &root_file_system());
    row("addresses", &addresses());
    row("memory limit", &limit(&["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"], bytes));
    row("process limit", &limit(&["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"], str::to_owned));
    row("cpu limit", &cpu_limit());
    row("open files", &open_files());
    row("user", &format!("uid {} gid {}", status("Uid"), status("Gid")));
    row("capabilities", &format!("{} (effective), {} (bounding)", status("CapEff"), status("CapBnd")));
    row("system call filter", if status("Seccomp") == "2" { "on" } else { "off" });
    row("processes", &processes());
    println!();
    for name in ["mnt", "pid", "net", "uts", "ipc", "cgroup", "user", "time"] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        row(&format!("{name} namespace"), &link.display().to_string());
    }
}

fn row(name: &str, value: &str) {
    println!("  {name:<20}{value}");
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("({path}: {e})")).trim().to_owned()
}

/// First field of a line of /proc/self/status.
fn status(key: &str) -> String {
    let text = read("/proc/self/status");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned()
}

/// Type and mode of what is mounted on `/`.
fn root_file_system() -> String {
    let text = read("/proc/self/mountinfo");
    let root = text.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        (fields.get(4) == Some(&"/")).then(|| {
            let mode = if fields[5].split(',').any(|option| option == "ro") { "read-only" } else { "writable" };
            format!("{}, {mode}", file_system.split(' ').next().unwrap_or("?"))
        })
    });
    root.unwrap_or_else(|| "unknown".to_owned())
}

/// IPv4 addresses of this network namespace, from the kernel's own table.
fn addresses() -> String {
    let text = read("/proc/net/fib_trie");
    let mut found: Vec<&str> = Vec::new();
    let mut last = "";
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line.contains("/32 host LOCAL") && !found.contains(&last) {
            found.push(last);
        }
    }
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

fn limit(files: &[&str], show: fn(&str) -> String) -> String {
    let value = files.iter().find_map(|file| fs::read_to_string(file).ok());
    value.map_or_else(|| "none".to_owned(), |value| show(value.trim()))
}

/// cgroup v1 says "no limit" with a number near the largest one.
fn bytes(text: &str) -> String {
    match text.parse::<u64>() {
        Ok(n) if n < 1 << 60 => format!("{} MiB", n >> 20),
        _ => "max".to_owned(),
    }
}

fn cpu_limit() -> String {
    let text = fs::read_to_string("/sys/fs/cgroup/cpu.max").or_else(|_| {
        let file = |name| fs::read_to_string(format!("/sys/fs/cgroup/cpu/cpu.cfs_{name}_us"));
        Ok::<_, std::io::Error>(format!("{} {}", file("quota")?.trim(), file("period")?.trim()))
    });
    let Ok(text) = text else { return "none".to_owned() };
    match text.trim().split_once(' ').map(|(quota, period)| (quota.parse::<f64>(), period.parse::<f64>())) {
        Some((Ok(quota), Ok(period))) if quota > 0.0 => format!("{:.2} CPUs", quota / period),
        _ => "max".to_owned(),
    }
}

fn open_files() -> String {
    let text = read("/proc/self/limits");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned()
}

fn processes() -> String {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let count = entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).count();
    count.to_string()
}
