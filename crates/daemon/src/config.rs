//! What the daemon was told: flags over `daemon.json` over defaults.

use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `unix://PATH` addresses; empty means the two default sockets.
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
    /// Settings that are accepted and have no effect, for a note in the log.
    pub ignored: Vec<String>,
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
            ignored: Vec::new(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody knows the key.
    Unknown,
    /// The value is wrong; says what would be right.
    Value(String),
}

/// One value, from a flag or from the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Text, as flags are.
    Text(String),
    /// JSON, as the file's values are.
    Json(serde_json::Value),
}

impl Value {
    fn text(&self) -> Result<String, Refusal> {
        match self {
            Value::Text(text) | Value::Json(serde_json::Value::String(text)) => Ok(text.clone()),
            Value::Json(serde_json::Value::Number(n)) => Ok(n.to_string()),
            Value::Json(_) => Err(Refusal::Value("want a string".to_owned())),
        }
    }

    fn flag(&self) -> Result<bool, Refusal> {
        let text = match self {
            Value::Json(serde_json::Value::Bool(on)) => return Ok(*on),
            other => other.text()?,
        };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            _ => Err(Refusal::Value("want true or false".to_owned())),
        }
    }

    fn number<N: std::str::FromStr>(&self) -> Result<N, Refusal> {
        self.text()?.parse().map_err(|_| Refusal::Value("want a number".to_owned()))
    }

    /// A flag adds one value, the file has the whole list.
    fn list(&self) -> Result<Vec<String>, Refusal> {
        match self {
            Value::Json(serde_json::Value::Array(list)) => list.iter().map(|v| Value::Json(v.clone()).text()).collect(),
            other => Ok(vec![other.text()?]),
        }
    }
}

/// Keys of `daemon.json` (and flags, where the names differ in the plural)
/// that Docker knows, that change nothing here, and that are safe to accept.
const IGNORED: &[&str] = &[
    "bridge-accept-fwmark",
    "cgroupns-mode",
    "containerd",
    "containerd-namespace",
    "default-cgroupns-mode",
    "default-ipc-mode",
    "default-runtime",
    "exec-opts",
    "experimental",
    "features",
    "firewall-backend",
    "icc",
    "ip6tables",
    "iptables",
    "ipv6",
    "log-format",
    "log-opts",
    "max-concurrent-uploads",
    "network-diagnostic-port",
    "oom-score-adjust",
    "raw-logs",
    "registry-mirrors",
    "runtimes",
    "selinux-enabled",
    "storage-driver",
    "storage-opts",
    "swarm-default-advertise-addr",
    "userland-proxy",
    "userland-proxy-path",
    "tls",
    "tlsverify",
];

impl Config {
    /// Takes one setting in, by its name in `daemon.json`. Flags arrive by
    /// the same names.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Result<(), Refusal> {
        match key {
            "hosts" => self.hosts.extend(value.list()?),
            "data-root" | "graph" => self.data_root = value.text()?.into(),
            "exec-root" => self.exec_root = value.text()?.into(),
            "bridge" => self.bridge = value.text()?,
            "bip" => self.bip = Some(bip(&value.text()?)?),
            "default-address-pools" => self.address_pools.extend(pools(value)?),
            "mtu" => self.mtu = value.number()?,
            "ip-masq" => self.ip_masq = value.flag()?,
            "ip-forward" => self.ip_forward = value.flag()?,
            "debug" => self.debug = value.flag()?,
            "log-level" => self.log_level = level(&value.text()?)?,
            "insecure-registries" => self.insecure_registries.extend(value.list()?),
            "pidfile" => self.pidfile = Some(value.text()?.into()),
            "group" => self.group = value.text()?,
            "live-restore" => self.live_restore = value.flag()?,
            "shutdown-timeout" => self.shutdown_timeout = value.number()?,
            "dns" => self.dns.extend(value.list()?),
            "dns-opts" => self.dns_options.extend(value.list()?),
            "dns-search" => self.dns_search.extend(value.list()?),
            "init" => self.init = value.flag()?,
            "default-shm-size" => self.shm_size = size(&value.text()?)?,
            "cdi-spec-dirs" => self.cdi_spec_dirs.extend(value.list()?.into_iter().map(PathBuf::from)),
            "log-driver" => self.log_driver = driver(&value.text()?)?,
            "labels" => self.labels.extend(value.list()?),
            "cgroup-parent" => self.cgroup_parent = parent(&value.text()?)?,
            "max-concurrent-downloads" => self.max_concurrent_downloads = value.number::<usize>()?.max(1),
            "max-download-attempts" => self.max_download_attempts = value.number::<u32>()?.max(1),
            key if IGNORED.contains(&key) => self.ignored.push(key.to_owned()),
            _ => return Err(Refusal::Unknown),
        }
        Ok(())
    }
}

fn bip(text: &str) -> Result<Ipv4Net, Refusal> {
    text.parse().map_err(|_| Refusal::Value("want an address with prefix, such as 10.9.0.1/24".to_owned()))
}

/// The file has a list of objects, a flag one as `base=…,size=…`.
fn pools(value: &Value) -> Result<Vec<(Ipv4Net, u8)>, Refusal> {
    let want = || Refusal::Value("want IPv4 ranges such as base=10.10.0.0/16,size=24".to_owned());
    let pool = |base: &str, size: u64| {
        let base: Ipv4Net = base.parse().map_err(|_| want())?;
        let size = u8::try_from(size).map_err(|_| want())?;
        let good = base == base.trunc() && (base.prefix_len()..=30).contains(&size);
        if good { Ok((base, size)) } else { Err(want()) }
    };
    match value {
        Value::Text(text) => {
            let field = |name: &str| text.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            let (base, size) = (field("base").ok_or_else(want)?, field("size").ok_or_else(want)?);
            Ok(vec![pool(base, size.parse().map_err(|_| want())?)?])
        }
        Value::Json(serde_json::Value::Array(list)) => list
            .iter()
            .map(|entry| {
                let (base, size) = (entry["base"].as_str(), entry["size"].as_u64());
                pool(base.ok_or_else(want)?, size.ok_or_else(want)?)
            })
            .collect(),
        Value::Json(_) => Err(want()),
    }
}

fn level(text: &str) -> Result<String, Refusal> {
    match text {
        "trace" | "debug" | "info" | "warn" | "error" | "fatal" => Ok(text.to_owned()),
        _ => Err(Refusal::Value("want debug, info, warn, error or fatal".to_owned())),
    }
}

fn size(text: &str) -> Result<i64, Refusal> {
    budu_spec::units::parse_bytes(text).map_err(|e| Refusal::Value(e.to_string()))
}

fn driver(text: &str) -> Result<String, Refusal> {
    match text {
        "json-file" | "none" => Ok(text.to_owned()),
        _ => Err(Refusal::Value("only json-file and none are implemented".to_owned())),
    }
}

fn parent(text: &str) -> Result<String, Refusal> {
    let plain = text.trim_matches('/');
    let good = !plain.is_empty() && plain.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if good { Ok(plain.to_owned()) } else { Err(Refusal::Value("want a path such as budu or a/b".to_owned())) }
}
