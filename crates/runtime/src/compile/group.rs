//! `linux.cgroupsPath`, who owns the cgroup, and `linux.intelRdt`.

use std::path::{Component, Path};

use budu_spec::oci;

use super::{Bundle, CompileError, mounts, namespaces, wrong};
use crate::plan::{CgroupPlan, IntelRdtPlan, Namespaces, Resources};

/// Annotations with this prefix are properties of the systemd unit.
pub(crate) const PROPERTY: &str = "org.systemd.property.";

/// Plans the cgroup of a container of the engine, which says itself where it is.
pub(super) fn of_engine(linux: &oci::Linux) -> Result<CgroupPlan, CompileError> {
    let resources = linux.resources.as_ref().map_or(Ok(Resources::default()), super::resources)?;
    Ok(CgroupPlan { path: linux.cgroups_path.clone(), resources, ..CgroupPlan::default() })
}

/// Plans the cgroup of a bundle's container.
pub(super) fn of_bundle(
    spec: &oci::Spec,
    linux: &oci::Linux,
    planned: &Namespaces,
    id: &str,
    bundle: &Bundle,
) -> Result<CgroupPlan, CompileError> {
    let mut resources = linux.resources.as_ref().map_or(Ok(Resources::default()), super::resources)?;
    resources.devices = super::devices::rules(linux)?;
    let (path, under_own) =
        if bundle.systemd { (unit(&linux.cgroups_path, id)?, false) } else { place(&linux.cgroups_path, id) };
    Ok(CgroupPlan {
        path,
        under_own,
        systemd: bundle.systemd,
        optional: bundle.rootless && linux.cgroups_path.is_empty(),
        owner: owner(spec, linux, planned)?,
        intel_rdt: linux.intel_rdt.as_ref().map(|config| intel_rdt(config, id)).transpose()?,
        resources,
        scope_properties: if bundle.systemd { properties(spec)? } else { Vec::new() },
    })
}

/// `slice:prefix:name`; all three have defaults.
fn unit(path: &str, id: &str) -> Result<String, CompileError> {
    if path.is_empty() {
        return Ok(format!(":runc:{id}"));
    }
    if path.split(':').count() != 3 {
        let reason = format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        );
        return Err(wrong("linux.cgroupsPath", reason));
    }
    Ok(path.to_owned())
}

/// Path, and whether it is below the caller's own group: that is where relative ones are, and those nobody named.
/// Dots cannot lead out.
fn place(path: &str, id: &str) -> (String, bool) {
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    match (parts.is_empty(), path.starts_with('/')) {
        (true, true) => ("/".to_owned(), false),
        (true, false) => (id.to_owned(), true),
        (false, absolute) => (parts.join("/"), !absolute),
    }
}

/// Who runs the program may manage what is below the group, if it sees it as its root and may write there
/// ("Cgroup ownership").
fn owner(spec: &oci::Spec, linux: &oci::Linux, planned: &Namespaces) -> Result<Option<u32>, CompileError> {
    let writable = spec.mounts.iter().any(|mount| {
        mount.source == "cgroup"
            && mounts::is(&mount.destination, "/sys/fs/cgroup")
            && !mount.options.iter().any(|word| word == "ro")
    });
    if planned.new & namespaces::CGROUP == 0 || !writable {
        return Ok(None);
    }
    let inside = spec.process.as_ref().map_or(0, |process| process.user.uid);
    if namespaces::own(planned) & namespaces::USER == 0 {
        return Ok(Some(inside));
    }
    let map = namespaces::map("linux.uidMappings", &linux.uid_mappings)?;
    Ok(namespaces::host_id(&map, inside))
}

fn properties(spec: &oci::Spec) -> Result<Vec<(String, String)>, CompileError> {
    let mut all = Vec::new();
    for (key, value) in &spec.annotations {
        let Some(name) = key.strip_prefix(PROPERTY) else { continue };
        let reason = if name.len() < 3 {
            "too short"
        } else if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            "contains non-alphabetic character"
        } else {
            all.push((name.to_owned(), value.clone()));
            continue;
        };
        return Err(wrong("annotations", format!("annotation {key} name incorrect: {reason}")));
    }
    Ok(all)
}

fn intel_rdt(config: &oci::IntelRdt, id: &str) -> Result<IntelRdtPlan, CompileError> {
    let group = config.clos_id.as_str();
    if group == "." || group == ".." || (group.len() > 1 && group.contains('/')) {
        return Err(wrong("linux.intelRdt.closID", format!("invalid intelRdt.ClosID {group:?}")));
    }
    let bandwidth = config.mem_bw_schema.as_str();
    if !bandwidth.is_empty() && (!bandwidth.starts_with("MB:") || bandwidth.contains('\n')) {
        let reason = format!("{bandwidth:?}: want one line that begins with MB:");
        return Err(wrong("linux.intelRdt.memBwSchema", reason));
    }
    if let Some(n) = config.schemata.iter().position(|line| line.contains('\n')) {
        return Err(wrong(format!("linux.intelRdt.schemata[{n}]"), "a newline in one line"));
    }
    let own = [&config.l3_cache_schema, &config.mem_bw_schema].into_iter().chain(&config.schemata);
    Ok(IntelRdtPlan {
        group: if group.is_empty() { id } else { group }.to_owned(),
        shared: !group.is_empty(),
        schemata: own.flat_map(|lines| lines.lines()).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect(),
        monitoring: config.enable_monitoring,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_group_is() {
        let table = [
            ("", ("id", true)),
            ("/a//b/", ("a/b", false)),
            ("a/b", ("a/b", true)),
            ("../../etc", ("etc", true)),
            ("/../..", ("/", false)),
            ("/", ("/", false)),
        ];
        for (path, (expected, under_own)) in table {
            assert_eq!(place(path, "id"), (expected.to_owned(), under_own), "{path}");
        }
    }

    #[test]
    fn schemata_are_lines() {
        let rdt = |value| intel_rdt(&serde_json::from_value(value).unwrap(), "id").map(|plan| plan.schemata);
        let good = serde_json::json!({"memBwSchema": "MB:0=20;1=70", "schemata": ["L3:0=f"]});
        assert_eq!(rdt(good).unwrap(), ["MB:0=20;1=70", "L3:0=f"]);
        for (bad, field) in [
            (serde_json::json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
            (serde_json::json!({"memBwSchema": "MB:0=20\nL3:0=f"}), "linux.intelRdt.memBwSchema"),
            (serde_json::json!({"schemata": ["L3:0=f", "MB:0=20\nL3:0=f"]}), "linux.intelRdt.schemata[1]"),
        ] {
            assert_eq!(rdt(bad).unwrap_err().field, field);
        }
    }

    #[test]
    fn what_a_unit_is_called() {
        assert_eq!(unit("", "id").unwrap(), ":runc:id");
        assert_eq!(unit("system.slice:docker:1234", "id").unwrap(), "system.slice:docker:1234");
        assert!(unit("/a/b", "id").unwrap_err().reason.contains("slice:prefix:name"));
    }
}
