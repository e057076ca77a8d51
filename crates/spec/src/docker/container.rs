//! Containers: what is asked for, what is listed, what inspect shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Empty, EndpointSettings, HostConfig, NetworkingConfig, Resources, RestartPolicy, Why, nullable};
use super::{Health, HealthConfig, HealthSummary};

/// Part of a container that moves with its image (`ContainerConfig`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Host name inside; the short id when empty.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    /// NIS domain name inside.
    #[serde(deserialize_with = "nullable")]
    pub domainname: String,
    /// `user[:group]`, by name or number.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Whether `run` attached standard input.
    #[serde(deserialize_with = "nullable")]
    pub attach_stdin: bool,
    /// Whether `run` attached standard output.
    #[serde(deserialize_with = "nullable")]
    pub attach_stdout: bool,
    /// Whether `run` attached standard error.
    #[serde(deserialize_with = "nullable")]
    pub attach_stderr: bool,
    /// `port/protocol` the image says it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Give the process a terminal.
    #[serde(deserialize_with = "nullable")]
    pub tty: bool,
    /// Keep standard input open when nobody is attached.
    #[serde(deserialize_with = "nullable")]
    pub open_stdin: bool,
    /// Close standard input when the first attached client goes.
    #[serde(deserialize_with = "nullable")]
    pub stdin_once: bool,
    /// `KEY=value` entries.
    pub env: Option<Vec<String>>,
    /// The command, or the arguments of the entry point.
    #[serde(deserialize_with = "command")]
    pub cmd: Option<Vec<String>>,
    /// How to find out whether the container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// The image as the user named it.
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    /// Mount points the image declares.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory of the command.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// The entry point; `[""]` clears the image's.
    #[serde(deserialize_with = "command")]
    pub entrypoint: Option<Vec<String>>,
    /// Start without a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_disabled: Option<bool>,
    /// Deprecated since 1.44: belongs to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Build triggers.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the container to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of shell-form commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Reads a command given as a list or, as old clients do, as one string.
fn command<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        List(Vec<String>),
        Text(String),
    }
    Ok(Option::<Form>::deserialize(deserializer)?.map(|form| match form {
        Form::List(list) => list,
        Form::Text(text) => vec![text],
    }))
}

/// Body of `POST /containers/create`: one flat object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreate {
    /// The configuration proper.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// What depends on the host.
    #[serde(deserialize_with = "nullable")]
    pub host_config: HostConfig,
    /// Endpoint settings per network.
    #[serde(deserialize_with = "nullable")]
    pub networking_config: NetworkingConfig,
}

/// Body of `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdate {
    /// Limits; what is absent or zero stays as it is.
    #[serde(flatten)]
    pub resources: Resources,
    /// Restart policy; without name it stays as it is.
    #[serde(deserialize_with = "nullable")]
    pub restart_policy: RestartPolicy,
}

/// Answer to update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdated {
    /// What was dropped or adjusted.
    #[serde(deserialize_with = "nullable")]
    pub warnings: Vec<String>,
}

/// Answer to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreated {
    /// Id of the new container.
    pub id: String,
    /// What was dropped or adjusted; never `null`.
    pub warnings: Vec<String>,
}

/// One row of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// Full id.
    pub id: String,
    /// Names, each with its leading slash.
    pub names: Vec<String>,
    /// The image as named at create.
    pub image: String,
    /// Id of the image.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Command line as one text.
    pub command: String,
    /// Unix time of creation, seconds.
    pub created: i64,
    /// Ports; never `null`.
    pub ports: Vec<PortSummary>,
    /// Bytes in the writable layer, with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole root file system, with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// `running`, `exited`, …
    pub state: String,
    /// `Up 5 minutes`, …
    pub status: String,
    /// The part of the host configuration lists show.
    pub host_config: SummaryHostConfig,
    /// Health, from API 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Why it ended or is unwell, one line; Budu's own member.
    #[serde(rename = "BuduWhy", skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Endpoints.
    pub network_settings: SummaryNetworkSettings,
    /// Mount points.
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<MountPoint>,
}

