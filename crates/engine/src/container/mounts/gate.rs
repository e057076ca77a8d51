//! What older API versions asked for in other ways, or could not ask for.

use budu_spec::docker::{ApiVersion, HostConfig, Mount};

use crate::Error;

/// Said to whoever names a driver for volumes that do not listen to it.
const DRIVER_IGNORED: &str = "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead";

/// Adapts the mounts of a request to the version it was made for.
///
/// # Errors
/// Options that the version does not have, or that do not go with the type of the mount.
pub(crate) fn gate(host: &mut HostConfig, version: ApiVersion, warnings: &mut Vec<String>) -> Result<(), Error> {
    let before = |minor| version < ApiVersion::new(minor);
    for mount in host.mounts.iter_mut().flatten() {
        if let Some(options) = &mut mount.bind_options {
            options.non_recursive &= !before(40);
            options.create_mountpoint &= !before(42);
        }
        if before(42) {
            forget_strangers(mount);
        } else {
            refuse_strangers(mount)?;
        }
        let forced = mount.bind_options.as_ref().is_some_and(|options| options.read_only_force_recursive);
        let subpath = mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty());
        for (asked, minor, what) in [
            (forced, 44, "BindOptions.ReadOnlyForceRecursive"),
            (subpath, 45, "VolumeOptions.Subpath"),
            (mount.kind == "image", 48, "Mount type \"Image\""),
        ] {
            if asked && before(minor) {
                return Err(Error::invalid(format!("{what} needs API v1.{minor} or newer")));
            }
        }
        let own = |mount: &Mount| {
            let driver = mount.volume_options.as_ref().and_then(|options| options.driver_config.as_ref());
            driver.is_some_and(|driver| !driver.name.is_empty())
        };
        let ignored = !host.volume_driver.is_empty() && mount.kind == "volume" && !own(mount);
        if ignored && !before(48) && !warnings.iter().any(|warning| warning == DRIVER_IGNORED) {
            warnings.push(DRIVER_IGNORED.to_owned());
        }
    }
    Ok(())
}

fn forget_strangers(mount: &mut Mount) {
    if mount.kind != "bind" {
        mount.bind_options = None;
    }
    if mount.kind != "volume" {
        mount.volume_options = None;
    }
    if mount.kind != "tmpfs" {
        mount.tmpfs_options = None;
    }
}

fn refuse_strangers(mount: &Mount) -> Result<(), Error> {
    for (options, kind, given) in [
        ("VolumeOptions", "volume", mount.volume_options.is_some()),
        ("BindOptions", "bind", mount.bind_options.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
    ] {
        if given && mount.kind != kind {
            return Err(Error::invalid(format!("{options} must not be specified on mount type \"{}\"", mount.kind)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gated(json: &str, minor: u16) -> Result<HostConfig, String> {
        let mut host: HostConfig = serde_json::from_str(json).unwrap();
        gate(&mut host, ApiVersion::new(minor), &mut Vec::new()).map_err(|e| e.to_string())?;
        Ok(host)
    }

    #[test]
    fn options_came_with_versions() {
        let stranger = r#"{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","VolumeOptions":{}}]}"#;
        assert_eq!(gated(stranger, 41).unwrap().mounts.unwrap()[0].volume_options, None);
        assert_eq!(gated(stranger, 42).unwrap_err(), "VolumeOptions must not be specified on mount type \"bind\"");
        let subpath = r#"{"Mounts":[{"Type":"volume","Source":"a1","Target":"/b","VolumeOptions":{"Subpath":"x"}}]}"#;
        assert_eq!(gated(subpath, 44).unwrap_err(), "VolumeOptions.Subpath needs API v1.45 or newer");
        assert!(gated(subpath, 45).is_ok());
        let image = r#"{"Mounts":[{"Type":"image","Source":"a","Target":"/b"}]}"#;
        assert_eq!(gated(image, 47).unwrap_err(), "Mount type \"Image\" needs API v1.48 or newer");
    }
}
