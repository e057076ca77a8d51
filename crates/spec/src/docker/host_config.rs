//! `HostConfig`: everything about a container that depends on the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ImageOptions, PortBinding, VolumeOptions, nullable};

/// Host part of a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `source:destination[:options]`.
    pub binds: Option<Vec<String>>,
    /// File the client wrote the id to.
    #[serde(rename = "ContainerIDFile", deserialize_with = "nullable")]
    pub container_id_file: String,
    /// Log driver and its options.
    #[serde(deserialize_with = "nullable")]
    pub log_config: LogConfig,
    /// `default`, `bridge`, `host`, `none`, `container:<id>` or a network.
    #[serde(deserialize_with = "nullable")]
    pub network_mode: String,
    /// `80/tcp` → host bindings.
    #[serde(deserialize_with = "nullable")]
    pub port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// When to start again.
    #[serde(deserialize_with = "nullable")]
    pub restart_policy: RestartPolicy,
    /// Remove when it ends.
    #[serde(deserialize_with = "nullable")]
    pub auto_remove: bool,
    /// Default volume driver.
    #[serde(deserialize_with = "nullable")]
    pub volume_driver: String,
    /// Containers to take mounts from.
    pub volumes_from: Option<Vec<String>>,
    /// Rows and columns of the client's terminal at create.
    #[serde(deserialize_with = "nullable")]
    pub console_size: [u32; 2],
    /// OCI annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Capabilities to add.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities to drop.
    pub cap_drop: Option<Vec<String>>,
    /// `private`, `host` or empty for the default.
    #[serde(deserialize_with = "nullable")]
    pub cgroupns_mode: String,
    /// Name servers.
    #[serde(deserialize_with = "nullable")]
    pub dns: Vec<String>,
    /// Resolver options.
    #[serde(deserialize_with = "nullable")]
    pub dns_options: Vec<String>,
    /// Search domains.
    #[serde(deserialize_with = "nullable")]
    pub dns_search: Vec<String>,
    /// `host:address` lines for /etc/hosts.
    pub extra_hosts: Option<Vec<String>>,
    /// Additional groups, by name or number.
    pub group_add: Option<Vec<String>>,
    /// `none private shareable host container:<id>` or empty.
    #[serde(deserialize_with = "nullable")]
    pub ipc_mode: String,
    /// Unused.
    #[serde(deserialize_with = "nullable")]
    pub cgroup: String,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// -1000 … 1000.
    #[serde(deserialize_with = "nullable")]
    pub oom_score_adj: i32,
    /// `host`, `container:<id>` or empty for private.
    #[serde(deserialize_with = "nullable")]
    pub pid_mode: String,
    /// All capabilities and devices, nothing masked.
    #[serde(deserialize_with = "nullable")]
    pub privileged: bool,
    /// Publish every exposed port.
    #[serde(deserialize_with = "nullable")]
    pub publish_all_ports: bool,
    /// Root file system read-only.
    #[serde(deserialize_with = "nullable")]
    pub readonly_rootfs: bool,
    /// `no-new-privileges`, `seccomp=…`, …
    pub security_opt: Option<Vec<String>>,
    /// Storage driver options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_opt: Option<BTreeMap<String, String>>,
    /// Destination → tmpfs options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// `host` or empty for private.
    #[serde(rename = "UTSMode", deserialize_with = "nullable")]
    pub uts_mode: String,
    /// `host` or empty for the daemon's choice.
    #[serde(deserialize_with = "nullable")]
    pub userns_mode: String,
    /// Bytes of /dev/shm.
    #[serde(deserialize_with = "nullable")]
    pub shm_size: i64,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<BTreeMap<String, String>>,
    /// OCI runtime name.
    #[serde(deserialize_with = "nullable")]
    pub runtime: String,
    /// Windows only.
    #[serde(deserialize_with = "nullable")]
    pub isolation: String,
    /// cgroup limits and devices.
    #[serde(flatten)]
    pub resources: Resources,
    /// Structured mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Paths hidden inside; `null` means the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only inside; `null` means the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Run an init as pid 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// cgroup limits and devices, also the body of `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// Relative CPU weight.
    #[serde(deserialize_with = "nullable")]
    pub cpu_shares: i64,
    /// Bytes of memory.
    #[serde(deserialize_with = "nullable")]
    pub memory: i64,
    /// Billionths of a CPU.
    #[serde(deserialize_with = "nullable")]
    pub nano_cpus: i64,
    /// cgroup to create the container's below.
    #[serde(deserialize_with = "nullable")]
    pub cgroup_parent: String,
    /// 10 … 1000.
    #[serde(deserialize_with = "nullable")]
    pub blkio_weight: u16,
    /// Weight per device.
    #[serde(deserialize_with = "nullable")]
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Read bytes per second per device.
    #[serde(deserialize_with = "nullable")]
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    /// Write bytes per second per device.
    #[serde(deserialize_with = "nullable")]
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    /// Reads per second per device.
    #[serde(rename = "BlkioDeviceReadIOps", deserialize_with = "nullable")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    /// Writes per second per device.
    #[serde(rename = "BlkioDeviceWriteIOps", deserialize_with = "nullable")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// Microseconds.
    #[serde(deserialize_with = "nullable")]
    pub cpu_period: i64,
    /// Microseconds per period.
    #[serde(deserialize_with = "nullable")]
    pub cpu_quota: i64,
    /// Real-time period.
    #[serde(deserialize_with = "nullable")]
    pub cpu_realtime_period: i64,
    /// Real-time run time.
    #[serde(deserialize_with = "nullable")]
    pub cpu_realtime_runtime: i64,
    /// CPUs, `0-3,7`.
    #[serde(deserialize_with = "nullable")]
    pub cpuset_cpus: String,
    /// Memory nodes.
    #[serde(deserialize_with = "nullable")]
    pub cpuset_mems: String,
    /// Host devices.
    #[serde(deserialize_with = "nullable")]
    pub devices: Vec<DeviceMapping>,
    /// `c 42:* rmw` rules.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Device driver requests (GPUs).
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Soft limit, bytes.
    #[serde(deserialize_with = "nullable")]
    pub memory_reservation: i64,
    /// Memory plus swap, bytes; -1 unlimited.
    #[serde(deserialize_with = "nullable")]
    pub memory_swap: i64,
    /// 0 … 100; `null` or -1 unset.
    pub memory_swappiness: Option<i64>,
    /// Do not kill when out of memory (cgroup v1).
    pub oom_kill_disable: Option<bool>,
    /// Processes; `null`, 0 or -1 unlimited.
    pub pids_limit: Option<i64>,
    /// Resource limits.
    #[serde(deserialize_with = "nullable")]
    pub ulimits: Vec<Ulimit>,
    /// Windows only.
    #[serde(deserialize_with = "nullable")]
    pub cpu_count: i64,
    /// Windows only.
    #[serde(deserialize_with = "nullable")]
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps", deserialize_with = "nullable")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth", deserialize_with = "nullable")]
    pub io_maximum_bandwidth: u64,
}

