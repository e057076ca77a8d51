//! `config.json` → [`Plan`]: pure, and all the checking there is.

use std::path::{Path, PathBuf};

use budu_spec::oci;
use budu_spec::{Classified, ErrorClass};

use crate::mount_options;
use crate::plan::{
    BlockIoPlan, Capabilities, CgroupPlan, DevicePlan, DeviceRule, ExecPlan, LogPlan, MountPlan, MountSource,
    Namespaces, Plan, ProcessPlan, Resources, Rootfs, Stdio, UserPlan,
};

/// What a container needs beyond its `config.json`.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Identifier.
    pub id: String,
    /// Directory for socket, pid and exit record; must exist, mode 0700.
    pub run_dir: PathBuf,
    /// Root file system; the specification's `root.path` when `None`.
    pub rootfs: Option<Rootfs>,
    /// Standard streams (`process.terminal` decides about the terminal).
    pub stdio: Stdio,
    /// Log file.
    pub log: Option<LogPlan>,
    /// Be pid 1 ourselves.
    pub init: bool,
    /// Compiled system call filter that takes the place of `linux.seccomp`;
    /// see [`crate::defaults`].
    pub seccomp: Option<Vec<u8>>,
    /// Set for `budu oci`: the specification is honoured to the letter, nothing
    /// is taken from the engine.
    pub bundle: Option<Bundle>,
}

/// How a container is made of a bundle (bundle.md) by the OCI command line.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    /// The bundle directory, absolute; `root.path` is relative to it.
    pub path: PathBuf,
    /// `--systemd-cgroup`.
    pub systemd: bool,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub keep_keyring: bool,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// The caller is not root, or is in a user namespace: what needs root may be left out.
    pub rootless: bool,
}

