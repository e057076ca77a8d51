//! Devices: nodes to make, and who may use them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use budu_runtime::defaults::devices;
use budu_spec::docker::{DeviceMapping, HostConfig, Resources};
use budu_spec::oci;

use crate::Error;

/// Refuses rules and permissions that mean nothing.
pub(super) fn check(wish: &Resources) -> Result<(), Error> {
    for rule in wish.device_cgroup_rules.iter().flatten() {
        device_rule(rule)?;
    }
    for device in &wish.devices {
        let access = &device.cgroup_permissions;
        if access.chars().any(|c| !"rwm".contains(c)) {
            return Err(Error::invalid(format!("invalid device mode: {access}")));
        }
    }
    Ok(())
}

/// Major and minor number of a device node of the host.
pub(super) fn number(path: &str) -> Result<(i64, i64), Error> {
    node(path).map(|(_, major, minor, _)| (major, minor))
}

/// Access rules, in order: everything is denied first.
pub(super) fn rules(host: &HostConfig) -> Result<Vec<oci::DeviceRule>, Error> {
    let convert = |rule: budu_runtime::plan::DeviceRule| oci::DeviceRule {
        allow: rule.allow,
        kind: rule.kind.to_string(),
        major: rule.major.map(i64::from),
        minor: rule.minor.map(i64::from),
        access: rule.access,
    };
    if host.privileged {
        return Ok(devices::privileged_rules().into_iter().map(convert).collect());
    }
    let mut rules: Vec<oci::DeviceRule> = devices::rules().into_iter().map(convert).collect();
    for device in &host.resources.devices {
        for (kind, _, major, minor, _) in mapped(device)? {
            let access = match device.cgroup_permissions.as_str() {
                "" => "rwm",
                given => given,
            };
            let access = access.to_owned();
            rules.push(oci::DeviceRule { allow: true, kind, major: Some(major), minor: Some(minor), access });
        }
    }
    for rule in host.resources.device_cgroup_rules.iter().flatten() {
        rules.push(device_rule(rule)?);
    }
    Ok(rules)
}

/// Parses `c 42:* rmw`.
fn device_rule(text: &str) -> Result<oci::DeviceRule, Error> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()),
    };
    if access.is_empty() || access.chars().any(|c| !"rwm".contains(c)) {
        return Err(bad());
    }
    let (major, minor) = (number(major)?, number(minor)?);
    Ok(oci::DeviceRule { allow: true, kind: kind.to_owned(), major, minor, access: access.to_owned() })
}

type Node = (String, String, i64, i64, u32);

/// The nodes of one `--device`: one, or all below a directory.
fn mapped(device: &DeviceMapping) -> Result<Vec<Node>, Error> {
    let source = Path::new(&device.path_on_host);
    if !source.is_dir() {
        let (kind, major, minor, mode) = node(&device.path_on_host)?;
        return Ok(vec![(kind, device.path_in_container.clone(), major, minor, mode)]);
    }
    let mut list = Vec::new();
    collect(source, &device.path_in_container, &mut list);
    Ok(list)
}

fn collect(dir: &Path, target: &str, list: &mut Vec<Node>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = format!("{}/{name}", target.trim_end_matches('/'));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"].contains(&name.as_str()) {
                collect(&entry.path(), &target, list);
            }
        } else if let Ok((kind, major, minor, mode)) = node(&entry.path().to_string_lossy())
            && name != "console"
        {
            list.push((kind, target, major, minor, mode));
        }
    }
}

/// Looks at a device node of the host.
fn node(path: &str) -> Result<(String, i64, i64, u32), Error> {
    let failed = |why: &str| {
        Error::invalid(format!("error gathering device information while adding custom device \"{path}\": {why}"))
    };
    let meta = std::fs::metadata(path).map_err(|_| failed("no such file or directory"))?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(failed("not a device node")),
    };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    Ok((kind.to_owned(), i64::from(major), i64::from(minor), meta.mode() & 0o777))
}

/// Nodes to make in /dev beyond the default ones.
pub(crate) fn nodes(host: &HostConfig) -> Result<Vec<oci::Device>, Error> {
    let mut list = Vec::new();
    if host.privileged {
        collect(Path::new("/dev"), "/dev", &mut list);
    }
    for device in &host.resources.devices {
        list.extend(mapped(device)?);
    }
    let device = |(kind, path, major, minor, mode)| oci::Device {
        kind,
        path,
        major,
        minor,
        file_mode: Some(mode),
        uid: Some(0),
        gid: Some(0),
    };
    Ok(list.into_iter().map(device).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_nodes() {
        let device = DeviceMapping {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/x".into(),
            cgroup_permissions: "r".into(),
        };
        let host = HostConfig {
            resources: Resources { devices: vec![device], ..Resources::default() },
            ..HostConfig::default()
        };
        let last = rules(&host).unwrap().pop().unwrap();
        assert_eq!((last.kind.as_str(), last.major, last.minor, last.access.as_str()), ("c", Some(1), Some(3), "r"));
        assert_eq!(nodes(&host).unwrap()[0].path, "/dev/x");
        assert!(device_rule("c 42:* rmw").is_ok());
        for bad in ["c 42 rwm", "x 1:1 r", "c a:b r", "c 1:1 q"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }
}
