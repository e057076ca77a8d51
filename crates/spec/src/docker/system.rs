//! The engine itself: version and info.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answer to `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// Product name.
    pub platform: PlatformName,
    /// Parts and their versions.
    pub components: Vec<Component>,
    /// Engine version.
    pub version: String,
    /// Newest API version served.
    pub api_version: String,
    /// Oldest API version served.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Commit it was built from.
    pub git_commit: String,
    /// Toolchain, where Docker names its Go version.
    pub go_version: String,
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub arch: String,
    /// uname -r.
    pub kernel_version: String,
    /// Has experimental features on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub experimental: bool,
    /// RFC 3339 instant.
    pub build_time: String,
}

/// Product name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformName {
    /// Name.
    pub name: String,
}

/// A part of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Particulars.
    pub details: BTreeMap<String, String>,
}

/// Answer to `GET /info` (the fields Budu knows something about).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Id of the daemon.
    #[serde(rename = "ID")]
    pub id: String,
    /// All containers.
    pub containers: i64,
    /// Running ones.
    pub containers_running: i64,
    /// Paused ones.
    pub containers_paused: i64,
    /// The others.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// Storage driver.
    pub driver: String,
    /// Its particulars.
    pub driver_status: Vec<[String; 2]>,
    /// Plugins by kind.
    pub plugins: InfoPlugins,
    /// Memory limits work.
    pub memory_limit: bool,
    /// Swap limits work.
    pub swap_limit: bool,
    /// CPU period works.
    pub cpu_cfs_period: bool,
    /// CPU quota works.
    pub cpu_cfs_quota: bool,
    /// CPU shares work.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// cpusets work.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// pids limits work.
    pub pids_limit: bool,
    /// IPv4 forwarding is on.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Daemon runs with debug output.
    pub debug: bool,
    /// Open file descriptors.
    #[serde(rename = "NFd")]
    pub n_fd: i64,
    /// OOM killer can be disabled (v1).
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    pub n_goroutines: i64,
    /// RFC 3339 instant.
    pub system_time: String,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Event listeners.
    pub n_events_listener: i64,
    /// uname -r.
    pub kernel_version: String,
    /// Distribution.
    pub operating_system: String,
    /// Its version.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// `x86_64`, …
    pub architecture: String,
    /// Default registry's index.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: Value,
    /// CPUs.
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes of memory.
    pub mem_total: i64,
    /// Generic resources (swarm).
    pub generic_resources: Option<Vec<Value>>,
    /// Data root.
    pub docker_root_dir: String,
    /// Proxy.
    pub http_proxy: String,
    /// Proxy.
    pub https_proxy: String,
    /// Proxy.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// Daemon labels.
    pub labels: Vec<String>,
    /// Experimental features on.
    pub experimental_build: bool,
    /// Engine version.
    pub server_version: String,
    /// OCI runtimes.
    pub runtimes: BTreeMap<String, Value>,
    /// Default one.
    pub default_runtime: String,
    /// Swarm state.
    pub swarm: Value,
    /// Containers outlive the daemon.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: String,
    /// Init program.
    pub init_binary: String,
    /// Version of containerd, where Docker has one.
    pub containerd_commit: Commit,
    /// Version of runc, where Docker has one.
    pub runc_commit: Commit,
    /// Version of the init.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`, …
    pub security_options: Vec<String>,
    /// CDI directories.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// What is wrong with this host.
    pub warnings: Option<Vec<String>>,
}

/// Plugins by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InfoPlugins {
    /// Volume drivers.
    pub volume: Vec<String>,
    /// Network drivers.
    pub network: Vec<String>,
    /// Authorization plugins.
    pub authorization: Option<Vec<String>>,
    /// Log drivers.
    pub log: Vec<String>,
}

/// A component's commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Commit or version.
    #[serde(rename = "ID")]
    pub id: String,
}