/// The configuration cannot be turned into a plan.
#[derive(Debug, thiserror::Error)]
#[error("invalid container configuration: {field}: {reason}")]
pub struct CompileError {
    /// Which part, such as `mounts[2].options`.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Classified for CompileError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

pub(crate) fn wrong(field: impl Into<String>, reason: impl Into<String>) -> CompileError {
    CompileError { field: field.into(), reason: reason.into() }
}

/// Plans a container.
///
/// # Errors
/// Names the field that is missing, unknown or out of range.
pub fn container(spec: &oci::Spec, extras: Extras) -> Result<Plan, CompileError> {
    let linux = spec.linux.as_ref().ok_or_else(|| wrong("linux", "missing; only Linux containers are supported"))?;
    let config = spec.process.as_ref().ok_or_else(|| wrong("process", "missing"))?;
    let readonly = spec.root.as_ref().is_some_and(|root| root.readonly);
    let rootfs = match (extras.rootfs, &spec.root) {
        (Some(rootfs), _) => rootfs,
        (None, Some(root)) => Rootfs::Directory { path: root.path.clone(), readonly, in_place: false },
        (None, None) => return Err(wrong("root", "missing")),
    };
    let mut stdio = extras.stdio;
    stdio.tty = config.terminal;
    if let Some(size) = config.console_size.filter(|_| config.terminal) {
        stdio.size = (size.height, size.width);
    }
    let own_dev = spec.mounts.iter().any(|m| m.destination == "/dev" && m.kind == "tmpfs");
    Ok(Plan {
        id: extras.id,
        run_dir: extras.run_dir,
        namespaces: namespaces(linux)?,
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        rootfs,
        mounts: spec.mounts.iter().enumerate().map(|(n, m)| mount(n, m)).collect::<Result<_, _>>()?,
        devices: devices(&linux.devices, own_dev)?,
        dev_links: own_dev,
        masked_paths: linux.masked_paths.clone(),
        readonly_paths: linux.readonly_paths.clone(),
        sysctls: linux.sysctl.iter().map(|(k, v)| sysctl(k, v)).collect::<Result<_, _>>()?,
        cgroup: CgroupPlan {
            path: linux.cgroups_path.clone(),
            resources: linux.resources.as_ref().map_or(Ok(Resources::default()), resources)?,
            ..CgroupPlan::default()
        },
        process: process(config, extras.seccomp)?,
        stdio,
        log: extras.log,
        init: extras.init,
        ..Plan::default()
    })
}

/// Plans a process of its own, for exec. `seccomp` is the container's filter.
///
/// # Errors
/// As [`container`].
pub fn process(config: &oci::Process, seccomp: Option<Vec<u8>>) -> Result<ProcessPlan, CompileError> {
    if !config.cwd.is_empty() && !config.cwd.starts_with('/') {
        return Err(wrong("process.cwd", format!("{:?} is not absolute", config.cwd)));
    }
    let user = if config.user.username.is_empty() && config.user.group_names.is_empty() {
        UserPlan::Ids { uid: config.user.uid, gid: config.user.gid, groups: config.user.additional_gids.clone() }
    } else {
        let mut groups: Vec<String> = config.user.additional_gids.iter().map(u32::to_string).collect();
        groups.extend(config.user.group_names.iter().cloned());
        UserPlan::Named { user: config.user.username.clone(), groups }
    };
    Ok(ProcessPlan {
        args: config.args.clone(),
        env: config.env.clone(),
        cwd: config.cwd.clone(),
        user,
        umask: config.user.umask,
        capabilities: capabilities(config.capabilities.as_ref()),
        rlimits: config.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        no_new_privileges: config.no_new_privileges,
        seccomp: seccomp.unwrap_or_default(),
        seccomp_flags: 0,
        oom_score_adj: config.oom_score_adj,
        make_cwd: true,
        ..ProcessPlan::default()
    })
}

/// Plans an exec.
///
/// # Errors
/// As [`container`].
pub fn exec(
    config: &oci::Process,
    seccomp: Option<Vec<u8>>,
    stdin: bool,
    size: (u16, u16),
) -> Result<ExecPlan, CompileError> {
    Ok(ExecPlan { process: process(config, seccomp)?, tty: config.terminal, stdin, size })
}

fn namespaces(linux: &oci::Linux) -> Result<Namespaces, CompileError> {
    let mut out = Namespaces::default();
    let mut seen = 0u64;
    for (n, namespace) in linux.namespaces.iter().enumerate() {
        let bit = match namespace.kind.as_str() {
            "mount" => 0x0002_0000,
            "cgroup" => 0x0200_0000,
            "uts" => 0x0400_0000,
            "ipc" => 0x0800_0000,
            "user" => 0x1000_0000,
            "pid" => 0x2000_0000,
            "network" => 0x4000_0000,
            "time" => return Err(wrong(format!("linux.namespaces[{n}]"), "time namespaces are not implemented yet")),
            other => return Err(wrong(format!("linux.namespaces[{n}].type"), format!("{other:?} is no namespace"))),
        };
        if seen & bit != 0 {
            return Err(wrong(format!("linux.namespaces[{n}]"), format!("{} is given twice", namespace.kind)));
        }
        seen |= bit;
        match namespace.path.as_str() {
            "" => out.new |= bit,
            path => out.join.push((bit, PathBuf::from(path))),
        }
    }
    if seen & 0x0002_0000 == 0 {
        return Err(wrong("linux.namespaces", "a container needs a mount namespace"));
    }
    let lines = |map: &[oci::IdMapping]| map.iter().map(|m| (m.container_id, m.host_id, m.size)).collect();
    out.uid_map = lines(&linux.uid_mappings);
    out.gid_map = lines(&linux.gid_mappings);
    if out.new & 0x1000_0000 != 0 && (out.uid_map.is_empty() || out.gid_map.is_empty()) {
        return Err(wrong("linux.uidMappings", "a new user namespace needs uid and gid mappings"));
    }
    Ok(out)
}

fn mount(n: usize, config: &oci::Mount) -> Result<MountPlan, CompileError> {
    let parsed = mount_options::parse(&config.options)
        .map_err(|option| wrong(format!("mounts[{n}].options"), format!("{option:?} is not usable here")))?;
    if config.destination.is_empty() {
        return Err(wrong(format!("mounts[{n}].destination"), "missing"));
    }
    let bind = parsed.bind.or((config.kind == "bind").then_some(false));
    let source = match (bind, config.kind.as_str()) {
        (Some(recursive), _) => {
            if !Path::new(&config.source).is_absolute() {
                return Err(wrong(format!("mounts[{n}].source"), format!("{:?} is not absolute", config.source)));
            }
            MountSource::Bind { path: PathBuf::from(&config.source), recursive }
        }
        (None, "cgroup" | "cgroup2") => MountSource::Cgroup,
        (None, "") => return Err(wrong(format!("mounts[{n}].type"), "missing")),
        (None, kind) => MountSource::New {
            kind: kind.to_owned(),
            source: config.source.clone(),
            options: parsed.data,
            copy_up: parsed.copy_up,
        },
    };
    Ok(MountPlan {
        target: config.destination.clone(),
        source,
        set: parsed.set,
        clear: parsed.clear,
        set_recursive: parsed.set_recursive,
        propagation: parsed.propagation,
        clear_recursive: 0,
        idmap: None,
    })
}

/// The devices of the configuration, after the ones every container has
/// ("Default Devices") where it has a /dev of its own.
fn devices(config: &[oci::Device], own_dev: bool) -> Result<Vec<DevicePlan>, CompileError> {
    let listed = config.iter().enumerate().map(|(n, d)| device(n, d)).collect::<Result<Vec<_>, _>>()?;
    let mut all = if own_dev { crate::defaults::devices::nodes() } else { Vec::new() };
    all.retain(|default| !listed.iter().any(|device| device.path == default.path));
    all.extend(listed);
    Ok(all)
}

fn device(n: usize, config: &oci::Device) -> Result<DevicePlan, CompileError> {
    let kind = match config.kind.as_str() {
        "c" | "u" => 0o020_000,
        "b" => 0o060_000,
        "p" => 0o010_000,
        other => return Err(wrong(format!("linux.devices[{n}].type"), format!("{other:?}: want c, b, u or p"))),
    };
    let number = |value: i64, name: &str| {
        u32::try_from(value).map_err(|_| wrong(format!("linux.devices[{n}].{name}"), "negative or too large"))
    };
    Ok(DevicePlan {
        path: config.path.clone(),
        mode: kind | config.file_mode.unwrap_or(0o666) & 0o7777,
        major: number(config.major, "major")?,
        minor: number(config.minor, "minor")?,
        uid: config.uid.unwrap_or(0),
        gid: config.gid.unwrap_or(0),
    })
}

/// Checks a kernel parameter's name: a path below /proc/sys, no way out of it.
fn sysctl(key: &str, value: &str) -> Result<(String, String), CompileError> {
    // Dots separate, unless slashes do; then dots belong to interface names.
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain || path.contains('\0') || value.contains('\n') {
        return Err(wrong("linux.sysctl", format!("{key:?} = {value:?} is not a kernel parameter and one line")));
    }
    Ok((path, value.to_owned()))
}

fn capabilities(config: Option<&oci::Capabilities>) -> Capabilities {
    let Some(config) = config else { return Capabilities::default() };
    // Unknown names are skipped, as the specification asks since 1.1.
    let mask = |names: &[String]| {
        names
            .iter()
            .filter_map(|name| budu_sys::capability::Capability::from_name(name))
            .fold(0, |bits, capability| bits | 1 << capability.number())
    };
    Capabilities {
        bounding: mask(&config.bounding),
        effective: mask(&config.effective),
        permitted: mask(&config.permitted),
        inheritable: mask(&config.inheritable),
        ambient: mask(&config.ambient),
    }
}

/// Names of getrlimit(2), in the order of their numbers.
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

fn rlimit(config: &oci::Rlimit) -> Result<(u32, u64, u64), CompileError> {
    let name = config.kind.strip_prefix("RLIMIT_").unwrap_or(&config.kind);
    let number = (0u32..).zip(RLIMITS).find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| number);
    let number = number.ok_or_else(|| wrong("process.rlimits", format!("{:?} is no resource limit", config.kind)))?;
    if config.soft > config.hard {
        return Err(wrong("process.rlimits", format!("{name}: soft limit is above the hard one")));
    }
    Ok((number, config.soft, config.hard))
}

