//! A container's record as the runtime's `config.json`.

use std::path::Path;

use budu_runtime::defaults::{capabilities as default_capabilities, seccomp};
use budu_spec::docker::{ContainerConfig, HostConfig};
use budu_spec::oci;
use budu_sys::capability::{CapSet, bounding, supported};

use super::donor::{self, Donors};
use super::merge::key;
use super::record::Record;
use super::security::{self, Seccomp};
use super::{mounts, resources};
use crate::Error;

/// Search path of programs in containers that set none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Files that the engine writes and binds over the image's own.
pub(crate) const NAME_FILES: [&str; 3] = ["resolv.conf", "hostname", "hosts"];

/// Builds the specification. `files` is the directory with [`NAME_FILES`].
pub(crate) fn build(record: &Record, files: &Path, cgroup_parent: &str, donors: Donors) -> Result<oci::Spec, Error> {
    let (config, host) = (&record.config, &record.host_config);
    let linux = oci::Linux {
        namespaces: namespaces(host, donors),
        devices: resources::nodes(host)?,
        cgroups_path: cgroup_path(record, cgroup_parent),
        resources: Some(resources::oci(host)?),
        sysctl: sysctls(host),
        rootfs_propagation: mounts::propagation(&record.points).to_owned(),
        masked_paths: host.masked_paths.clone().unwrap_or_default(),
        readonly_paths: host.readonly_paths.clone().unwrap_or_default(),
        ..oci::Linux::default()
    };
    Ok(oci::Spec {
        oci_version: oci::VERSION.to_owned(),
        root: Some(oci::Root { path: "rootfs".into(), readonly: host.readonly_rootfs }),
        process: Some(process(record)?),
        hostname: if host.uts_mode == "host" { String::new() } else { config.hostname.clone() },
        domainname: if host.uts_mode == "host" { String::new() } else { config.domainname.clone() },
        mounts: mount_list(record, files, donors)?,
        annotations: host.annotations.clone().unwrap_or_default(),
        linux: Some(linux),
        ..oci::Spec::default()
    })
}

/// Where in the cgroup hierarchy: `--cgroup-parent` or the daemon's, then the id.
pub(crate) fn cgroup_path(record: &Record, parent: &str) -> String {
    let wish = record.host_config.resources.cgroup_parent.trim_matches('/');
    format!("{}/{}", if wish.is_empty() { parent } else { wish }, record.id)
}

fn namespaces(host: &HostConfig, donors: Donors) -> Vec<oci::Namespace> {
    let shared = |mode: &str| mode == "host";
    let table = [
        ("mount", false),
        ("pid", shared(&host.pid_mode)),
        ("network", shared(&host.network_mode)),
        ("uts", shared(&host.uts_mode)),
        ("ipc", shared(&host.ipc_mode)),
        ("cgroup", shared(&host.cgroupns_mode)),
    ];
    let new = |(kind, shared): &(&str, bool)| {
        let donor = match *kind {
            "ipc" => donors.ipc,
            "pid" => donors.pid,
            _ => None,
        };
        let path = donor.map(|pid| donor::namespace(pid, kind)).unwrap_or_default();
        (!shared).then(|| oci::Namespace { kind: (*kind).to_owned(), path })
    };
    table.iter().filter_map(new).collect()
}

