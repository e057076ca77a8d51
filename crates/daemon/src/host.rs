//! What the host is.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

/// Facts that do not change while the daemon runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Since when the daemon runs.
    pub(crate) started: Timestamp,
    /// uname -r.
    pub(crate) kernel: String,
    /// Host name.
    pub(crate) name: String,
    /// uname -m.
    pub(crate) machine: String,
    /// `PRETTY_NAME` of os-release.
    pub(crate) system: String,
    /// `VERSION_ID` of os-release.
    pub(crate) system_version: String,
    /// CPUs.
    pub(crate) cpus: usize,
    /// Bytes.
    pub(crate) memory: i64,
    /// What cgroups can limit.
    pub(crate) limits: budu_engine::Host,
}

impl Facts {
    /// Looks at the host.
    pub(crate) fn detect() -> Facts {
        let uname = rustix::system::uname();
        let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
        let release = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let field = |key: &str| {
            let line = release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            line.map(|v| v.trim_matches(['"', '\'']).to_owned())
        };
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total =
            memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<i64>().ok());
        Facts {
            started: Timestamp::now(),
            kernel: text(uname.release()),
            name: text(uname.nodename()),
            machine: text(uname.machine()),
            system: field("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            system_version: field("VERSION_ID").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: total.unwrap_or(0) * 1024,
            limits: budu_engine::Host::detect(),
        }
    }
}

/// Go's name of our architecture.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The number of a group, given by number or by name in /etc/group.
pub(crate) fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name && !name.is_empty()).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// The daemon's id, made at its first start.
pub(crate) fn daemon_id(root: &Path) -> io::Result<String> {
    let path = root.join("daemon-id");
    if let Ok(id) = fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let id = uuid(budu_spec::Id::random().as_str());
    fs::write(&path, &id)?;
    Ok(id)
}

/// 128 random bits in the form of a UUID, version 4.
fn uuid(hex: &str) -> String {
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
