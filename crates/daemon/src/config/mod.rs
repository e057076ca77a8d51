//! What the daemon was told: flags and `daemon.json` over defaults.
//!
//! - `args`: flags; `file`: the file; both give settings by the same keys.
//! - `keys`: which keys there are, and which change nothing or are refused.
//! - `set`: one setting at a time.
//! - `live`: the settings in force, and what a reload may change.

mod args;
mod file;
mod keys;
pub(crate) mod live;
mod set;

pub(crate) use args::{Command, Wish, parse};

use std::collections::BTreeMap;
use std::path::PathBuf;

use budu_dial::tls;
use budu_spec::docker::ApiVersion;
use ipnet::Ipv4Net;
use serde_json::Value;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `unix://PATH`, `tcp://HOST:PORT` and `fd://` addresses; empty means the two default sockets.
    pub hosts: Vec<String>,
    /// What survives a reboot.
    pub data_root: PathBuf,
    /// What need not.
    pub exec_root: PathBuf,
    /// Bridge link; `none` for no default network.
    pub bridge: String,
    /// Address of the bridge.
    pub bip: Option<Ipv4Net>,
    /// Ranges that networks are cut from, with the prefix length of a cut; none
    /// means Docker's.
    pub address_pools: Vec<(Ipv4Net, u8)>,
    /// MTU of the default network, bytes.
    pub mtu: u32,
    /// Masquerade outgoing traffic.
    pub ip_masq: bool,
    /// Switch on forwarding.
    pub ip_forward: bool,
    /// Debug output.
    pub debug: bool,
    /// `debug info warn error fatal`.
    pub log_level: String,
    /// Registries without TLS.
    pub insecure_registries: Vec<String>,
    /// File to write the process id to.
    pub pidfile: Option<PathBuf>,
    /// Group that may use the sockets, by name or number.
    pub group: String,
    /// Leave containers running when the daemon is asked to end.
    pub live_restore: bool,
    /// Seconds containers get when the daemon is asked to end.
    pub shutdown_timeout: u64,
    /// Name servers.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Run an init in every container.
    pub init: bool,
    /// Bytes of /dev/shm.
    pub shm_size: i64,
    /// Where devices are described (CDI); empty for the usual places.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Default log driver.
    pub log_driver: String,
    /// Daemon labels.
    pub labels: Vec<String>,
    /// cgroup of all containers.
    pub cgroup_parent: String,
    /// Layers of one pull transferred at once.
    pub max_concurrent_downloads: usize,
    /// Attempts per blob.
    pub max_download_attempts: u32,
    /// Uploads at once.
    pub max_concurrent_uploads: usize,
    /// TLS on TCP.
    pub tls: bool,
    /// Clients on TCP must show a certificate of `tls_files.ca`.
    pub tls_verify: bool,
    /// Certificates.
    pub tls_files: tls::Files,
    /// Listen on TCP although anybody who reaches the port becomes root.
    pub unauthenticated_tcp: bool,
    /// Address of the metrics, `HOST:PORT`.
    pub metrics_addr: Option<String>,
    /// Plugins that are asked about each request, in this order.
    pub authorization_plugins: Vec<String>,
    /// Features switched on and off by name.
    pub features: BTreeMap<String, bool>,
    /// OCI runtimes by name.
    pub runtimes: BTreeMap<String, Value>,
    /// Runtime of containers that ask for none.
    pub default_runtime: String,
    /// `private`, `shareable`.
    pub default_ipc_mode: String,
    /// `private`, `host`.
    pub default_cgroupns_mode: String,
    /// Options of the default log driver.
    pub log_opts: BTreeMap<String, String>,
    /// Limits of containers that ask for none, by name: `Name`, `Soft`, `Hard`.
    pub default_ulimits: BTreeMap<String, Value>,
    /// No container gains privileges by set-user-id programs.
    pub no_new_privileges: bool,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Oldest API version served.
    pub min_api_version: ApiVersion,
    /// `text`; others are not built.
    pub log_format: String,
    /// Features that may change.
    pub experimental: bool,
    /// Proxies, as they are told.
    pub proxies: Proxies,
    /// Settings that are accepted and have no effect, for a note in the log.
    pub ignored: Vec<String>,
}

/// Proxies for registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http`.
    pub http: String,
    /// For `https`.
    pub https: String,
    /// Hosts reached without.
    pub none: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hosts: Vec::new(),
            data_root: PathBuf::from("/var/lib/budu"),
            exec_root: PathBuf::from("/run/budu"),
            bridge: "budu0".to_owned(),
            bip: None,
            address_pools: Vec::new(),
            mtu: 1500,
            ip_masq: true,
            ip_forward: true,
            debug: false,
            log_level: "info".to_owned(),
            insecure_registries: Vec::new(),
            pidfile: None,
            group: "docker".to_owned(),
            // An upgrade of the daemon is no reason to stop anybody's containers.
            live_restore: true,
            shutdown_timeout: 15,
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            init: false,
            shm_size: 64 << 20,
            cdi_spec_dirs: Vec::new(),
            log_driver: "json-file".to_owned(),
            labels: Vec::new(),
            cgroup_parent: "budu".to_owned(),
            max_concurrent_downloads: 3,
            max_download_attempts: 5,
            max_concurrent_uploads: 5,
            tls: false,
            tls_verify: false,
            tls_files: tls::Files::default(),
            unauthenticated_tcp: false,
            metrics_addr: None,
            authorization_plugins: Vec::new(),
            features: BTreeMap::new(),
            runtimes: BTreeMap::new(),
            default_runtime: "budu".to_owned(),
            default_ipc_mode: "private".to_owned(),
            default_cgroupns_mode: "private".to_owned(),
            log_opts: BTreeMap::new(),
            default_ulimits: BTreeMap::new(),
            no_new_privileges: false,
            registry_mirrors: Vec::new(),
            min_api_version: ApiVersion::MIN,
            log_format: "text".to_owned(),
            experimental: false,
            proxies: Proxies::default(),
            ignored: Vec::new(),
        }
    }
}
