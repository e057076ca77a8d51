//! Devices by name: the Container Device Interface (CDI 1.0), and requests for GPUs.
//!
//! Vendors describe in /etc/cdi and /var/run/cdi what a container needs for a
//! device: nodes, mounts, environment, hooks. A request names devices as
//! `vendor.com/class=name`; `--gpus` is one for whoever describes GPUs.

mod file;
mod request;

use std::path::{Path, PathBuf};

use budu_spec::oci;

use super::record::Record;
use crate::Error;
use file::{Edits, File};

/// Where descriptions lie unless the daemon is told otherwise; of two of a
/// device the later directory's counts.
pub(crate) const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Gives a container what it asked for by name.
///
/// # Errors
/// Docker's texts when a device is not described or a description makes no sense.
pub(crate) fn inject(record: &Record, directories: &[PathBuf], spec: &mut oci::Spec) -> Result<(), Error> {
    let requests = record.host_config.resources.device_requests.as_deref().unwrap_or_default();
    if requests.is_empty() {
        return Ok(());
    }
    let known = Known::read(directories);
    let mut names = Vec::new();
    for request in requests {
        names.extend(request::resolve(request, &known)?);
    }
    let failed = |why: String| Error::invalid(format!("CDI device injection failed: {why}"));
    let missing: Vec<&str> = names.iter().filter(|name| known.find(name).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(failed(format!("unresolvable CDI devices {}", missing.join(", "))));
    }
    let mut files: Vec<&Path> = Vec::new();
    for name in &names {
        let Some((file, device)) = known.find(name) else { continue };
        // What all devices of a description need is given once.
        if !files.contains(&file.path.as_path()) {
            files.push(&file.path);
            apply(&file.container_edits, spec).map_err(failed)?;
        }
        apply(&device.container_edits, spec).map_err(failed)?;
    }
    Ok(())
}

/// All descriptions of this host.
#[derive(Debug, Default)]
struct Known {
    /// Those of later directories first.
    files: Vec<File>,
}

impl Known {
    fn read(directories: &[PathBuf]) -> Known {
        let mut files = Vec::new();
        for directory in directories.iter().rev() {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                match file::read(&path) {
                    Ok(Some(file)) => files.push(file),
                    Ok(None) => {}
                    Err(why) => tracing::warn!(path = %path.display(), why, "device description skipped"),
                }
            }
        }
        Known { files }
    }

    /// The description of `vendor.com/class=name`.
    fn find(&self, name: &str) -> Option<(&File, &file::Device)> {
        let (kind, name) = name.split_once('=')?;
        let mut of_kind = self.files.iter().filter(|file| file.kind == kind);
        of_kind.find_map(|file| Some((file, file.devices.iter().find(|device| device.name == name)?)))
    }

    /// Names of all devices of a kind.
    fn of_kind(&self, kind: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for device in self.files.iter().filter(|file| file.kind == kind).flat_map(|file| &file.devices) {
            if !names.contains(&device.name.as_str()) {
                names.push(&device.name);
            }
        }
        names
    }
}