/// `net.*` parameters are written by the network, inside its namespace.
fn sysctls(host: &HostConfig) -> std::collections::BTreeMap<String, String> {
    let own = |(key, _): &(&String, &String)| !key.starts_with("net.");
    host.sysctls.iter().flatten().filter(own).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn process(record: &Record) -> Result<oci::Process, Error> {
    let (config, host) = (&record.config, &record.host_config);
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let args = std::iter::once(&record.path).chain(&record.args).cloned().collect();
    let size = host.console_size;
    let narrow = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Ok(oci::Process {
        terminal: config.tty,
        console_size: (config.tty && size != [0, 0])
            .then(|| oci::ConsoleSize { height: narrow(size[0]), width: narrow(size[1]) }),
        user: user(&config.user, host),
        args,
        env: environment(config),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { mounts::clean(&config.working_dir) },
        capabilities: Some(capability_sets(capabilities(host)?)),
        rlimits: host.resources.ulimits.iter().map(resources::rlimit).collect::<Result<_, _>>()?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.profile(host.privileged),
        oom_score_adj: Some(host.oom_score_adj),
        ..oci::Process::default()
    })
}

/// The user, to be looked up inside unless it is root by default.
pub(crate) fn user(name: &str, host: &HostConfig) -> oci::User {
    let group_names = host.group_add.iter().flatten().cloned().collect();
    oci::User { username: name.to_owned(), group_names, ..oci::User::default() }
}

/// Search path, host name and terminal type first; the configuration wins.
pub(crate) fn environment(config: &ContainerConfig) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    extend(&mut env, config.env.iter().flatten());
    env
}

/// Adds entries; one of the same name takes the earlier one's place, and a
/// bare name takes it away.
pub(crate) fn extend<'a>(env: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for entry in more {
        let place = env.iter().position(|e| key(e) == key(entry));
        match (place, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (None, true) => env.push(entry.clone()),
            (Some(at), false) => drop(env.remove(at)),
            (None, false) => {}
        }
    }
}

/// The container's capabilities.
pub(crate) fn capabilities(host: &HostConfig) -> Result<CapSet, Error> {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let set = default_capabilities::plan(&list(&host.cap_add), &list(&host.cap_drop), host.privileged)
        .map_err(|e| Error::invalid(e.to_string()))?;
    Ok(set.intersection(available()))
}

/// What the kernel knows and the daemon itself may have: nobody can give away
/// more. Looked up once.
pub(crate) fn available() -> CapSet {
    static AVAILABLE: std::sync::OnceLock<CapSet> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(|| supported().intersection(bounding().unwrap_or(CapSet::ALL)))
}

/// Bounding, permitted and effective; nothing inheritable, nothing ambient.
pub(crate) fn capability_sets(set: CapSet) -> oci::Capabilities {
    let names: Vec<String> = set.iter().map(|c| c.to_string()).collect();
    oci::Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..oci::Capabilities::default()
    }
}

/// The compiled system call filter; `None` for none.
pub(crate) fn filter(host: &HostConfig, privileged: bool) -> Result<Option<Vec<u8>>, Error> {
    if host.privileged || privileged {
        return Ok(None);
    }
    let bad = |e: seccomp::SeccompError| Error::invalid(format!("invalid seccomp profile: {e}"));
    let set = capabilities(host)?;
    match security::parse(host.security_opt.as_deref().unwrap_or_default())?.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default => seccomp::default_program(set).map(|p| Some(p.to_bytes())).map_err(bad),
        Seccomp::Profile(json) => seccomp::custom_program(&json, set).map(|p| Some(p.to_bytes())).map_err(bad),
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..oci::Mount::default()
    }
}

