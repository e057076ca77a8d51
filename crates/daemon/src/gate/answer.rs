//! Answers in the shape of the client's version.

use budu_spec::docker::ApiVersion;
use serde_json::{Value, json};

use super::{below, default, is_empty, part, remove, remove_empty};

/// Addresses on the default bridge, outside of `Networks`: gone in 1.52.
const OLD_ADDRESSES: &[&str] = &[
    "Bridge",
    "HairpinMode",
    "LinkLocalIPv6Address",
    "LinkLocalIPv6PrefixLen",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
];

/// Inspect of a container, given in the shape of 1.51.
pub(crate) fn container(value: &mut Value, version: ApiVersion) {
    if below(version, 48) {
        remove(value, &["ImageManifestDescriptor"]);
    }
    if below(version, 52) {
        part(value, "Config").for_each(|config| default(config, "OnBuild", Value::Null));
        return;
    }
    part(value, "NetworkSettings").for_each(|settings| remove(settings, OLD_ADDRESSES));
    part(value, "HostConfig").for_each(|host| remove(host, &["KernelMemoryTCP"]));
    part(value, "Config").for_each(|config| {
        remove(config, &["MacAddress"]);
        remove_empty(config, &["OnBuild"]);
    });
    storage(value);
}

/// From 1.52 what lies under a container or image is told another way.
fn storage(value: &mut Value) {
    if let Some(driver) = value.get("GraphDriver").and_then(|d| d.get("Name")).cloned() {
        value["Storage"] = json!({"RootFS": {"Snapshot": {"Name": driver}}});
        remove(value, &["GraphDriver"]);
    }
}

/// Fields of a container's configuration that images do not have: shown, and
/// always empty, below 1.50.
const NO_FIELDS_OF_IMAGES: &[(&str, Shape)] = &[
    ("Hostname", Shape::Text),
    ("Domainname", Shape::Text),
    ("AttachStdin", Shape::Switch),
    ("AttachStdout", Shape::Switch),
    ("AttachStderr", Shape::Switch),
    ("Tty", Shape::Switch),
    ("OpenStdin", Shape::Switch),
    ("StdinOnce", Shape::Switch),
    ("Image", Shape::Text),
];

/// Fields that are shown when empty below 1.52.
const ALWAYS_BEFORE_52: &[(&str, Shape)] = &[
    ("Cmd", Shape::Nothing),
    ("Entrypoint", Shape::Nothing),
    ("Env", Shape::Nothing),
    ("Labels", Shape::Nothing),
    ("OnBuild", Shape::Nothing),
    ("User", Shape::Text),
    ("Volumes", Shape::Nothing),
    ("WorkingDir", Shape::Text),
];

/// How an empty field looks.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Switch,
    Nothing,
}

impl Shape {
    fn empty(self) -> Value {
        match self {
            Shape::Text => json!(""),
            Shape::Switch => json!(false),
            Shape::Nothing => Value::Null,
        }
    }
}

/// Inspect of an image, given with all fields of all versions.
pub(crate) fn image(value: &mut Value, version: ApiVersion) {
    if !below(version, 44) {
        remove(value, &["VirtualSize"]);
        remove_empty(value, &["Created"]);
    } else {
        default(value, "Created", json!(budu_spec::units::ZERO_TIME));
    }
    if below(version, 45) {
        let empty = budu_spec::docker::ContainerConfig::default();
        value["ContainerConfig"] = serde_json::to_value(empty).unwrap_or_default();
        value["ContainerConfig"]["Labels"] = Value::Null;
    }
    if below(version, 48) {
        remove(value, &["Descriptor"]);
    }
    if below(version, 53) {
        remove(value, &["Identity"]);
    }
    part(value, "Config").for_each(|config| config_of_image(config, version));
    if !below(version, 52) {
        remove_empty(value, &["Parent", "Comment", "DockerVersion", "Author"]);
        // A snapshot is the engine's business; nothing took the field's place for images.
        remove(value, &["GraphDriver"]);
    }
}

fn config_of_image(config: &mut Value, version: ApiVersion) {
    let Value::Object(map) = config else { return };
    // What an image cannot say is no longer shown as if it had.
    map.retain(|key, value| {
        !is_empty(value) && !NO_FIELDS_OF_IMAGES.iter().any(|(name, _)| name == key) || key == "Healthcheck"
    });
    for key in ["NetworkDisabled", "MacAddress", "StopTimeout"] {
        map.remove(key);
    }
    let mut show = |fields: &[(&str, Shape)]| {
        for (name, shape) in fields {
            map.entry(*name).or_insert(shape.empty());
        }
    };
    if below(version, 52) {
        show(ALWAYS_BEFORE_52);
    }
    if below(version, 50) {
        show(NO_FIELDS_OF_IMAGES);
    }
}

