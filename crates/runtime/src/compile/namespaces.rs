//! `linux.namespaces`, the maps of user namespaces and the offsets of time namespaces.

use std::path::{Path, PathBuf};

use budu_spec::oci;

use super::{CompileError, wrong};
use crate::plan::Namespaces;

/// A line of uid_map or gid_map: first id inside, first id outside, how many.
pub(super) type Line = (u32, u32, u32);

pub(super) const TIME: u64 = 0x0000_0080;
pub(super) const MOUNT: u64 = 0x0002_0000;
pub(super) const CGROUP: u64 = 0x0200_0000;
pub(super) const UTS: u64 = 0x0400_0000;
pub(super) const IPC: u64 = 0x0800_0000;
pub(super) const USER: u64 = 0x1000_0000;
pub(super) const PID: u64 = 0x2000_0000;
pub(super) const NETWORK: u64 = 0x4000_0000;

/// Kinds by name, sorted, with their CLONE_NEW* bits.
pub(crate) const KINDS: [(&str, u64); 8] = [
    ("cgroup", CGROUP),
    ("ipc", IPC),
    ("mount", MOUNT),
    ("network", NETWORK),
    ("pid", PID),
    ("time", TIME),
    ("user", USER),
    ("uts", UTS),
];

/// user_namespaces(7).
const MAP_LINES: usize = 340;
const CLOCKS: [&str; 2] = ["boottime", "monotonic"];

/// Which ones a container does not share with its parent: made or joined.
pub(super) fn own(namespaces: &Namespaces) -> u64 {
    namespaces.join.iter().fold(namespaces.new, |bits, (bit, _)| bits | bit)
}

/// Plans all of them. `inherits`: whatever is not named is shared with the caller, the mount namespace too.
pub(super) fn plan(linux: &oci::Linux, inherits: bool) -> Result<Namespaces, CompileError> {
    let mut out = Namespaces::default();
    let mut seen = 0u64;
    for (n, namespace) in linux.namespaces.iter().enumerate() {
        let kind = namespace.kind.as_str();
        let bit = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, bit)| *bit);
        let bit = bit.ok_or_else(|| {
            wrong(format!("linux.namespaces[{n}].type"), format!("namespace {kind:?} does not exist"))
        })?;
        if seen & bit != 0 {
            return Err(wrong(format!("linux.namespaces[{n}]"), format!("{kind} is given twice (duplicated ns)")));
        }
        seen |= bit;
        match namespace.path.as_str() {
            "" => out.new |= bit,
            path if Path::new(path).is_absolute() => out.join.push((bit, PathBuf::from(path))),
            path => return Err(wrong(format!("linux.namespaces[{n}].path"), format!("{path:?} is not absolute"))),
        }
    }
    if seen & MOUNT == 0 {
        if !(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty()) {
            let reason = "unable to restrict sys entries without a private MNT namespace";
            return Err(wrong("linux.namespaces", reason));
        }
        if !inherits {
            return Err(wrong("linux.namespaces", "a container needs a mount namespace"));
        }
    }
    user(linux, seen, &mut out)?;
    out.time_offsets = time(linux, seen, out.new)?;
    Ok(out)
}

fn user(linux: &oci::Linux, seen: u64, out: &mut Namespaces) -> Result<(), CompileError> {
    let uid_map = map("linux.uidMappings", &linux.uid_mappings)?;
    let gid_map = map("linux.gidMappings", &linux.gid_mappings)?;
    if seen & USER == 0 {
        return match uid_map.is_empty() && gid_map.is_empty() {
            true => Ok(()),
            false => Err(wrong(
                "linux.uidMappings",
                "user namespace mappings specified, but user namespace isn't enabled in the config",
            )),
        };
    }
    if out.new & USER != 0 {
        for (field, id, map) in [("linux.uidMappings", "uid", &uid_map), ("linux.gidMappings", "gid", &gid_map)] {
            if map.is_empty() {
                return Err(wrong(field, format!("user namespaces enabled, but no {id} mappings found")));
            }
            if host_id(map, 0).is_none() {
                return Err(wrong(field, format!("user namespaces enabled, but no mapping found for {id} 0")));
            }
        }
        (out.uid_map, out.gid_map) = (uid_map, gid_map);
    }
    // A joined one has its maps already; some callers repeat them here, which is harmless.
    Ok(())
}

fn time(linux: &oci::Linux, seen: u64, new: u64) -> Result<Vec<(String, i64, u32)>, CompileError> {
    let offsets = &linux.time_offsets;
    let reason = if offsets.is_empty() {
        return Ok(Vec::new());
    } else if seen & TIME == 0 {
        "time namespace offsets specified, but time namespace isn't enabled in the config"
    } else if new & TIME == 0 {
        "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
    } else if let Some(clock) = offsets.keys().find(|clock| !CLOCKS.contains(&clock.as_str())) {
        return Err(wrong("linux.timeOffsets", format!("{clock:?} has no offset: want monotonic or boottime")));
    } else if offsets.values().any(|offset| offset.nanosecs >= 1_000_000_000) {
        "nanosecs must be below 1000000000"
    } else {
        return Ok(offsets.iter().map(|(clock, o)| (clock.clone(), o.secs, o.nanosecs)).collect());
    };
    Err(wrong("linux.timeOffsets", reason))
}

/// Lines of a map, checked as the kernel would (user_namespaces(7)) but with a reason.
pub(super) fn map(field: &str, config: &[oci::IdMapping]) -> Result<Vec<Line>, CompileError> {
    if config.len() > MAP_LINES {
        return Err(wrong(field, format!("{} lines, the kernel takes {MAP_LINES}", config.len())));
    }
    for (n, line) in config.iter().enumerate() {
        let at = |reason: &str| wrong(format!("{field}[{n}]"), reason);
        if line.size == 0 {
            return Err(at("size must not be 0"));
        }
        if line.container_id.checked_add(line.size).is_none() || line.host_id.checked_add(line.size).is_none() {
            return Err(at("beyond the largest id"));
        }
        let meets = |a: u32, b: u32, other: u32| a < b + other && b < a + line.size;
        if config[..n].iter().any(|earlier| {
            meets(line.container_id, earlier.container_id, earlier.size)
                || meets(line.host_id, earlier.host_id, earlier.size)
        }) {
            return Err(at("overlaps an earlier one"));
        }
    }
    Ok(config.iter().map(|line| (line.container_id, line.host_id, line.size)).collect())
}

/// What an id of the container is outside.
pub(super) fn host_id(map: &[Line], id: u32) -> Option<u32> {
    map.iter().find_map(|(inside, outside, size)| {
        id.checked_sub(*inside).filter(|offset| offset < size).map(|offset| outside + offset)
    })
}
