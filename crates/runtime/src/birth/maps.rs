//! Id maps of a new user namespace, user_namespaces(7).

use std::io;
use std::process::Command;

use rustix::process::Pid;

use crate::plan::Namespaces;

type Line = (u32, u32, u32);

/// Writes uid_map and gid_map of `pid`'s user namespace: ourselves where the
/// kernel lets us, else through newuidmap(1) and newgidmap(1).
///
/// # Errors
/// When the kernel refuses, or the helpers are needed and missing or refuse.
pub(super) fn write(namespaces: &Namespaces, pid: Pid) -> io::Result<()> {
    if namespaces.uid_map.is_empty() && namespaces.gid_map.is_empty() {
        return Ok(());
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    write_one(pid, "uid_map", &namespaces.uid_map, uid, "newuidmap")?;
    write_one(pid, "gid_map", &namespaces.gid_map, gid, "newgidmap")
}

fn write_one(pid: Pid, file: &str, map: &[Line], own: u32, helper: &str) -> io::Result<()> {
    let pid = pid.as_raw_nonzero();
    let path = format!("/proc/{pid}/{file}");
    if own != 0 && file == "gid_map" && is_own(map, own) {
        // Without privilege a group map is accepted only by who gives up setgroups(2).
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    let text: String = map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect();
    match std::fs::write(&path, text) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && own != 0 && !is_own(map, own) => {
            run_helper(helper, pid.get(), map)
        }
        other => other.map_err(|e| io::Error::new(e.kind(), format!("write {file}: {e}"))),
    }
}

/// The one line that needs no privilege: the caller's own id.
fn is_own(map: &[Line], own: u32) -> bool {
    matches!(map, [(_, outside, 1)] if *outside == own)
}

fn run_helper(helper: &str, pid: i32, map: &[Line]) -> io::Result<()> {
    let numbers = map.iter().flat_map(|(inside, outside, count)| [inside, outside, count]).map(u32::to_string);
    let output = Command::new(format!("/usr/bin/{helper}"))
        .arg(pid.to_string())
        .args(numbers)
        .env_clear()
        .current_dir("/")
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("{helper} (package uidmap) is needed for these maps: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{helper}: {}; see /etc/subuid and /etc/subgid", said.trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_id_needs_no_helper() {
        assert!(is_own(&[(0, 1000, 1)], 1000));
        assert!(!is_own(&[(0, 1000, 2)], 1000));
        assert!(!is_own(&[(0, 1000, 1), (1, 100_000, 65536)], 1000));
    }
}