/// `/info`, given in the shape of the newest version.
pub(crate) fn info(value: &mut Value, version: ApiVersion) {
    if below(version, 25)
        && let Some(Value::Array(options)) = value.get_mut("SecurityOptions")
    {
        // In those days they were names.
        for option in options {
            let name = option.as_str().and_then(|text| text.strip_prefix("name="));
            *option = json!(name.and_then(|text| text.split(',').next()).unwrap_or_default());
        }
    }
    if below(version, 44)
        && let Some(Value::Object(runtimes)) = value.get_mut("Runtimes")
    {
        runtimes.values_mut().for_each(|runtime| remove(runtime, &["status"]));
    }
    if below(version, 46) {
        remove(value, &["Containerd"]);
    }
    if below(version, 47) {
        for key in ["AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"] {
            part(value, "RegistryConfig").for_each(|config| default(config, key, Value::Null));
        }
    }
    if below(version, 49) {
        remove(value, &["FirewallBackend"]);
        for key in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            let id = value[key]["ID"].clone();
            if !is_empty(&id) {
                part(value, key).for_each(|commit| default(commit, "Expected", id.clone()));
            }
        }
    }
    if below(version, 50) {
        remove(value, &["DiscoveredDevices"]);
        default(value, "BridgeNfIptables", json!(false));
        default(value, "BridgeNfIp6tables", json!(false));
    }
    if below(version, 53) {
        remove(value, &["NRI"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minor: u16) -> ApiVersion {
        ApiVersion::new(minor)
    }

    #[test]
    fn containers_lose_old_addresses_in_52() {
        let inspect = json!({
            "NetworkSettings": {"IPAddress": "10.0.0.2", "Ports": {}, "Networks": {"bridge": {"IPAddress": "10.0.0.2"}}},
            "Config": {"MacAddress": "x", "OnBuild": null, "User": ""},
            "HostConfig": {}, "GraphDriver": {"Name": "overlayfs", "Data": null},
            "ImageManifestDescriptor": {"size": 1},
        });
        let (mut old, mut middle, mut new) = (inspect.clone(), inspect.clone(), inspect);
        container(&mut old, at(47));
        container(&mut middle, at(51));
        container(&mut new, at(52));
        assert!(old.get("ImageManifestDescriptor").is_none() && middle.get("ImageManifestDescriptor").is_some());
        assert_eq!(middle["NetworkSettings"]["IPAddress"], "10.0.0.2");
        assert_eq!(middle["GraphDriver"]["Name"], "overlayfs");
        assert_eq!(new["NetworkSettings"], json!({"Ports": {}, "Networks": {"bridge": {"IPAddress": "10.0.0.2"}}}));
        assert_eq!(new["Config"], json!({"User": ""}));
        assert_eq!(new["Storage"]["RootFS"]["Snapshot"]["Name"], "overlayfs");
        assert!(new.get("GraphDriver").is_none());
    }

    #[test]
    fn images_show_less_and_less() {
        let inspect = json!({
            "VirtualSize": 1, "Comment": "", "Author": "me", "Descriptor": {}, "GraphDriver": {"Name": "x"},
            "Config": {"Hostname": "", "Tty": false, "User": "", "Env": ["A=b"], "Cmd": null, "Shell": null},
        });
        let shaped = |minor| {
            let mut value = inspect.clone();
            image(&mut value, at(minor));
            value
        };
        let old = shaped(43);
        assert_eq!((&old["VirtualSize"], &old["Config"]["Tty"]), (&1.into(), &false.into()));
        assert_eq!(old["ContainerConfig"]["Labels"], Value::Null);
        assert!(old.get("Descriptor").is_none() && old["Config"].get("Shell").is_none());
        let middle = shaped(50);
        assert_eq!(middle["Config"]["Cmd"], Value::Null);
        assert!(middle["Config"].get("Hostname").is_none() && middle["Config"].get("User").is_some());
        assert_eq!(middle["Comment"], "");
        let new = shaped(55);
        assert_eq!(new["Config"], json!({"Env": ["A=b"]}));
        assert!(new.get("Comment").is_none() && new.get("GraphDriver").is_none() && new["Author"] == "me");
    }

    #[test]
    fn info_by_version() {
        let newest = json!({
            "RegistryConfig": {}, "FirewallBackend": {"Driver": "nftables"}, "RuncCommit": {"ID": "x"},
            "Runtimes": {"budu": {"path": "budu", "status": {}}},
        });
        let shaped = |minor| {
            let mut value = newest.clone();
            info(&mut value, at(minor));
            value
        };
        let old = shaped(43);
        assert_eq!(old["Runtimes"]["budu"], json!({"path": "budu"}));
        assert_eq!((&old["RuncCommit"]["Expected"], &old["BridgeNfIptables"]), (&"x".into(), &false.into()));
        assert!(old["RegistryConfig"].get("AllowNondistributableArtifactsCIDRs").is_some());
        assert!(shaped(48).get("FirewallBackend").is_none());
        assert_eq!(shaped(55), newest);
    }
}