/// `HostConfig` of a list row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// Network mode as given.
    pub network_mode: String,
    /// Annotations, from API 1.46.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// `NetworkSettings` of a list row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworkSettings {
    /// Endpoint by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port in a list row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortSummary {
    /// Host address, when published.
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Port inside the container.
    #[serde(rename = "PrivatePort")]
    pub private_port: u16,
    /// Port on the host, when published.
    #[serde(rename = "PublicPort", skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// A mount as inspect and lists show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Volume name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as given (`z`, `ro`).
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Mount propagation.
    pub propagation: String,
}

/// `State` of inspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created running paused restarting removing exited dead`.
    pub status: String,
    /// A process lives (also while paused or restarting).
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waiting for its restart.
    pub restarting: bool,
    /// The kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Could not be removed.
    pub dead: bool,
    /// Process id on the host, 0 when not running.
    pub pid: u32,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// RFC 3339 instant.
    pub started_at: String,
    /// RFC 3339 instant.
    pub finished_at: String,
    /// Present when there is a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Why it ended; Budu's own member.
    #[serde(rename = "BuduWhy", skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// Answer to `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    /// Full id.
    pub id: String,
    /// RFC 3339 instant of creation.
    pub created: String,
    /// Program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// State.
    pub state: ContainerState,
    /// Id of the image.
    pub image: String,
    /// File on the host bound to /etc/resolv.conf.
    pub resolv_conf_path: String,
    /// File on the host bound to /etc/hostname.
    pub hostname_path: String,
    /// File on the host bound to /etc/hosts.
    pub hosts_path: String,
    /// Log file.
    pub log_path: String,
    /// Name with leading slash.
    pub name: String,
    /// Restarts by policy since it was last started by hand.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux label of mounts.
    pub mount_label: String,
    /// SELinux label of the process.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Exec instances running.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// Host part of the configuration.
    pub host_config: HostConfig,
    /// Where the root file system lies (below API 1.52).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Bytes in the writable layer, with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole root file system, with `size=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Mount points; never `null`.
    pub mounts: Vec<MountPoint>,
    /// Image part of the configuration.
    pub config: ContainerConfig,
    /// Addresses and ports.
    pub network_settings: NetworkSettings,
}

/// Storage driver data of an image or container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// Directories.
    pub data: Option<BTreeMap<String, String>>,
    /// Driver name.
    pub name: String,
}

/// `NetworkSettings` of inspect. The top-level address fields describe the
/// default bridge and exist below API 1.52 only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Name of the default bridge; empty as in current engines.
    pub bridge: String,
    /// Id of the network sandbox.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// Published ports: `80/tcp` → bindings, `null` when only exposed.
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Legacy.
    #[serde(rename = "HairpinMode")]
    pub hairpin_mode: bool,
    /// Legacy.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Legacy.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    /// Legacy.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<Value>>,
    /// Legacy.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<Value>>,
    /// Endpoint on the default bridge.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Gateway on the default bridge.
    pub gateway: String,
    /// IPv6 address on the default bridge.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Its prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// Address on the default bridge.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Its prefix length.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// IPv6 gateway on the default bridge.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// MAC address on the default bridge.
    pub mac_address: String,
    /// Endpoint by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A host address and port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Host address; empty means all.
    #[serde(deserialize_with = "nullable")]
    pub host_ip: String,
    /// Host port or range `a-b`; empty means ephemeral.
    #[serde(deserialize_with = "nullable")]
    pub host_port: String,
}

/// Answer to `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitAnswer {
    /// Exit code.
    pub status_code: i64,
    /// Set when waiting itself failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

/// Why waiting failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitError {
    /// Text.
    pub message: String,
}

/// Answer to `GET /containers/{id}/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopAnswer {
    /// Column heads.
    pub titles: Vec<String>,
    /// One row a process.
    pub processes: Vec<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_body_is_one_flat_object_and_takes_nulls() {
        let body = r#"{"Image":"busybox","Cmd":"true","Env":null,"Labels":null,"Tty":true,
            "HostConfig":{"Binds":null,"Memory":1048576,"NetworkMode":"none"},"NetworkingConfig":null}"#;
        let create: ContainerCreate = serde_json::from_str(body).unwrap();
        assert_eq!(create.config.image, "busybox");
        assert_eq!(create.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(create.host_config.resources.memory, 1_048_576);
        assert_eq!(create.host_config.network_mode, "none");
        let back: Value = serde_json::to_value(&create).unwrap();
        assert_eq!(back["Image"], "busybox");
        assert_eq!(back["HostConfig"]["Memory"], 1_048_576);
    }
}
