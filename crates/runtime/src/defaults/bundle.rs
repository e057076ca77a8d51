//! The `config.json` that a bundle begins with: what `runc spec` writes, with another version of the specification.

use budu_spec::oci;

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Destination, type, source, options.
const MOUNTS: [(&str, &str, &str, &str); 7] = [
    ("/proc", "proc", "proc", ""),
    ("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(ToOwned::to_owned).collect()
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn namespace(kind: &str) -> oci::Namespace {
    oci::Namespace { kind: kind.to_owned(), path: String::new() }
}

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> oci::Mount {
    oci::Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: words(options),
        ..oci::Mount::default()
    }
}

/// A shell on the bundle's `rootfs`, for root. `unified` is a host with nothing but cgroup v2: there the container gets
/// a cgroup namespace too.
pub fn spec(unified: bool) -> oci::Spec {
    let mut namespaces: Vec<_> = ["pid", "network", "ipc", "uts", "mount"].map(namespace).into();
    if unified {
        namespaces.push(namespace("cgroup"));
    }
    oci::Spec {
        oci_version: oci::VERSION.to_owned(),
        process: Some(process()),
        root: Some(oci::Root { path: "rootfs".into(), readonly: true }),
        hostname: "runc".to_owned(),
        mounts: MOUNTS.map(|(destination, kind, source, options)| mount(destination, kind, source, options)).into(),
        linux: Some(oci::Linux {
            masked_paths: list(&MASKED),
            readonly_paths: list(&super::paths::READ_ONLY),
            resources: Some(oci::Resources {
                devices: vec![oci::DeviceRule { access: "rwm".to_owned(), ..oci::DeviceRule::default() }],
                ..oci::Resources::default()
            }),
            namespaces,
            ..oci::Linux::default()
        }),
        ..oci::Spec::default()
    }
}

fn process() -> oci::Process {
    oci::Process {
        terminal: true,
        args: words("sh"),
        env: words("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=xterm"),
        cwd: "/".to_owned(),
        no_new_privileges: true,
        capabilities: Some(oci::Capabilities {
            bounding: list(&CAPABILITIES),
            effective: list(&CAPABILITIES),
            permitted: list(&CAPABILITIES),
            ..oci::Capabilities::default()
        }),
        rlimits: vec![oci::Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
        ..oci::Process::default()
    }
}

/// Turns a configuration into one for a user without privileges: the host's network, a user namespace in which `uid` and
/// `gid` are root and alone, and nothing that only root could do.
pub fn rootless(spec: &mut oci::Spec, uid: u32, gid: u32) {
    for one in &mut spec.mounts {
        if one.destination.trim_end_matches('/') == "/sys" {
            *one = mount("/sys", "none", "/sys", "rbind nosuid noexec nodev ro");
        }
        one.options.retain(|word| !word.starts_with("uid=") && !word.starts_with("gid="));
    }
    let linux = spec.linux.get_or_insert_default();
    linux.namespaces.retain(|one| one.kind != "network" && one.kind != "user");
    linux.namespaces.push(namespace("user"));
    linux.uid_mappings = vec![oci::IdMapping { container_id: 0, host_id: uid, size: 1 }];
    linux.gid_mappings = vec![oci::IdMapping { container_id: 0, host_id: gid, size: 1 }];
    linux.resources = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{self, Bundle, Extras};

    fn kinds(spec: &oci::Spec) -> Vec<&str> {
        spec.linux.iter().flat_map(|linux| &linux.namespaces).map(|one| one.kind.as_str()).collect()
    }

    #[test]
    fn both_can_be_compiled() {
        let mut user = spec(true);
        rootless(&mut user, 1000, 1000);
        assert_eq!(kinds(&spec(false)), ["pid", "network", "ipc", "uts", "mount"]);
        assert_eq!(kinds(&user), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        for (spec, rootless) in [(spec(false), false), (user, true)] {
            let bundle = Some(Bundle { path: "/b".into(), rootless, ..Bundle::default() });
            let plan = compile::container(&spec, Extras { bundle, ..Extras::default() }).expect("valid");
            assert_eq!(plan.mounts.len(), 7);
            assert!(compile::warnings(&spec).is_empty());
        }
    }

    #[test]
    fn written_as_tools_expect_it() {
        let text = serde_json::to_string(&spec(false)).expect("plain data");
        let process =
            r#"{"ociVersion":"1.3.0","process":{"terminal":true,"user":{"uid":0,"gid":0},"args":["sh"],"env":["#;
        assert!(text.starts_with(process), "{text}");
        let mount = r#"{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/dev","type":"tmpfs""#;
        assert!(text.contains(mount), "{text}");
        let linux = r#""linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]},"namespaces":[{"type":"pid"}"#;
        assert!(text.contains(linux), "{text}");
    }
}