fn resources(config: &oci::Resources) -> Result<Resources, CompileError> {
    let memory = config.memory.clone().unwrap_or_default();
    let cpu = config.cpu.clone().unwrap_or_default();
    Ok(Resources {
        memory: memory.limit,
        memory_reservation: memory.reservation,
        memory_swap: memory.swap,
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer.unwrap_or(false),
        cpu_shares: cpu.shares,
        cpu_quota: cpu.quota,
        cpu_period: cpu.period,
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        pids: config.pids.map(|pids| pids.limit),
        block_io: BlockIoPlan { weight: config.block_io.as_ref().and_then(|io| io.weight), ..BlockIoPlan::default() },
        devices: config.devices.iter().map(device_rule).collect::<Result<_, _>>()?,
        unified: config.unified.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        ..Resources::default()
    })
}

fn device_rule(config: &oci::DeviceRule) -> Result<DeviceRule, CompileError> {
    let kind = match config.kind.as_str() {
        "" | "a" => 'a',
        "c" => 'c',
        "b" => 'b',
        other => return Err(wrong("linux.resources.devices", format!("type {other:?}: want a, b or c"))),
    };
    // A negative number means all, as an absent one does.
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let access = if config.access.is_empty() { "rwm".to_owned() } else { config.access.clone() };
    Ok(DeviceRule { allow: config.allow, kind, major: number(config.major), minor: number(config.minor), access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> oci::Spec {
        let mount = oci::Namespace { kind: "mount".into(), path: String::new() };
        oci::Spec {
            root: Some(oci::Root { path: "/r".into(), readonly: true }),
            process: Some(oci::Process { args: vec!["sh".into()], cwd: "/".into(), ..Default::default() }),
            linux: Some(oci::Linux { namespaces: vec![mount], ..Default::default() }),
            ..Default::default()
        }
    }

    fn message(spec: &oci::Spec) -> String {
        container(spec, Extras::default()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut spec = minimal();
        spec.process.as_mut().unwrap().cwd = "relative".into();
        assert_eq!(message(&spec), "invalid container configuration: process.cwd: \"relative\" is not absolute");
        let mut spec = minimal();
        spec.linux.as_mut().unwrap().namespaces.push(oci::Namespace { kind: "mount".into(), path: String::new() });
        assert!(message(&spec).contains("mount is given twice"));
        let mut spec = minimal();
        spec.linux.as_mut().unwrap().sysctl.insert("net.../../kernel.core_pattern".into(), "x".into());
        assert!(message(&spec).contains("linux.sysctl"));
        let mut spec = minimal();
        spec.process.as_mut().unwrap().rlimits.push(oci::Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1, soft: 2 });
        assert!(message(&spec).contains("NOFILE: soft limit is above"));
    }

    #[test]
    fn mounts_become_attributes_and_parameters() {
        let mut spec = minimal();
        spec.mounts.push(oci::Mount {
            destination: "/tmp".into(),
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            options: ["nosuid", "noexec", "size=64k", "mode=1777"].map(String::from).to_vec(),
            ..Default::default()
        });
        spec.mounts.push(oci::Mount {
            destination: "/data".into(),
            kind: "bind".into(),
            source: "/srv".into(),
            options: ["rbind", "ro", "rslave"].map(String::from).to_vec(),
            ..Default::default()
        });
        let plan = container(&spec, Extras::default()).unwrap();
        assert_eq!(plan.mounts[0].set, 0x2 | 0x8);
        let options = vec![("size".into(), Some("64k".into())), ("mode".into(), Some("1777".into()))];
        assert!(matches!(&plan.mounts[0].source, MountSource::New { options: got, .. } if *got == options));
        assert_eq!(plan.mounts[1].source, MountSource::Bind { path: "/srv".into(), recursive: true });
        assert_eq!(plan.mounts[1].set, 0x1);
        assert_eq!(plan.mounts[1].propagation, 1 << 19 | 0x4000);
        assert_eq!(plan.rootfs, Rootfs::Directory { path: "/r".into(), readonly: true, in_place: false });
    }
}