/// Adds what a description asks for.
fn apply(edits: &Edits, spec: &mut oci::Spec) -> Result<(), String> {
    let process = spec.process.get_or_insert_default();
    super::spec::extend(&mut process.env, edits.env.iter());
    let linux = spec.linux.get_or_insert_default();
    for wish in &edits.device_nodes {
        let device = wish.device()?;
        let resources = linux.resources.get_or_insert_default();
        if device.kind != "p" {
            resources.devices.push(oci::DeviceRule {
                allow: true,
                kind: device.kind.clone(),
                major: Some(device.major),
                minor: Some(device.minor),
                access: if wish.permissions.is_empty() { "rwm".to_owned() } else { wish.permissions.clone() },
            });
        }
        linux.devices.retain(|other| other.path != device.path);
        linux.devices.push(device);
    }
    for wish in &edits.net_devices {
        linux.net_devices.insert(wish.host_interface_name.clone(), oci::NetDevice { name: wish.name.clone() });
    }
    spec.mounts.extend(edits.mounts.iter().map(file::Mount::oci));
    let user = &mut spec.process.get_or_insert_default().user;
    user.group_names.extend(edits.additional_gids.iter().filter(|gid| **gid != 0).map(u32::to_string));
    for hook in &edits.hooks {
        let hooks = spec.hooks.get_or_insert_default();
        let list = match hook.hook_name.as_str() {
            "prestart" => &mut hooks.prestart,
            "createRuntime" => &mut hooks.create_runtime,
            "createContainer" => &mut hooks.create_container,
            "startContainer" => &mut hooks.start_container,
            "poststart" => &mut hooks.poststart,
            "poststop" => &mut hooks.poststop,
            other => return Err(format!("unknown hook name {other:?}")),
        };
        list.push(hook.oci());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;
    use budu_spec::docker::DeviceRequest;

    const JSON: &str = r#"{"cdiVersion":"0.6.0","kind":"acme.com/thing","devices":[
        {"name":"one","containerEdits":{"env":["ONE=1"],"deviceNodes":[{"path":"/dev/one","hostPath":"/dev/null","permissions":"r"}]}},
        {"name":"two","containerEdits":{"env":["TWO=2"]}}],
        "containerEdits":{"env":["ALL=yes"],"hooks":[{"hookName":"createContainer","path":"/bin/x","args":["x","y"]}],
        "mounts":[{"hostPath":"/usr/lib/acme","containerPath":"/opt/acme","options":["ro","bind"]}],"additionalGids":[5]}}"#;
    const YAML: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    env: [GPU=0]\n- name: \"1\"\n  containerEdits:\n    env:\n    - GPU1=yes\ncontainerEdits: {}\n";

    fn injected(dir: &Path, request: DeviceRequest) -> Result<oci::Spec, String> {
        let mut record = record("web");
        record.host_config.resources.device_requests = Some(vec![request]);
        let mut spec = oci::Spec::default();
        inject(&record, &[dir.to_owned()], &mut spec).map_err(|e| e.to_string())?;
        Ok(spec)
    }

    fn named(names: &[&str]) -> DeviceRequest {
        let ids = names.iter().map(|name| (*name).to_owned()).collect();
        DeviceRequest { driver: "cdi".into(), device_ids: Some(ids), ..DeviceRequest::default() }
    }

    fn gpus(count: i64, ids: Option<Vec<String>>) -> DeviceRequest {
        DeviceRequest {
            count,
            device_ids: ids,
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        }
    }

    #[test]
    fn a_device_brings_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("acme.json"), JSON).unwrap();
        let spec = injected(dir.path(), named(&["acme.com/thing=one", "acme.com/thing=two"])).unwrap();
        let process = spec.process.unwrap();
        assert_eq!(process.env, ["ALL=yes", "ONE=1", "TWO=2"]);
        assert_eq!(process.user.group_names, ["5"]);
        let linux = spec.linux.unwrap();
        assert_eq!(
            (linux.devices[0].path.as_str(), linux.devices[0].major, linux.devices[0].minor),
            ("/dev/one", 1, 3)
        );
        assert_eq!(linux.resources.unwrap().devices[0].access, "r");
        assert_eq!(spec.mounts.len(), 1);
        assert_eq!(spec.hooks.unwrap().create_container[0].args, ["x", "y"]);
        assert_eq!(
            injected(dir.path(), named(&["acme.com/thing=three"])).unwrap_err(),
            "CDI device injection failed: unresolvable CDI devices acme.com/thing=three"
        );
    }

    #[test]
    fn gpus_are_whatever_describes_them() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            injected(dir.path(), gpus(-1, None)).unwrap_err(),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        std::fs::write(dir.path().join("gpu.yaml"), YAML).unwrap();
        let env = |request| injected(dir.path(), request).unwrap().process.unwrap().env;
        assert_eq!(env(gpus(-1, None)), ["GPU=0", "GPU1=yes"]);
        assert_eq!(env(gpus(1, None)), ["GPU=0"]);
        assert_eq!(env(gpus(0, Some(vec!["1".into()]))), ["GPU1=yes"]);
        assert!(injected(dir.path(), gpus(3, None)).unwrap_err().contains("2 of them"));
    }
}
