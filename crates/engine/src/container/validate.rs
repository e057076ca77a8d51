//! Everything that can be wrong with a create request, with Docker's texts.

use budu_spec::docker::{ApiVersion, ContainerCreate, HostConfig};
use budu_spec::kernel::{Scope, sysctl_scope};

use super::{health, mounts, ports, resources, security};
use crate::Error;

/// What a request must satisfy whatever the image; fills in defaults and
/// collects warnings.
pub(crate) fn validate(
    wish: &mut ContainerCreate,
    defaults: &crate::Options,
    version: ApiVersion,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    unsupported(wish)?;
    configuration(wish)?;
    let host = &mut wish.host_config;
    modes(host)?;
    technology(host)?;
    conflicts(wish, warnings)?;
    let host = &mut wish.host_config;
    restart(host)?;
    network(wish)?;
    let host = &mut wish.host_config;
    resources::validate(&mut host.resources, resources::Purpose::Create, warnings)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        let value = host.oom_score_adj;
        return Err(Error::invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]")));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    let parent = host.resources.cgroup_parent.trim_matches('/');
    if !parent.is_empty() && budu_sys::cgroup::CgroupPath::parse(parent).is_err() {
        return Err(Error::invalid(format!("invalid cgroup parent: {}", host.resources.cgroup_parent)));
    }
    super::quota::wish(host)?;
    security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    super::spec::capabilities(host)?;
    logging(host, defaults)?;
    gates(wish, version);
    fill(&mut wish.host_config, defaults);
    mounts::gate(&mut wish.host_config, version, warnings)?;
    mounts::check(&wish.host_config)?;
    ports::requests(&wish.config, &wish.host_config)?;
    Ok(())
}

/// Features of Docker that are not built yet are named, never ignored.
fn unsupported(wish: &ContainerCreate) -> Result<(), Error> {
    let host = &wish.host_config;
    let table = [
        (!host.cgroup.is_empty(), "joining another container's cgroup"),
        (host.userns_mode == "private", "user namespaces"),
    ];
    match table.into_iter().find(|(asked, _)| *asked) {
        Some((_, feature)) => Err(Error::unsupported(feature)),
        None => Ok(()),
    }
}

fn configuration(wish: &ContainerCreate) -> Result<(), Error> {
    let config = &wish.config;
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if let Some(bad) = config.env.iter().flatten().find(|e| e.is_empty() || e.starts_with('=')) {
        return Err(Error::invalid(format!("invalid environment variable: {bad}")));
    }
    if config.env.iter().flatten().any(|e| e.contains('\0')) {
        return Err(Error::invalid("invalid environment variable: contains a NUL byte"));
    }
    if let Some(signal) = config.stop_signal.as_deref().filter(|s| !s.is_empty())
        && budu_spec::signal::parse(signal).is_none()
    {
        return Err(Error::invalid(format!("invalid signal: {signal}")));
    }
    health::validate(config.healthcheck.as_ref())?;
    health::check_label(config)?;
    for host in wish.host_config.extra_hosts.iter().flatten() {
        extra_host(host)?;
    }
    Ok(())
}

/// Splits `host:address`; `host-gateway` stands for an address of the host.
pub(crate) fn extra_host(text: &str) -> Result<(&str, &str), Error> {
    let bad = || Error::invalid(format!("bad format for add-host: \"{text}\""));
    let (host, address) = text.split_once(':').ok_or_else(bad)?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if host.is_empty() || (address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err()) {
        return Err(if host.is_empty() {
            bad()
        } else {
            Error::invalid(format!("invalid IP address in add-host: \"{address}\""))
        });
    }
    Ok((host, address))
}

/// Who runs containers, and how: there is one runtime.
fn technology(host: &HostConfig) -> Result<(), Error> {
    if !matches!(host.runtime.as_str(), "" | "budu" | "runc" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    if !host.isolation.is_empty() && !host.isolation.eq_ignore_ascii_case("default") {
        return Err(Error::invalid(format!("invalid isolation ({}): linux only supports 'default'", host.isolation)));
    }
    if host.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Error::invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }
    Ok(())
}

/// What each alone would be right.
fn conflicts(wish: &ContainerCreate, warnings: &mut Vec<String>) -> Result<(), Error> {
    let host = &wish.host_config;
    if host.uts_mode == "host" && !wish.config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    if host.network_mode == "host" && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(())
}

fn modes(host: &HostConfig) -> Result<(), Error> {
    for (what, mode, known) in [
        ("IPC", host.ipc_mode.as_str(), &["", "none", "private", "shareable", "host"][..]),
        ("PID", &host.pid_mode, &["", "host"]),
        ("UTS", &host.uts_mode, &["", "host"]),
        ("cgroup namespace", &host.cgroupns_mode, &["", "private", "host"]),
        ("user namespace", &host.userns_mode, &["", "host"]),
    ] {
        if known.contains(&mode) {
            continue;
        }
        if matches!(what, "IPC" | "PID") && super::donor::named(mode).is_some() {
            continue;
        }
        return Err(Error::invalid(format!("invalid {what} mode: {mode}")));
    }
    Ok(())
}

