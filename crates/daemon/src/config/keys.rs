//! Which settings there are. `daemon.json` has them by key, flags by almost
//! the same names.

/// Long flags without argument: `--flag` and `--flag=false` are both fine.
pub(super) const SWITCHES: &[&str] = &[
    "allow-direct-routing",
    "cri-containerd",
    "debug",
    "experimental",
    "icc",
    "init",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "no-new-privileges",
    "raw-logs",
    "rootless",
    "selinux-enabled",
    "userland-proxy",
    "tls",
    "tlsverify",
    "unauthenticated-tcp",
    "validate",
];

/// Flags whose key in the file is the plural.
pub(super) const PLURALS: &[(&str, &str)] = &[
    ("add-runtime", "runtimes"),
    ("authorization-plugin", "authorization-plugins"),
    ("cdi-spec-dir", "cdi-spec-dirs"),
    ("default-address-pool", "default-address-pools"),
    ("default-network-opt", "default-network-opts"),
    ("default-ulimit", "default-ulimits"),
    ("dns-opt", "dns-opts"),
    ("exec-opt", "exec-opts"),
    ("feature", "features"),
    ("host", "hosts"),
    ("host-gateway-ip", "host-gateway-ips"),
    ("insecure-registry", "insecure-registries"),
    ("label", "labels"),
    ("log-opt", "log-opts"),
    ("node-generic-resource", "node-generic-resources"),
    ("registry-mirror", "registry-mirrors"),
    ("storage-opt", "storage-opts"),
];

/// Keys that Docker knows, that change nothing here, and that are safe to accept.
pub(super) const IGNORED: &[&str] = &[
    "allow-nondistributable-artifacts",
    "bridge-accept-fwmark",
    "builder",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "containers-namespace",
    "cri-containerd",
    "deprecated-key-path",
    "exec-opts",
    "firewall-backend",
    "init-path",
    "ip-forward-no-drop",
    "ip6tables",
    "iptables",
    "network-control-plane-mtu",
    "node-generic-resources",
    "nri-opts",
    "oom-score-adjust",
    "plugins-namespace",
    "storage-driver",
    "storage-opts",
    "swarm-default-advertise-addr",
    "swarm-raft-election-tick",
    "swarm-raft-heartbeat-tick",
    "userland-proxy",
    "userland-proxy-path",
];

/// Keys whose values are shown by `info` and change nothing.
pub(super) const TOLD: &[&str] = &["http-proxy", "https-proxy", "max-concurrent-uploads", "no-proxy"];

/// Keys that Docker knows and that would change what containers are or may do:
/// whoever sets them must not believe that they work. With the values that are
/// fine, since they are what happens anyway.
pub(super) const REFUSED: &[(&str, &[&str])] = &[
    ("allow-direct-routing", &["false"]),
    ("bip6", &[""]),
    ("cpu-rt-period", &["0"]),
    ("cpu-rt-runtime", &["0"]),
    ("default-gateway", &[""]),
    ("default-gateway-v6", &[""]),
    ("default-network-opts", &[""]),
    ("default-stop-timeout", &["10"]),
    ("fixed-cidr", &[""]),
    ("fixed-cidr-v6", &[""]),
    ("host-gateway-ip", &[""]),
    ("host-gateway-ips", &[""]),
    ("icc", &["true"]),
    ("ip", &["", "0.0.0.0"]),
    ("ipv6", &["false"]),
    ("network-diagnostic-port", &["0"]),
    ("raw-logs", &["false"]),
    ("rootless", &["false"]),
    ("seccomp-profile", &["", "builtin"]),
    ("selinux-enabled", &["false"]),
    ("userns-remap", &[""]),
];
