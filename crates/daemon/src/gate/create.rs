//! The request that creates a container, from whatever version to the newest.

use budu_spec::docker::ApiVersion;
use serde_json::{Value, json};

use super::{below, is_empty, part, remove};
use crate::http::Failure;

/// Brings a request up to date. Returns warnings for the answer.
///
/// # Errors
/// Fields that the client's version does not know, where ignoring them would
/// give a container other than the one that was asked for; or does not know
/// any more.
pub(crate) fn create(wish: &mut Value, version: ApiVersion) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    mounts(wish, version)?;
    if below(version, 40) {
        fill(wish, "IpcMode", "shareable");
    }
    if below(version, 41) {
        // On control groups version 1 a container saw the host's.
        if budu_engine::Host::detect().cgroup_version == 1 {
            fill(wish, "CgroupnsMode", "host");
        }
        if version == ApiVersion::new(40) && !is_empty(&wish["HostConfig"]["Capabilities"]) {
            return Err(Failure::invalid(
                "HostConfig.Capabilities is no longer supported: use HostConfig.CapAdd and HostConfig.CapDrop",
            ));
        }
    }
    if below(version, 44) {
        one_endpoint(wish)?;
    }
    if below(version, 48) {
        endpoints(wish, |endpoint| remove(endpoint, &["GwPriority"]));
    } else if let Some(warning) = volume_driver(wish) {
        warnings.push(warning);
    }
    warnings.extend(mac_address(wish, version)?);
    if !below(version, 52) {
        part(wish, "HostConfig").for_each(|host| remove(host, &["KernelMemoryTCP"]));
        warnings.extend(empty_bindings(wish));
    }
    Ok(warnings)
}

fn list<'a>(wish: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    wish.get_mut("HostConfig").and_then(|h| h.get_mut(key)).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Gives an empty field of `HostConfig` a value.
fn fill(wish: &mut Value, key: &str, content: &str) {
    let Some(Value::Object(host)) = wish.get_mut("HostConfig") else { return };
    let field = host.entry(key).or_insert(Value::Null);
    if is_empty(field) {
        *field = json!(content);
    }
}