/// Refuses restart policies that mean nothing.
pub(super) fn restart(host: &HostConfig) -> Result<(), Error> {
    let policy = &host.restart_policy;
    let bad = |why: &str| Err(Error::invalid(format!("invalid restart policy: {why}")));
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return bad("maximum retry count can only be used with 'on-failure'");
        }
        "" | "no" | "always" | "unless-stopped" => {}
        "on-failure" if policy.maximum_retry_count < 0 => return bad("maximum retry count cannot be negative"),
        "on-failure" => {}
        other => {
            return bad(&format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    if host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

fn network(wish: &ContainerCreate) -> Result<(), Error> {
    let host = &wish.host_config;
    let mode = host.network_mode.as_str();
    if mode.starts_with("container:") {
        shared_network(wish)?;
    }
    // Whether the network exists is asked at start, as in Docker: clients take
    // a "not found" of create for a missing image and pull it.
    if mode == "host" && host.links.as_ref().is_some_and(|links| !links.is_empty()) {
        return Err(Error::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ));
    }
    if mode == "host" && host.sysctls.iter().flatten().any(|(key, _)| key.starts_with("net.")) {
        let key =
            host.sysctls.iter().flatten().map(|(k, _)| k).find(|k| k.starts_with("net.")).map_or("", String::as_str);
        return Err(Error::invalid(format!("sysctl '{key}' not allowed in host network namespace")));
    }
    sysctls(host)
}

/// What a container that shares another one's network cannot have.
fn shared_network(wish: &ContainerCreate) -> Result<(), Error> {
    let (config, host) = (&wish.config, &wish.host_config);
    if host.network_mode == "container:" {
        return Err(Error::invalid("invalid network mode: invalid container format container:<name|id>"));
    }
    let table = [
        (!config.hostname.is_empty(), "conflicting options: hostname and the network mode"),
        (
            host.links.as_ref().is_some_and(|links| !links.is_empty()),
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (!host.dns.is_empty(), "conflicting options: dns and the network mode"),
        (
            host.extra_hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            config.mac_address.as_ref().is_some_and(|mac| !mac.is_empty()),
            "conflicting options: mac-address and the network mode",
        ),
        (
            !host.port_bindings.is_empty() || host.publish_all_ports,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()),
            "conflicting options: port exposing and the container type network mode",
        ),
    ];
    match table.into_iter().find(|(given, _)| *given) {
        Some((_, text)) => Err(Error::invalid(text)),
        None => Ok(()),
    }
}

/// Only kernel parameters of the container's own namespaces may be set.
fn sysctls(host: &HostConfig) -> Result<(), Error> {
    for (key, _) in host.sysctls.iter().flatten() {
        let dotted = key.replace('/', ".");
        let refused = match sysctl_scope(&dotted) {
            _ if key.contains("..") => true,
            Some(Scope::Ipc) => host.ipc_mode == "host",
            Some(Scope::Uts) => dotted != "kernel.domainname" || host.uts_mode == "host",
            // Of a container with the host's network it is refused before.
            Some(Scope::Network) => false,
            Some(Scope::User) | None => true,
        };
        if refused {
            return Err(Error::invalid(format!("sysctl \"{key}\" is not in a separate kernel namespace")));
        }
    }
    Ok(())
}

fn logging(host: &mut HostConfig, defaults: &crate::Options) -> Result<(), Error> {
    crate::log::settle(&mut host.log_config, defaults)
}

/// What older API versions asked for in other ways, or could not ask for.
fn gates(wish: &mut ContainerCreate, version: ApiVersion) {
    let host = &mut wish.host_config;
    if version < ApiVersion::new(42) {
        host.console_size = [0, 0];
    }
    if version < ApiVersion::new(43) {
        host.annotations = None;
    }
    if version < ApiVersion::new(44) {
        for mount in host.mounts.iter_mut().flatten().filter(|m| m.kind == "bind" && m.read_only) {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
        if let Some(health) = &mut wish.config.healthcheck {
            health.start_interval = None;
        }
    }
}

/// Values that inspect shows although nobody gave them.
fn fill(host: &mut HostConfig, defaults: &crate::Options) {
    let set = |field: &mut String, value: &str| {
        if field.is_empty() {
            value.clone_into(field);
        }
    };
    set(&mut host.network_mode, "bridge");
    set(&mut host.ipc_mode, "private");
    set(&mut host.cgroupns_mode, "private");
    set(&mut host.restart_policy.name, "no");
    set(&mut host.runtime, "budu");
    if host.network_mode == "default" {
        "bridge".clone_into(&mut host.network_mode);
    }
    if host.shm_size == 0 {
        host.shm_size = defaults.shm_size;
    }
    let unconfined = host.privileged;
    let own = |paths: &[String]| if unconfined { Vec::new() } else { paths.to_vec() };
    let read_only = budu_runtime::defaults::paths::READ_ONLY.map(str::to_owned);
    host.masked_paths.get_or_insert_with(|| own(budu_runtime::defaults::paths::masked()));
    host.readonly_paths.get_or_insert_with(|| own(&read_only));
}

#[cfg(test)]
mod tests {
    use super::*;
    use budu_spec::docker::RestartPolicy;

    fn check(json: &str) -> Result<ContainerCreate, String> {
        let mut wish: ContainerCreate = serde_json::from_str(json).unwrap();
        validate(&mut wish, &crate::Options::default(), ApiVersion::MAX, &mut Vec::new()).map_err(|e| e.to_string())?;
        Ok(wish)
    }

    #[test]
    fn defaults_are_filled_in() {
        let wish = check(r#"{"Image":"x"}"#).unwrap();
        let host = &wish.host_config;
        assert_eq!(
            (host.network_mode.as_str(), host.ipc_mode.as_str(), host.log_config.kind.as_str()),
            ("bridge", "private", "json-file")
        );
        assert_eq!(host.restart_policy, RestartPolicy { name: "no".into(), maximum_retry_count: 0 });
        assert!(host.masked_paths.as_ref().unwrap().contains(&"/proc/kcore".to_owned()));
        assert_eq!(host.shm_size, 64 << 20);
        let wish = check(r#"{"HostConfig":{"Privileged":true}}"#).unwrap();
        assert_eq!(wish.host_config.masked_paths, Some(Vec::new()));
    }

    #[test]
    fn refusals_have_dockers_texts() {
        for (json, want) in [
            (r#"{"WorkingDir":"a"}"#, "the working directory 'a' is invalid, it needs to be an absolute path"),
            (r#"{"Env":["=x"]}"#, "invalid environment variable: =x"),
            (r#"{"StopSignal":"NOPE"}"#, "invalid signal: NOPE"),
            (r#"{"HostConfig":{"Memory":1024}}"#, "Minimum memory limit allowed is 6MB"),
            (r#"{"HostConfig":{"PidMode":"x"}}"#, "invalid PID mode: x"),
            (r#"{"HostConfig":{"OomScoreAdj":1001}}"#, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
            (
                r#"{"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}"#,
                "can't create 'AutoRemove' container with restart policy",
            ),
            (
                r#"{"HostConfig":{"RestartPolicy":{"Name":"x"}}}"#,
                "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (
                r#"{"HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":2}}}"#,
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (r#"{"HostConfig":{"CgroupParent":"/../x"}}"#, "invalid cgroup parent: /../x"),
            (r#"{"HostConfig":{"SecurityOpt":["x"]}}"#, "invalid --security-opt 1: \"x\""),
            (r#"{"HostConfig":{"CapAdd":["FLY"]}}"#, "invalid CapAdd: unknown capability: \"CAP_FLY\""),
            (
                r#"{"HostConfig":{"Sysctls":{"kernel.panic":"1"}}}"#,
                "sysctl \"kernel.panic\" is not in a separate kernel namespace",
            ),
            (
                r#"{"HostConfig":{"NetworkMode":"host","Sysctls":{"net.a":"1"}}}"#,
                "sysctl 'net.a' not allowed in host network namespace",
            ),
            (
                r#"{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/nonexistent","Target":"/x"}]}}"#,
                "invalid mount config for type \"bind\": bind source path does not exist: /nonexistent",
            ),
            (r#"{"HostConfig":{"Runtime":"kata"}}"#, "unknown or invalid runtime name: kata"),
            (r#"{"HostConfig":{"Isolation":"hyperv"}}"#, "invalid isolation (hyperv): linux only supports 'default'"),
            (r#"{"Hostname":"x","HostConfig":{"UTSMode":"host"}}"#, "conflicting options: hostname and the UTS mode"),
            (r#"{"HostConfig":{"ExtraHosts":["x"]}}"#, "bad format for add-host: \"x\""),
        ] {
            assert_eq!(check(json).unwrap_err(), want, "{json}");
        }
    }

    #[test]
    fn missing_features_are_named() {
        let error = check(r#"{"HostConfig":{"UsernsMode":"private"}}"#).unwrap_err();
        assert!(error.contains("not implemented"), "{error}");
    }

    #[test]
    fn read_only_binds_of_old_clients_are_not_recursive() {
        let json = r#"{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/x","ReadOnly":true}]}}"#;
        let mut wish: ContainerCreate = serde_json::from_str(json).unwrap();
        validate(&mut wish, &crate::Options::default(), ApiVersion::new(43), &mut Vec::new()).unwrap();
        let mount = &wish.host_config.mounts.as_ref().unwrap()[0];
        assert!(mount.bind_options.as_ref().unwrap().read_only_non_recursive);
    }
}