/// Docker's default mounts, the name files, and what the user asked for. A
/// user's mount at the place of a default one takes its place.
fn mount_list(record: &Record, files: &Path, donors: Donors) -> Result<Vec<oci::Mount>, Error> {
    let host = &record.host_config;
    let wishes = mounts::oci(record)?;
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let access = if host.privileged { "rw" } else { "ro" };
    let cgroup_access = if security.writable_cgroups { "rw" } else { access };
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[cgroup_access, "nosuid", "noexec", "nodev"]),
    ];
    match host.ipc_mode.as_str() {
        "host" => {
            list.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"]));
            list.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"]));
        }
        mode => {
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            if let Some(donor) = donors.ipc {
                let shm = donor::seen_by(donor, "/dev/shm");
                let options = ["rbind", "nosuid", "noexec", "nodev"];
                list.push(mount("/dev/shm", "bind", &shm.to_string_lossy(), &options));
            } else if mode != "none" {
                let size = format!("size={}", host.shm_size);
                list.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
            }
        }
    }
    for name in NAME_FILES {
        let source = files.join(name);
        let destination = format!("/etc/{name}");
        list.push(mount(&destination, "bind", &source.to_string_lossy(), &["rbind", "rprivate"]));
    }
    list.retain(|default| !wishes.iter().any(|wish| wish.destination == default.destination));
    list.extend(wishes);
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    fn built(change: impl FnOnce(&mut Record)) -> oci::Spec {
        let mut record = record("web");
        record.config.hostname = "box".into();
        change(&mut record);
        build(&record, Path::new("/files"), "budu", Donors::default()).unwrap()
    }

    fn kinds(spec: &oci::Spec) -> Vec<&str> {
        spec.linux.as_ref().unwrap().namespaces.iter().map(|n| n.kind.as_str()).collect()
    }

    #[test]
    fn default_container() {
        let spec = built(|_| {});
        assert_eq!(kinds(&spec), ["mount", "pid", "network", "uts", "ipc", "cgroup"]);
        let mounts: Vec<&str> = spec.mounts.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(
            mounts,
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/sys",
                "/sys/fs/cgroup",
                "/dev/mqueue",
                "/dev/shm",
                "/etc/resolv.conf",
                "/etc/hostname",
                "/etc/hosts"
            ]
        );
        assert!(spec.mounts[3].options.contains(&"ro".to_owned()));
        let process = spec.process.unwrap();
        assert_eq!(process.env, [PATH, "HOSTNAME=box"]);
        let capabilities = process.capabilities.unwrap();
        assert_eq!(capabilities.bounding.len(), 14);
        assert!(capabilities.ambient.is_empty() && capabilities.inheritable.is_empty());
        assert!(spec.linux.unwrap().cgroups_path.starts_with("budu/"));
    }

    #[test]
    fn shared_namespaces_and_privileges() {
        let spec = built(|r| {
            r.host_config.privileged = true;
            r.host_config.pid_mode = "host".into();
            r.host_config.network_mode = "host".into();
            r.host_config.ipc_mode = "host".into();
            r.host_config.uts_mode = "host".into();
        });
        assert_eq!(kinds(&spec), ["mount", "cgroup"]);
        assert!(spec.hostname.is_empty());
        assert!(spec.mounts[3].options.contains(&"rw".to_owned()));
        assert!(spec.process.unwrap().capabilities.unwrap().bounding.contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(filter(&HostConfig { privileged: true, ..HostConfig::default() }, false).unwrap().is_none());
    }

    #[test]
    fn a_users_mount_takes_the_place_of_a_default_one() {
        let spec = built(|r| {
            let bind = |source: &str, target: &str| mounts::Point {
                source: source.into(),
                target: target.into(),
                ..mounts::Point::default()
            };
            r.points = vec![bind("/s", "/dev/shm"), bind("/h", "/etc/hosts")];
        });
        let at = |path: &str| spec.mounts.iter().filter(|m| m.destination == path).collect::<Vec<_>>();
        assert_eq!(at("/dev/shm").len(), 1);
        assert_eq!(at("/etc/hosts")[0].source, "/h");
    }

    #[test]
    fn environment_of_the_user_wins() {
        let spec = built(|r| {
            r.config.tty = true;
            r.config.env = Some(vec!["PATH=/x".into(), "A=1".into(), "TERM".into()]);
        });
        assert_eq!(spec.process.unwrap().env, ["PATH=/x", "HOSTNAME=box", "A=1"]);
    }

    #[test]
    fn net_sysctls_are_left_to_the_network() {
        let spec = built(|r| {
            let pairs = [("net.core.somaxconn", "1"), ("kernel.sem", "1 2 3 4")];
            r.host_config.sysctls = Some(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        });
        assert_eq!(spec.linux.unwrap().sysctl.keys().collect::<Vec<_>>(), ["kernel.sem"]);
    }
}