fn mounts(wish: &mut Value, version: ApiVersion) -> Result<(), Failure> {
    for mount in list(wish, "Mounts") {
        let kind = mount["Type"].as_str().unwrap_or_default().to_owned();
        if below(version, 40) {
            part(mount, "BindOptions").for_each(|options| remove(options, &["NonRecursive"]));
        }
        if below(version, 42) {
            part(mount, "BindOptions").for_each(|options| remove(options, &["CreateMountpoint"]));
        }
        for (field, owner) in [("VolumeOptions", "volume"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs")] {
            if kind == owner || mount.get(field).is_none_or(Value::is_null) {
                continue;
            }
            if below(version, 42) {
                // Was never looked at in those days.
                remove(mount, &[field]);
            } else {
                return Err(Failure::invalid(format!("{field} must not be specified on mount type \"{kind}\"")));
            }
        }
        if below(version, 44) && mount["BindOptions"]["ReadOnlyForceRecursive"] == json!(true) {
            return Err(Failure::invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
        }
        if below(version, 45) && !is_empty(&mount["VolumeOptions"]["Subpath"]) {
            return Err(Failure::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if below(version, 48) && kind == "image" {
            return Err(Failure::invalid("Mount type \"Image\" needs API v1.48 or newer"));
        }
    }
    Ok(())
}

fn one_endpoint(wish: &Value) -> Result<(), Failure> {
    let Some(Value::Object(endpoints)) = wish.get("NetworkingConfig").and_then(|n| n.get("EndpointsConfig")) else {
        return Ok(());
    };
    if endpoints.len() < 2 {
        return Ok(());
    }
    let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
    Err(Failure::invalid(format!("Container cannot be created with multiple network endpoints: {}", names.join(", "))))
}

fn endpoints(wish: &mut Value, mut change: impl FnMut(&mut Value)) {
    let found = wish.get_mut("NetworkingConfig").and_then(|n| n.get_mut("EndpointsConfig"));
    if let Some(Value::Object(endpoints)) = found {
        endpoints.values_mut().for_each(&mut change);
    }
}

fn volume_driver(wish: &mut Value) -> Option<String> {
    if is_empty(&wish["HostConfig"]["VolumeDriver"]) {
        return None;
    }
    let unclear = list(wish, "Mounts")
        .any(|mount| mount["Type"] == "volume" && is_empty(&mount["VolumeOptions"]["DriverConfig"]["Name"]));
    unclear.then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned()
    })
}

/// The address of a container became that of its endpoint in 1.44.
fn mac_address(wish: &mut Value, version: ApiVersion) -> Result<Option<String>, Failure> {
    let Some(address) = wish.get("MacAddress").filter(|a| !is_empty(a)).cloned() else {
        if below(version, 44) {
            endpoints(wish, |endpoint| remove(endpoint, &["MacAddress"]));
        }
        return Ok(None);
    };
    if !below(version, 52) {
        return Err(Failure::invalid(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address instead",
        ));
    }
    let mode = wish["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
    let network = match mode {
        "" | "default" => "bridge",
        mode => mode,
    }
    .to_owned();
    let own = network != "host" && network != "none" && !network.starts_with("container:");
    if below(version, 44) && !own {
        return Err(Failure::invalid("conflicting options: mac-address and the network mode"));
    }
    if own {
        give_address(wish, &network, &address)?;
    }
    Ok((!below(version, 44)).then(|| {
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .to_owned()
    }))
}

fn give_address(wish: &mut Value, network: &str, address: &Value) -> Result<(), Failure> {
    let Some(networking) = object(wish, "NetworkingConfig") else { return Ok(()) };
    let Some(endpoints) = object(networking, "EndpointsConfig") else { return Ok(()) };
    let Some(endpoint) = object(endpoints, network) else { return Ok(()) };
    if is_empty(&endpoint["MacAddress"]) {
        endpoint["MacAddress"] = address.clone();
    }
    if endpoint["MacAddress"] == *address {
        return Ok(());
    }
    Err(Failure::invalid(
        "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
    ))
}

/// A field as an object, made when there is nothing; `None` when it is
/// something else, which is refused later.
fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let field = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if field.is_null() {
        *field = json!({});
    }
    field.is_object().then_some(field)
}

fn empty_bindings(wish: &Value) -> Option<String> {
    let bindings = wish.get("HostConfig")?.get("PortBindings")?.as_object()?;
    let empty: Vec<&str> = bindings.iter().filter(|(_, list)| is_empty(list)).map(|(port, _)| port.as_str()).collect();
    (!empty.is_empty()).then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future version.",
            empty.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(minor: u16, mut wish: Value) -> Result<(Value, Vec<String>), String> {
        create(&mut wish, ApiVersion::new(minor)).map(|warnings| (wish, warnings)).map_err(|f| f.message)
    }

    #[test]
    fn options_of_other_mounts() {
        let wish = json!({"HostConfig": {"Mounts": [{"Type": "bind", "VolumeOptions": {}, "BindOptions": {"CreateMountpoint": true}}]}});
        let (old, _) = run(41, wish.clone()).unwrap();
        assert_eq!(old["HostConfig"]["Mounts"][0], json!({"Type": "bind", "BindOptions": {}}));
        assert_eq!(run(42, wish).unwrap_err(), "VolumeOptions must not be specified on mount type \"bind\"");
        let subpath = json!({"HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"Subpath": "a"}}]}});
        assert!(run(44, subpath.clone()).unwrap_err().contains("needs API v1.45"));
        assert!(run(45, subpath).is_ok());
        let image = json!({"HostConfig": {"Mounts": [{"Type": "image"}]}});
        assert!(run(47, image.clone()).unwrap_err().contains("needs API v1.48"));
        assert!(run(48, image).is_ok());
    }

    #[test]
    fn the_address_of_a_container_moves_to_its_endpoint() {
        let wish = json!({"MacAddress": "02:00:00:00:00:01"});
        for (minor, warns) in [(43, 0), (51, 1)] {
            let (new, warnings) = run(minor, wish.clone()).unwrap();
            let endpoints = &new["NetworkingConfig"]["EndpointsConfig"];
            assert_eq!((&endpoints["bridge"]["MacAddress"], warnings.len()), (&wish["MacAddress"], warns));
        }
        assert!(run(52, wish.clone()).unwrap_err().starts_with("container-wide MAC address no longer supported"));
        let host = json!({"MacAddress": "x", "HostConfig": {"NetworkMode": "host"}});
        assert_eq!(run(43, host).unwrap_err(), "conflicting options: mac-address and the network mode");
        let two = json!({"MacAddress": "x", "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "y"}}}});
        assert!(run(44, two).unwrap_err().contains("must match the endpoint-specific"));
    }

    #[test]
    fn endpoints_bindings_and_modes() {
        let wish = json!({
            "HostConfig": {"PortBindings": {"80/tcp": []}, "NetworkMode": "a"},
            "NetworkingConfig": {"EndpointsConfig": {"a": {"GwPriority": 1, "MacAddress": "x"}, "b": {}}},
        });
        assert!(run(43, wish.clone()).unwrap_err().ends_with("multiple network endpoints: a, b"));
        let (middle, warnings) = run(44, wish.clone()).unwrap();
        assert_eq!(
            (&middle["NetworkingConfig"]["EndpointsConfig"]["a"], warnings.len()),
            (&json!({"MacAddress": "x"}), 0)
        );
        assert!(run(52, wish).unwrap().1[0].contains("80/tcp"));
        let (old, _) = run(39, json!({"HostConfig": {"IpcMode": ""}})).unwrap();
        assert_eq!(old["HostConfig"]["IpcMode"], "shareable");
        // A request without these parts stays without them.
        assert_eq!(run(55, json!({"Image": "x"})).unwrap(), (json!({"Image": "x"}), vec![]));
    }
}
