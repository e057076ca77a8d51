//! `--mount` and `--tmpfs`.

use budu_spec::docker::{BindOptions, DriverConfig, Mount, VolumeOptions};

use super::parse::csv;

/// Parses one `--mount`.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    if text.trim().is_empty() {
        return Err("value is empty".to_owned());
    }
    for field in csv(text)? {
        field_of(&mut mount, &field)?;
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    check_kind(&mount)?;
    Ok(mount)
}

fn flag(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None => Ok(true),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    }
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn field_of(mount: &mut Mount, field: &str) -> Result<(), String> {
    let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
    if key.trim() != key {
        return Err(format!("invalid option '{key}' in '{field}': option should not have whitespace"));
    }
    if let Some(value) = value
        && value.trim() != value
    {
        return Err(format!("invalid value for '{key}' in '{field}': value should not have whitespace"));
    }
    let key = key.to_ascii_lowercase();
    match (key.as_str(), value) {
        ("readonly" | "ro", value) => {
            mount.read_only = flag(&key, value)?;
            return Ok(());
        }
        ("volume-nocopy", value) => {
            volume(mount).no_copy = flag(&key, value)?;
            return Ok(());
        }
        ("idmap", None) => {
            "owner".clone_into(&mut bind(mount).id_map);
            return Ok(());
        }
        ("bind-nonrecursive", _) => {
            return Err("bind-nonrecursive is deprecated, use bind-recursive=disabled instead".to_owned());
        }
        ("bind-create-src", value) => {
            let on = flag(&key, value)?;
            bind(mount).create_mountpoint = on;
            return Ok(());
        }
        _ => {}
    }
    let Some(value) = value else {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    };
    set(mount, &key, value, field)
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => {
            mount.source = match value.starts_with("./") || value.starts_with("../") || value == "." {
                true => {
                    std::path::absolute(value).map_or_else(|_| value.to_owned(), |path| clean(&path.to_string_lossy()))
                }
                false => value.to_owned(),
            }
        }
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "consistency" => mount.consistency = Some(value.to_lowercase()),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => value.clone_into(&mut volume(mount).subpath),
        "volume-label" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            volume(mount).labels.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        }
        "volume-driver" => value.clone_into(&mut driver(mount).name),
        "volume-opt" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            driver(mount).options.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        }
        "image-subpath" => value.clone_into(&mut mount.image_options.get_or_insert_default().subpath),
        "idmap" => value.clone_into(&mut bind(mount).id_map),
        "tmpfs-size" => {
            let size = budu_spec::units::parse_bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_default().size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_default().mode = mode;
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn check_kind(mount: &Mount) -> Result<(), String> {
    let kind = mount.kind.as_str();
    let mixed = |present: bool, option: &str, wanted: &str| {
        if present && kind != wanted {
            Err(format!("cannot mix '{option}-*' options with mount type '{kind}'"))
        } else {
            Ok(())
        }
    };
    mixed(mount.volume_options.is_some(), "volume", "volume")?;
    mixed(mount.image_options.is_some(), "image", "image")?;
    mixed(mount.bind_options.is_some(), "bind", "bind")?;
    mixed(mount.tmpfs_options.is_some(), "tmpfs", "tmpfs")?;
    if let Some(bind) = &mount.bind_options {
        if bind.read_only_non_recursive && !mount.read_only {
            return Err(
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned()
            );
        }
        if bind.read_only_force_recursive {
            if !mount.read_only {
                return Err(
                    "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned()
                );
            }
            if bind.propagation != "rprivate" {
                return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".to_owned());
            }
        }
    }
    // The daemon knows which kinds it has; it words the refusal.
    Ok(())
}

/// Removes `.` and `..` from an absolute path without looking at the file system.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let mount = parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rshared").unwrap();
        assert_eq!((mount.source.as_str(), mount.target.as_str(), mount.read_only), ("/a", "/b", true));
        assert_eq!(mount.bind_options.unwrap().propagation, "rshared");
        let mount = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(
            mount.tmpfs_options,
            Some(budu_spec::docker::TmpfsOptions { size_bytes: 1 << 20, mode: 0o1770, options: None })
        );
        let mount = parse("type=volume,source=v,target=/v,volume-nocopy,volume-label=a=b").unwrap();
        let options = mount.volume_options.unwrap();
        assert_eq!((options.no_copy, options.labels.unwrap()["a"].as_str()), (true, "b"));
    }

    #[test]
    fn complaints() {
        for (text, want) in [
            ("type=bind,src=/a", "target is required"),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=bind, target=/x", "invalid option ' target' in ' target=/x': option should not have whitespace"),
            ("type=tmpfs,target=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'tmpfs'"),
            ("target=/x,nope=1", "unknown option 'nope' in 'nope=1'"),
            ("target=/x,ro=maybe", "invalid value for ro: maybe"),
        ] {
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
    }
}
