//! The flags that `run` and `create` share: names, types and help, nothing else.

use budu_spec::docker::{DeviceRequest, Mount, ThrottleDevice, Ulimit, WeightDevice};
use clap::ArgAction;

/// What a container is asked to be, as typed.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainerFlags {
    /// Add a line to /etc/hosts (host:ip)
    #[arg(long = "add-host", value_name = "list", value_parser = super::parse::extra_host)]
    pub(crate) add_host: Vec<String>,
    /// Add an annotation for the OCI runtime
    #[arg(long = "annotation", value_name = "map")]
    pub(crate) annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short = 'a', long = "attach", value_name = "list", value_parser = super::parse::attach)]
    pub(crate) attach: Vec<String>,
    /// Relative weight of block IO, 10 to 1000, 0 for the default
    #[arg(long = "blkio-weight", value_name = "uint16", value_parser = crate::flags::parse_u16)]
    pub(crate) blkio_weight: Option<u16>,
    /// Relative weight of one block device (path:weight)
    #[arg(long = "blkio-weight-device", value_name = "list", value_parser = super::parse::weight_device)]
    pub(crate) blkio_weight_device: Vec<WeightDevice>,
    /// Add Linux capabilities
    #[arg(long = "cap-add", value_name = "list")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long = "cap-drop", value_name = "list")]
    pub(crate) cap_drop: Vec<String>,
    /// Parent cgroup of the container's
    #[arg(long = "cgroup-parent", value_name = "string")]
    pub(crate) cgroup_parent: Option<String>,
    /// Cgroup namespace: host or private
    #[arg(long = "cgroupns", value_name = "string")]
    pub(crate) cgroupns: Option<String>,
    /// Write the container's id to this file
    #[arg(long = "cidfile", value_name = "string")]
    pub(crate) cidfile: Option<String>,
    /// CPU count (Windows only)
    #[arg(long = "cpu-count", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_count: Option<i64>,
    /// CPU percent (Windows only)
    #[arg(long = "cpu-percent", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_percent: Option<i64>,
    /// Length of a CPU period in microseconds
    #[arg(long = "cpu-period", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_period: Option<i64>,
    /// CPU time per period in microseconds
    #[arg(long = "cpu-quota", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a real-time period in microseconds
    #[arg(long = "cpu-rt-period", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_rt_period: Option<i64>,
    /// Real-time run time per period in microseconds
    #[arg(long = "cpu-rt-runtime", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Relative weight of CPU time
    #[arg(short = 'c', long = "cpu-shares", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long = "cpus", value_name = "decimal", value_parser = super::parse::cpus)]
    pub(crate) cpus: Option<i64>,
    /// CPUs that may be used (0-3, 0,1)
    #[arg(long = "cpuset-cpus", value_name = "string")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that may be used (0-3, 0,1)
    #[arg(long = "cpuset-mems", value_name = "string")]
    pub(crate) cpuset_mems: Option<String>,
    /// Give the container a device of the host
    #[arg(long = "device", value_name = "list")]
    pub(crate) device: Vec<String>,
    /// Add a rule to the list of allowed devices
    #[arg(long = "device-cgroup-rule", value_name = "list", value_parser = super::parse::device_rule)]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Limit reads from a device, in bytes per second
    #[arg(long = "device-read-bps", value_name = "list", value_parser = super::parse::throttle_bytes)]
    pub(crate) device_read_bps: Vec<ThrottleDevice>,
    /// Limit reads from a device, per second
    #[arg(long = "device-read-iops", value_name = "list", value_parser = super::parse::throttle_count)]
    pub(crate) device_read_iops: Vec<ThrottleDevice>,
    /// Limit writes to a device, in bytes per second
    #[arg(long = "device-write-bps", value_name = "list", value_parser = super::parse::throttle_bytes)]
    pub(crate) device_write_bps: Vec<ThrottleDevice>,
    /// Limit writes to a device, per second
    #[arg(long = "device-write-iops", value_name = "list", value_parser = super::parse::throttle_count)]
    pub(crate) device_write_iops: Vec<ThrottleDevice>,
    /// Ignored
    #[arg(long = "disable-content-trust", value_name = "bool", hide = true, action = ArgAction::Set)]
    pub(crate) disable_content_trust: bool,
    /// Name servers
    #[arg(long = "dns", value_name = "list", value_parser = super::parse::address)]
    pub(crate) dns: Vec<String>,
    /// Resolver options
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "list")]
    pub(crate) dns_option: Vec<String>,
    /// Search domains of the resolver
    #[arg(long = "dns-search", value_name = "list")]
    pub(crate) dns_search: Vec<String>,
    /// NIS domain name of the container
    #[arg(long = "domainname", value_name = "string")]
    pub(crate) domainname: Option<String>,
    /// Replace the image's entry point
    #[arg(long = "entrypoint", value_name = "string")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short = 'e', long = "env", value_name = "list")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long = "env-file", value_name = "list")]
    pub(crate) env_file: Vec<String>,
    /// Say that a port is served, or a range of ports
    #[arg(long = "expose", value_name = "list")]
    pub(crate) expose: Vec<String>,
    /// Give the container GPUs ('all' for all of them)
    #[arg(long = "gpus", value_name = "gpu-request", value_parser = super::parse::gpus)]
    pub(crate) gpus: Vec<DeviceRequest>,
    /// Join further groups
    #[arg(long = "group-add", value_name = "list")]
    pub(crate) group_add: Vec<String>,
    /// What to do when it becomes unhealthy: none, restart, stop or kill
    #[arg(long = "health-action", value_name = "string")]
    pub(crate) health_action: Option<String>,
    /// Command that finds out whether the container is well
    #[arg(long = "health-cmd", value_name = "string")]
    pub(crate) health_cmd: Option<String>,
    /// Time between probes (default 0s)
    #[arg(long = "health-interval", value_name = "duration", value_parser = crate::flags::parse_duration)]
    pub(crate) health_interval: Option<i64>,
    /// Failures in a row that make it unhealthy
    #[arg(long = "health-retries", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) health_retries: Option<i64>,
    /// Time between probes in the start period (default 0s)
    #[arg(long = "health-start-interval", value_name = "duration", value_parser = crate::flags::parse_duration)]
    pub(crate) health_start_interval: Option<i64>,
    /// Time in which failures do not count (default 0s)
    #[arg(long = "health-start-period", value_name = "duration", value_parser = crate::flags::parse_duration)]
    pub(crate) health_start_period: Option<i64>,
    /// Time a probe may take (default 0s)
    #[arg(long = "health-timeout", value_name = "duration", value_parser = crate::flags::parse_duration)]
    pub(crate) health_timeout: Option<i64>,
    /// Host name of the container
    #[arg(short = 'h', long = "hostname", value_name = "string")]
    pub(crate) hostname: Option<String>,
    /// Run an init as pid 1 that forwards signals and reaps processes
    #[arg(long = "init")]
    pub(crate) init: bool,
    /// Keep standard input open even if not attached
    #[arg(short = 'i', long = "interactive")]
    pub(crate) interactive: bool,
    /// Bytes per second of the system drive (Windows only)
    #[arg(long = "io-maxbandwidth", value_name = "bytes", value_parser = crate::flags::parse_size)]
    pub(crate) io_maxbandwidth: Option<i64>,
    /// Operations per second of the system drive (Windows only)
    #[arg(long = "io-maxiops", value_name = "uint", value_parser = crate::flags::parse_u64)]
    pub(crate) io_maxiops: Option<u64>,
    /// IPv4 address (172.30.100.104)
    #[arg(long = "ip", value_name = "string")]
    pub(crate) ip: Option<String>,
    /// IPv6 address (2001:db8::33)
    #[arg(long = "ip6", value_name = "string")]
    pub(crate) ip6: Option<String>,
    /// IPC namespace to use
    #[arg(long = "ipc", value_name = "string")]
    pub(crate) ipc: Option<String>,
    /// Isolation technology
    #[arg(long = "isolation", value_name = "string")]
    pub(crate) isolation: Option<String>,
    /// Ignored
    #[arg(long = "kernel-memory", value_name = "bytes", hide = true, value_parser = crate::flags::parse_size)]
    pub(crate) kernel_memory: Option<i64>,
    /// Set labels
    #[arg(short = 'l', long = "label", value_name = "list")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long = "label-file", value_name = "list")]
    pub(crate) label_file: Vec<String>,
    /// Add a link to another container
    #[arg(long = "link", value_name = "list")]
    pub(crate) link: Vec<String>,
    /// Link-local addresses
    #[arg(long = "link-local-ip", value_name = "list")]
    pub(crate) link_local_ip: Vec<String>,
    /// Log driver
    #[arg(long = "log-driver", value_name = "string")]
    pub(crate) log_driver: Option<String>,
    /// Options of the log driver
    #[arg(long = "log-opt", value_name = "list")]
    pub(crate) log_opt: Vec<String>,
    /// MAC address (92:d0:c6:0a:29:33)
    #[arg(long = "mac-address", value_name = "string")]
    pub(crate) mac_address: Option<String>,
    /// Limit of memory
    #[arg(short = 'm', long = "memory", value_name = "bytes", value_parser = crate::flags::parse_size)]
    pub(crate) memory: Option<i64>,
    /// Soft limit of memory
    #[arg(long = "memory-reservation", value_name = "bytes", value_parser = crate::flags::parse_size)]
    pub(crate) memory_reservation: Option<i64>,
    /// Limit of memory and swap together, -1 for no limit
    #[arg(long = "memory-swap", value_name = "bytes", value_parser = crate::flags::parse_swap)]
    pub(crate) memory_swap: Option<i64>,
    /// Willingness to swap, 0 to 100
    #[arg(long = "memory-swappiness", value_name = "int", default_value = "-1", value_parser = crate::flags::parse_int)]
    pub(crate) memory_swappiness: i64,
    /// Attach a file system
    #[arg(long = "mount", value_name = "mount", value_parser = super::mount::parse)]
    pub(crate) mount: Vec<Mount>,
    /// Name of the container
    #[arg(long = "name", value_name = "string")]
    pub(crate) name: Option<String>,
    /// Connect to a network
    #[arg(long = "network", alias = "net", value_name = "network")]
    pub(crate) network: Vec<String>,
    /// Further names in the network
    #[arg(long = "network-alias", alias = "net-alias", value_name = "list")]
    pub(crate) network_alias: Vec<String>,
    /// Disable the image's health check
    #[arg(long = "no-healthcheck")]
    pub(crate) no_healthcheck: bool,
    /// Never kill for want of memory
    #[arg(long = "oom-kill-disable")]
    pub(crate) oom_kill_disable: bool,
    /// Preference of the host's out-of-memory killer, -1000 to 1000
    #[arg(long = "oom-score-adj", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) oom_score_adj: Option<i64>,
    /// PID namespace to use
    #[arg(long = "pid", value_name = "string")]
    pub(crate) pid: Option<String>,
    /// Limit of processes, -1 for no limit
    #[arg(long = "pids-limit", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) pids_limit: Option<i64>,
    /// Give the container all privileges
    #[arg(long = "privileged")]
    pub(crate) privileged: bool,
    /// Publish a port of the container to the host
    #[arg(short = 'p', long = "publish", value_name = "list")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long = "publish-all")]
    pub(crate) publish_all: bool,
    /// Mount the root file system read-only
    #[arg(long = "read-only")]
    pub(crate) read_only: bool,
    /// When to start the container again
    #[arg(long = "restart", value_name = "string", default_value = "no")]
    pub(crate) restart: String,
    /// Remove the container and its anonymous volumes when it ends
    #[arg(long = "rm")]
    pub(crate) rm: bool,
    /// OCI runtime
    #[arg(long = "runtime", value_name = "string")]
    pub(crate) runtime: Option<String>,
    /// Security options
    #[arg(long = "security-opt", value_name = "list")]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long = "shm-size", value_name = "bytes", value_parser = crate::flags::parse_size)]
    pub(crate) shm_size: Option<i64>,
    /// Signal that stops the container
    #[arg(long = "stop-signal", value_name = "string")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(long = "stop-timeout", value_name = "int", value_parser = crate::flags::parse_int)]
    pub(crate) stop_timeout: Option<i64>,
    /// Options of the storage driver
    #[arg(long = "storage-opt", value_name = "list")]
    pub(crate) storage_opt: Vec<String>,
    /// Kernel parameters
    #[arg(long = "sysctl", value_name = "map", value_parser = super::parse::sysctl)]
    pub(crate) sysctl: Vec<(String, String)>,
    /// Mount a tmpfs
    #[arg(long = "tmpfs", value_name = "list")]
    pub(crate) tmpfs: Vec<String>,
    /// Give the container a terminal
    #[arg(short = 't', long = "tty")]
    pub(crate) tty: bool,
    /// Resource limits
    #[arg(long = "ulimit", value_name = "ulimit", value_parser = super::parse::ulimit)]
    pub(crate) ulimit: Vec<Ulimit>,
    /// User name or number, with an optional group (name|uid[:group|gid])
    #[arg(short = 'u', long = "user", value_name = "string")]
    pub(crate) user: Option<String>,
    /// User namespace to use
    #[arg(long = "userns", value_name = "string")]
    pub(crate) userns: Option<String>,
    /// UTS namespace to use
    #[arg(long = "uts", value_name = "string")]
    pub(crate) uts: Option<String>,
    /// Bind a directory or mount a volume
    #[arg(short = 'v', long = "volume", value_name = "list")]
    pub(crate) volume: Vec<String>,
    /// Driver of the container's volumes
    #[arg(long = "volume-driver", value_name = "string")]
    pub(crate) volume_driver: Option<String>,
    /// Take the mounts of another container
    #[arg(long = "volumes-from", value_name = "list")]
    pub(crate) volumes_from: Vec<String>,
    /// Working directory
    #[arg(short = 'w', long = "workdir", value_name = "string")]
    pub(crate) workdir: Option<String>,
}
