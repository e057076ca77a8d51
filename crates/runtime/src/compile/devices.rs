//! `linux.devices` and the device rules of the cgroup.

use budu_spec::oci;

use super::{CompileError, mounts, wrong};
use crate::defaults;
use crate::plan::{DevicePlan, DeviceRule};

/// The devices of the configuration, after the ones every container has
/// ("Default Devices") where it has a /dev of its own.
pub(super) fn nodes(config: &[oci::Device], own_dev: bool) -> Result<Vec<DevicePlan>, CompileError> {
    let listed = config.iter().enumerate().map(|(n, d)| node(n, d)).collect::<Result<Vec<_>, _>>()?;
    let mut all = if own_dev { defaults::devices::nodes() } else { Vec::new() };
    all.retain(|default| !listed.iter().any(|device| device.path == default.path));
    all.extend(listed);
    Ok(all)
}

/// Whether the container's /dev is not the host's: then devices and links are made in it.
pub(super) fn own_dev(spec: &oci::Spec) -> bool {
    !spec.mounts.iter().any(|mount| mounts::binds(mount) && mounts::is(&mount.destination, "/dev"))
}

fn node(n: usize, config: &oci::Device) -> Result<DevicePlan, CompileError> {
    let kind = match config.kind.as_str() {
        "c" | "u" => 0o020_000,
        "b" => 0o060_000,
        "p" => 0o010_000,
        other => {
            let reason = format!("invalid device type {other:?}: want c, b, u or p");
            return Err(wrong(format!("linux.devices[{n}].type"), reason));
        }
    };
    if config.path.is_empty() || config.path.contains('\0') {
        return Err(wrong(format!("linux.devices[{n}].path"), "missing"));
    }
    let number = |value: i64, name: &str| {
        u32::try_from(value).map_err(|_| wrong(format!("linux.devices[{n}].{name}"), "negative or too large"))
    };
    Ok(DevicePlan {
        path: config.path.clone(),
        mode: kind | config.file_mode.unwrap_or(0o666) & 0o7777,
        major: number(config.major, "major")?,
        minor: number(config.minor, "minor")?,
        uid: config.uid.unwrap_or(0),
        gid: config.gid.unwrap_or(0),
    })
}

/// The rules of a bundle's container: nothing but what the configuration says, then the default devices, which cannot
/// be forbidden, except where the configuration makes other nodes in their place.
pub(super) fn rules(linux: &oci::Linux) -> Result<Vec<DeviceRule>, CompileError> {
    let listed = linux.resources.iter().flat_map(|resources| &resources.devices).enumerate();
    let mut all = vec![DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".to_owned() }];
    for (n, config) in listed {
        if config.access.is_empty() {
            let reason = format!("device access at {n} field cannot be empty");
            return Err(wrong(format!("linux.resources.devices[{n}].access"), reason));
        }
        all.push(rule(n, config)?);
    }
    all.extend(defaults::devices::bundle_rules(|path| linux.devices.iter().any(|device| device.path == path)));
    Ok(all)
}

/// Plans one rule. No access given means all, as no number does.
pub(super) fn rule(n: usize, config: &oci::DeviceRule) -> Result<DeviceRule, CompileError> {
    let at = |member: &str, reason: String| wrong(format!("linux.resources.devices[{n}].{member}"), reason);
    let kind = match config.kind.as_str() {
        "" | "a" => 'a',
        "c" => 'c',
        "b" => 'b',
        other => return Err(at("type", format!("invalid cgroup device type {other:?}: want a, b or c"))),
    };
    // A negative number means all, as an absent one does; one that is too large must not.
    let number = |value: Option<i64>, member: &str| match value.filter(|value| *value >= 0).map(u32::try_from) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(at(member, "too large".to_owned())),
    };
    let access = if config.access.is_empty() { "rwm" } else { config.access.as_str() };
    // `a` for everything is not in the specification, but in use; beside others it counts for nothing.
    let access = if access == "a" { "rwm" } else { access };
    if let Some(letter) = access.chars().find(|letter| !"rwma".contains(*letter)) {
        return Err(at("access", format!("{letter:?} is none of r, w and m")));
    }
    let access: String = access.chars().filter(|letter| *letter != 'a').collect();
    Ok(DeviceRule {
        allow: config.allow,
        kind,
        major: number(config.major, "major")?,
        minor: number(config.minor, "minor")?,
        access,
    })
}
