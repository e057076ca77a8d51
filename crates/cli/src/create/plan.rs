//! The whole request from the flags, the image and the command.

use std::collections::BTreeMap;

use budu_spec::docker::{ContainerConfig, ContainerCreate, Empty, HostConfig, LogConfig, RestartPolicy};

use super::flags::ContainerFlags;
use super::mount::clean;
use super::resources::some;
use super::{files, network, ports, resources, security};
use crate::error::Error;

/// Makes the request. Nothing but environment, files named by flags and the current directory is read.
pub(crate) fn plan(flags: &ContainerFlags, image: &str, command: &[String]) -> Result<ContainerCreate, Error> {
    check_modes(flags)?;
    let (networks, ports) = (network::plan(flags)?, ports::plan(&flags.publish, &flags.expose)?);
    let (binds, volumes) = volumes(&flags.volume)?;
    let config = ContainerConfig {
        exposed_ports: Some(ports.exposed).filter(|ports| !ports.is_empty()),
        volumes: Some(volumes),
        ..container(flags, image, command)?
    };
    let security = security::plan(&flags.security_opt)?;
    let host = HostConfig {
        binds: Some(binds).filter(|binds| !binds.is_empty()),
        port_bindings: ports.bindings,
        network_mode: networks.0,
        security_opt: security.options,
        masked_paths: security.open_system_paths.then(Vec::new),
        readonly_paths: security.open_system_paths.then(Vec::new),
        ..host(flags)?
    };
    Ok(ContainerCreate { config, host_config: host, networking_config: networks.1 })
}

fn text(flag: &Option<String>) -> String {
    flag.clone().unwrap_or_default()
}

fn map(list: &[String]) -> Option<BTreeMap<String, String>> {
    (!list.is_empty()).then(|| files::pairs(list))
}

fn container(flags: &ContainerFlags, image: &str, command: &[String]) -> Result<ContainerConfig, Error> {
    let wants = |stream: &str| flags.attach.iter().any(|name| name == stream);
    let all = flags.attach.is_empty();
    let attach_stdin = if all { flags.interactive } else { wants("stdin") };
    Ok(ContainerConfig {
        hostname: text(&flags.hostname),
        domainname: text(&flags.domainname),
        user: text(&flags.user),
        attach_stdin,
        attach_stdout: all || wants("stdout"),
        attach_stderr: all || wants("stderr"),
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attach_stdin,
        env: some(&files::environment(&flags.env_file, &flags.env)?),
        cmd: (!command.is_empty()).then(|| command.to_vec()),
        healthcheck: resources::health(flags)?,
        image: image.to_owned(),
        working_dir: text(&flags.workdir),
        entrypoint: flags.entrypoint.clone().map(|entry| vec![entry]),
        labels: labels(flags)?,
        stop_signal: flags.stop_signal.clone().filter(|signal| !signal.is_empty()),
        stop_timeout: flags.stop_timeout,
        ..ContainerConfig::default()
    })
}

/// Those given, and what has no other place in Docker's API.
fn labels(flags: &ContainerFlags) -> Result<BTreeMap<String, String>, Error> {
    let mut labels = files::labels(&flags.label_file, &flags.label)?;
    if let Some(action) = &flags.health_action {
        labels.insert("budu.health.action".to_owned(), action.clone());
    }
    Ok(labels)
}

