//! `linux.sysctl`: which kernel parameters a container may set, and where they are.

use budu_spec::kernel::{Scope, sysctl_scope};
use budu_spec::oci;

use super::{CompileError, namespaces, wrong};

/// Paths below /proc/sys and values. `own` are the namespaces the container does not share: given, only what belongs to
/// one of them may be set.
pub(super) fn plan(linux: &oci::Linux, own: Option<u64>) -> Result<Vec<(String, String)>, CompileError> {
    linux.sysctl.iter().map(|(key, value)| one(key, value, own)).collect()
}

fn one(key: &str, value: &str, own: Option<u64>) -> Result<(String, String), CompileError> {
    let path = path(key);
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain || path.contains('\0') || value.contains('\n') {
        return Err(wrong("linux.sysctl", format!("{key:?} = {value:?} is not a kernel parameter and one line")));
    }
    if let Some(own) = own {
        allowed(&path.replace('/', "."), own).map_err(|reason| wrong("linux.sysctl", reason))?;
    }
    Ok((path, value.to_owned()))
}

/// The first separator of a name says which one it uses (sysctl.d(5)); the other one then stands for it in names of
/// interfaces: `net.ipv4.conf.eno2/100.rp_filter`.
fn path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'.' => key
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// Whether a parameter belongs to one of these namespaces. A network namespace that is joined may still be the host's:
/// that is for whoever can look at it, see [`super::check_host`].
fn allowed(key: &str, own: u64) -> Result<(), String> {
    let has = |bit: u64| own & bit != 0;
    match sysctl_scope(key) {
        Some(Scope::Ipc) if !has(namespaces::IPC) => {
            Err(format!("sysctl {key:?} is not allowed in the hosts ipc namespace"))
        }
        Some(Scope::Network) if !has(namespaces::NETWORK) => {
            Err(format!("sysctl {key:?} not allowed in host network namespace"))
        }
        // The host's counts bound every container's: only one with a user namespace has its own.
        Some(Scope::User) if !has(namespaces::USER) => {
            Err(format!("setting ucounts without a user namespace not allowed: {key}"))
        }
        Some(Scope::Uts) if key == "kernel.hostname" && has(namespaces::UTS) => {
            Err(format!("sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field"))
        }
        Some(scope) if scope != Scope::Uts || has(namespaces::UTS) => Ok(()),
        _ => Err(format!("sysctl {key:?} is not in a separate kernel namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_paths() {
        let table = [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ];
        for (key, expected) in table {
            assert_eq!(one(key, "1", None).unwrap().0, expected);
        }
        for key in ["net.../../kernel.core_pattern", "/etc/passwd", "..", "", "net..x", "net/../kernel/x"] {
            assert!(one(key, "1", None).is_err(), "{key}");
        }
        assert!(one("net.x", "1\n2", None).is_err());
    }

    #[test]
    fn each_belongs_to_a_namespace() {
        let table = [
            ("kernel.shmmax", namespaces::IPC, ""),
            ("kernel/shmmax", namespaces::IPC, ""),
            ("kernel.shmmax", namespaces::UTS, "not allowed in the hosts ipc namespace"),
            ("fs.mqueue.queues_max", namespaces::IPC, ""),
            ("fs.mqueue.queues_max", 0, "not allowed in the hosts ipc namespace"),
            ("net.core.somaxconn", namespaces::NETWORK, ""),
            ("net.core.somaxconn", 0, "not allowed in host network namespace"),
            ("net.ipv4.conf.eno2/100.rp_filter", namespaces::NETWORK, ""),
            ("kernel.domainname", namespaces::UTS, ""),
            ("kernel.domainname", 0, "not in a separate kernel namespace"),
            ("kernel.hostname", namespaces::UTS, "conflicts with the OCI \"hostname\" field"),
            ("user.max_user_namespaces", namespaces::USER, ""),
            ("user.max_user_namespaces", 0, "setting ucounts without a user namespace"),
            ("kernel.core_pattern", u64::MAX, "not in a separate kernel namespace"),
            ("vm.swappiness", u64::MAX, "not in a separate kernel namespace"),
        ];
        for (key, own, expected) in table {
            match one(key, "1", Some(own)) {
                Ok(_) => assert_eq!(expected, "", "{key}"),
                Err(error) => assert!(!expected.is_empty() && error.reason.contains(expected), "{key}: {error}"),
            }
        }
    }
}