/// The weight of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Device path on the host.
    pub path: String,
    /// 10 … 1000; 0 for the default.
    pub weight: u16,
}

/// Devices asked for by what they are, not by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// Who provides them: `cdi`, `nvidia`, `amd`; empty for whoever has the capabilities.
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// How many; -1 all.
    #[serde(deserialize_with = "nullable")]
    pub count: i64,
    /// Which ones.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// What they must be able to: one of these lists, whole.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// For the driver.
    pub options: Option<BTreeMap<String, String>>,
}

/// A rate limit on one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Device path on the host.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A host device given to the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Some of `rwm`.
    pub cgroup_permissions: String,
}

/// A resource limit, getrlimit(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`, `core`, …
    pub name: String,
    /// Hard limit; -1 unlimited.
    pub hard: i64,
    /// Soft limit; -1 unlimited.
    pub soft: i64,
}

/// Log driver and its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// Driver name; empty means the daemon's default.
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
    /// Options.
    #[serde(rename = "Config", deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
}

/// When a container is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure` or empty.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// For `on-failure`.
    #[serde(deserialize_with = "nullable")]
    pub maximum_retry_count: i64,
}

/// A structured mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind volume tmpfs image npipe cluster`.
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
    /// Host path or volume name.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Path in the container.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Read-only.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// macOS only; ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// For `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// For `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `[r]private`, `[r]shared`, `[r]slave`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Do not bind mounts below the source.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub non_recursive: bool,
    /// Create the source directory when it is missing.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub create_mountpoint: bool,
    /// Leave mounts below a read-only mount writable.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub read_only_non_recursive: bool,
    /// Fail when mounts below cannot be made read-only.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub read_only_force_recursive: bool,
    /// Whom the files belong to that the container's user writes: `UID[:GID]`, or `owner` for the owner of the source.
    /// Not Docker's.
    #[serde(rename = "IDMap", deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub id_map: String,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Bytes; 0 unlimited.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Permission bits.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero_mode")]
    pub mode: u32,
    /// Further mount options, `[["exec"], ["uid", "5"]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<Vec<String>>>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn is_zero_mode(n: &u32) -> bool {
    *n == 0
}
