//! What this runtime can do with a `config.json` (features.md).

use budu_spec::oci;
use budu_sys::capability::NAMES;

use super::seccomp;
use crate::compile::{attributes, group, hooks, namespaces};
use crate::mount_options;

/// Tools ask runtimes for these two by these names.
const CHECKPOINT: &str = "org.opencontainers.runc.checkpoint.enabled";
const VERSION: &str = "io.budu.version";

/// Annotations that reach beyond the container, besides the properties of its systemd unit: the first would be taken
/// for what the runtime says itself, the second names a file of the host that CRIU reads.
const UNSAFE: [&str; 2] = ["bundle", "org.criu.config"];

/// Everything, on a kernel of that version.
pub fn features(kernel: (u32, u32)) -> oci::Features {
    let mut unsafe_annotations = list(UNSAFE);
    unsafe_annotations.insert(1, group::PROPERTY.to_owned());
    oci::Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: oci::VERSION.to_owned(),
        hooks: list(hooks::POINTS),
        mount_options: mount_options::known(),
        linux: Some(linux(kernel)),
        annotations: [(CHECKPOINT, "true"), (VERSION, env!("CARGO_PKG_VERSION"))]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        potentially_unsafe_config_annotations: unsafe_annotations,
    }
}

fn linux(kernel: (u32, u32)) -> oci::LinuxFeatures {
    let yes = Some(oci::Enabled { enabled: Some(true) });
    oci::LinuxFeatures {
        namespaces: list(namespaces::KINDS.map(|(kind, _)| kind)),
        capabilities: NAMES.iter().map(|name| format!("CAP_{name}")).collect(),
        cgroup: Some(oci::CgroupFeatures {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(true),
            systemd_user: Some(true),
            rdma: Some(true),
        }),
        seccomp: Some(oci::SeccompFeatures {
            enabled: Some(true),
            actions: list(seccomp::ACTIONS),
            operators: list(seccomp::OPERATORS),
            archs: list(seccomp::ARCHITECTURES),
            known_flags: list(seccomp::FLAGS.map(|(flag, _)| flag)),
            supported_flags: seccomp::FLAGS
                .iter()
                .filter(|(_, since)| since.is_some_and(|since| kernel >= since))
                .map(|(flag, _)| (*flag).to_owned())
                .collect(),
        }),
        apparmor: yes,
        selinux: yes,
        intel_rdt: Some(oci::IntelRdtFeatures { enabled: Some(true), schemata: Some(true), monitoring: Some(true) }),
        memory_policy: Some(oci::MemoryPolicyFeatures {
            modes: list(attributes::MEMORY_MODES.map(|(mode, ..)| mode)),
            flags: list(attributes::MEMORY_FLAGS.map(|(flag, _)| flag)),
        }),
        mount_extensions: Some(oci::MountExtensions { idmap: yes }),
        net_devices: yes,
    }
}

fn list<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(ToOwned::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_listed_is_understood() {
        let linux = linux((6, 1));
        let seccomp = linux.seccomp.expect("there");
        for action in &seccomp.actions {
            for (op, arch) in seccomp.operators.iter().cycle().zip(&seccomp.archs) {
                let text = format!(
                    r#"{{"defaultAction":"SCMP_ACT_LOG","architectures":["{arch}"],"flags":["{}"],"syscalls":
                    [{{"names":["mkdir"],"action":"{action}","args":[{{"index":0,"value":1,"op":"{op}"}}]}}]}}"#,
                    seccomp.known_flags.join("\",\"")
                );
                let config = serde_json::from_str(&text).expect("well-formed");
                seccomp::oci_program(&config).unwrap_or_else(|error| panic!("{text}: {error}"));
            }
        }
        assert!(seccomp.actions.is_sorted() && seccomp.operators.is_sorted() && seccomp.archs.is_sorted());
        assert_eq!((seccomp.actions.len(), seccomp.operators.len(), seccomp.archs.len()), (9, 7, 23));
    }

    #[test]
    fn flags_by_kernel() {
        let flags = |kernel| linux(kernel).seccomp.expect("there").supported_flags.len();
        assert_eq!((flags((3, 17)), flags((4, 14)), flags((6, 1))), (1, 2, 3));
    }
}