fn host(flags: &ContainerFlags) -> Result<HostConfig, Error> {
    let restart = restart_policy(&flags.restart)?;
    if flags.rm && !matches!(restart.name.as_str(), "" | "no") {
        return Err(Error::new("conflicting options: cannot specify both --restart and --rm"));
    }
    let log_driver = text(&flags.log_driver);
    if log_driver == "none" && !flags.log_opt.is_empty() {
        return Err(Error::new("invalid logging opts for driver none"));
    }
    if flags.storage_opt.iter().any(|option| !option.contains('=')) {
        return Err(Error::new("invalid storage option"));
    }
    let sysctls: BTreeMap<String, String> = flags.sysctl.iter().cloned().collect();
    let tmpfs = |text: &String| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), options.to_owned())
    };
    Ok(HostConfig {
        container_id_file: text(&flags.cidfile),
        log_config: LogConfig { kind: log_driver, config: files::pairs(&flags.log_opt) },
        restart_policy: restart,
        auto_remove: flags.rm,
        volume_driver: text(&flags.volume_driver),
        volumes_from: some(&flags.volumes_from),
        annotations: map(&flags.annotation),
        cap_add: security::capabilities(&flags.cap_add),
        cap_drop: security::capabilities(&flags.cap_drop),
        cgroupns_mode: text(&flags.cgroupns),
        dns: flags.dns.clone(),
        dns_options: flags.dns_option.clone(),
        dns_search: flags
            .dns_search
            .iter()
            .map(|name| if name == "." { String::new() } else { name.clone() })
            .collect(),
        extra_hosts: some(&flags.add_host),
        group_add: some(&flags.group_add),
        ipc_mode: text(&flags.ipc),
        links: some(&flags.link),
        oom_score_adj: flags.oom_score_adj.and_then(|n| i32::try_from(n).ok()).unwrap_or_default(),
        pid_mode: text(&flags.pid),
        privileged: flags.privileged,
        publish_all_ports: flags.publish_all,
        readonly_rootfs: flags.read_only,
        storage_opt: map(&flags.storage_opt),
        tmpfs: (!flags.tmpfs.is_empty()).then(|| flags.tmpfs.iter().map(tmpfs).collect()),
        uts_mode: text(&flags.uts),
        userns_mode: text(&flags.userns),
        shm_size: flags.shm_size.unwrap_or_default(),
        sysctls: (!sysctls.is_empty()).then_some(sysctls),
        runtime: text(&flags.runtime),
        isolation: text(&flags.isolation),
        resources: resources::plan(flags)?,
        mounts: (!flags.mount.is_empty()).then(|| flags.mount.clone()),
        init: flags.init.then_some(true),
        ..HostConfig::default()
    })
}

fn check_modes(flags: &ContainerFlags) -> Result<(), Error> {
    let other = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    let check = |flag: &Option<String>, good: &dyn Fn(&str) -> bool, complaint: &str| match flag.as_deref() {
        Some(mode) if !mode.is_empty() && !good(mode) => Err(Error::new(complaint)),
        _ => Ok(()),
    };
    check(&flags.pid, &|mode| mode == "host" || other(mode), "--pid: invalid PID mode")?;
    check(&flags.uts, &|mode| mode == "host", "--uts: invalid UTS mode")?;
    check(&flags.userns, &|mode| mode == "host", "--userns: invalid USER mode")?;
    check(&flags.cgroupns, &|mode| matches!(mode, "host" | "private"), "--cgroupns: invalid CGROUP mode")?;
    if let Some(mac) = flags.mac_address.as_deref().filter(|mac| !mac.is_empty()) {
        network::mac(mac)?;
    }
    Ok(())
}

/// `no`, `always`, `unless-stopped`, `on-failure[:n]`; the daemon judges the name.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, Error> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    if name.is_empty() && count.is_some() {
        return Err(Error::new("invalid restart policy format: no policy provided before colon"));
    }
    let maximum_retry_count = match count.filter(|count| !count.is_empty()) {
        None => 0,
        Some(count) => count
            .parse()
            .map_err(|_| Error::new("invalid restart policy format: maximum retry count must be an integer"))?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

type Volumes = (Vec<String>, BTreeMap<String, Empty>);

/// `--volume`: with a source it is a bind (relative paths are ours to resolve), alone an anonymous volume.
fn volumes(list: &[String]) -> Result<Volumes, Error> {
    let (mut binds, mut anonymous) = (Vec::new(), BTreeMap::new());
    for text in list {
        match text.split_once(':') {
            None => {
                anonymous.insert(text.clone(), Empty {});
            }
            Some((source, rest)) if source.starts_with('.') => {
                let here =
                    std::env::current_dir().map_err(|error| Error::new(format_args!("current directory: {error}")))?;
                binds.push(format!("{}:{rest}", clean(&format!("{}/{source}", here.display()))));
            }
            Some(_) => binds.push(text.clone()),
        }
    }
    Ok((binds, anonymous))
}
