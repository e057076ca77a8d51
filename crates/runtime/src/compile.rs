//! `config.json` → [`Plan`]: pure, and all the checking there is, but for what only the host can tell ([`check_host`]).

pub(crate) mod attributes;
mod devices;
pub(crate) mod group;
pub(crate) mod hooks;
mod host;
mod mounts;
pub(crate) mod namespaces;
mod net_devices;
mod numbers;
mod process;
mod resources;
mod seccomp;
mod sysctl;
#[cfg(test)]
mod tests;
mod version;

use std::path::PathBuf;

use budu_spec::oci;
use budu_spec::{Classified, ErrorClass};

use crate::mount_options;
use crate::plan::{About, Hooks, LogPlan, Plan, ProcessPlan, Rootfs, Stdio};

pub use host::check_host;
pub use process::{bundle_process, exec, process};
pub use resources::resources;

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
    /// Directory that hooks are told as the bundle, where they look for a `config.json`; of the engine's containers.
    pub hooks_dir: PathBuf,
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
/// A bundle's may come without `process`: it can be created, and its plan has no arguments, but it cannot be started.
///
/// # Errors
/// Names the field that is missing, unknown or out of range.
pub fn container(spec: &oci::Spec, extras: Extras) -> Result<Plan, CompileError> {
    let bundle = extras.bundle.as_ref();
    let nothing = oci::Linux::default();
    let linux = match (&spec.linux, bundle) {
        (Some(linux), _) => linux,
        (None, Some(_)) => &nothing,
        (None, None) => return Err(wrong("linux", "missing; only Linux containers are supported")),
    };
    let rootfs = match extras.rootfs {
        Some(rootfs) => rootfs,
        None => root(spec, bundle)?,
    };
    let namespaces = namespaces::plan(linux, bundle.is_some())?;
    let own = namespaces::own(&namespaces);
    if let Some(bundle) = bundle {
        check(spec, linux, own, bundle)?;
    }
    let mut process = program(spec, bundle)?;
    process.seccomp = extras.seccomp.unwrap_or_default();
    surround(linux, &mut process)?;
    let own_dev = match bundle {
        Some(_) => devices::own_dev(spec),
        None => spec.mounts.iter().any(|m| m.destination == "/dev" && m.kind == "tmpfs"),
    };
    Ok(Plan {
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        rootfs,
        mounts: spec
            .mounts
            .iter()
            .enumerate()
            .map(|(n, m)| mounts::mount(n, m, own, bundle))
            .collect::<Result<_, _>>()?,
        devices: if own_dev || bundle.is_none() { devices::nodes(&linux.devices, own_dev)? } else { Vec::new() },
        dev_links: own_dev,
        masked_paths: linux.masked_paths.clone(),
        readonly_paths: linux.readonly_paths.clone(),
        sysctls: sysctl::plan(linux, bundle.map(|_| own))?,
        cgroup: match bundle {
            Some(bundle) => group::of_bundle(spec, linux, &namespaces, &extras.id, bundle)?,
            None => group::of_engine(linux)?,
        },
        process,
        stdio: stdio(spec, extras.stdio),
        log: extras.log,
        init: extras.init,
        rootfs_propagation: propagation(linux, bundle)?,
        mount_label: linux.mount_label.clone(),
        no_pivot: bundle.is_some_and(|bundle| bundle.no_pivot),
        keep_keyring: bundle.is_some_and(|bundle| bundle.keep_keyring),
        net_devices: net_devices::plan(linux, own, bundle)?,
        hooks: hooks::plan(spec.hooks.as_ref())?,
        about: About {
            oci_version: spec.oci_version.clone(),
            bundle: bundle.map(|bundle| bundle.path.clone()).unwrap_or(extras.hooks_dir),
            annotations: spec.annotations.clone(),
        },
        id: extras.id,
        run_dir: extras.run_dir,
        namespaces,
    })
}

/// Plans a further process of a running container: what it does not say is as for the first one (`spec`), and the
/// filter is the container's.
///
/// # Errors
/// As [`container`].
pub fn joining(spec: &oci::Spec, config: &oci::Process, preserve_fds: u32) -> Result<ProcessPlan, CompileError> {
    let first = spec.process.clone().unwrap_or_default();
    let config = oci::Process {
        user: oci::User { umask: config.user.umask.or(first.user.umask), ..config.user.clone() },
        scheduler: config.scheduler.clone().or(first.scheduler),
        io_priority: config.io_priority.clone().or(first.io_priority),
        exec_cpu_affinity: config.exec_cpu_affinity.clone().or(first.exec_cpu_affinity),
        oom_score_adj: config.oom_score_adj.or(first.oom_score_adj),
        capabilities: config.capabilities.clone().or(first.capabilities),
        ..config.clone()
    };
    let mut process = ProcessPlan { preserve_fds, ..bundle_process(&config)? };
    surround(spec.linux.as_ref().unwrap_or(&oci::Linux::default()), &mut process)?;
    Ok(process)
}

/// What holds for every process of a container.
fn surround(linux: &oci::Linux, process: &mut ProcessPlan) -> Result<(), CompileError> {
    process.personality = linux.personality.as_ref().map(attributes::personality).transpose()?;
    process.memory_policy = linux.memory_policy.as_ref().map(attributes::memory_policy).transpose()?;
    if process.seccomp.is_empty() {
        seccomp::apply(linux.seccomp.as_ref(), process)?;
    }
    Ok(())
}

/// The hooks of a configuration, for the points that come after its plan is gone.
///
/// # Errors
/// As [`container`].
pub fn hooks(spec: &oci::Spec) -> Result<Hooks, CompileError> {
    hooks::plan(spec.hooks.as_ref())
}

/// What is done otherwise than it was asked for, in words for a log.
pub fn warnings(spec: &oci::Spec) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(config) = spec.process.as_ref().and_then(|process| process.capabilities.as_ref()) {
        let unknown = process::unknown_capabilities(config);
        if !unknown.is_empty() {
            all.push(format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
        }
        for name in process::unraisable_capabilities(config) {
            all.push(format!("can't raise ambient capability {name}: it is not both permitted and inheritable"));
        }
    }
    for mount in spec.mounts.iter().filter(|mount| !mount.destination.starts_with('/')) {
        let place = &mount.destination;
        all.push(format!("mount destination {place} is not absolute: it is taken from the root, which is deprecated"));
    }
    let Some(linux) = &spec.linux else { return all };
    let memory = linux.resources.as_ref().and_then(|resources| resources.memory.as_ref());
    if memory.is_some_and(|memory| memory.kernel.is_some() || memory.kernel_tcp.is_some()) {
        all.push("kernel memory settings are ignored: no kernel has them any more".to_owned());
    }
    if let Some(personality) = linux.personality.as_ref().filter(|personality| !personality.flags.is_empty()) {
        all.push(format!("ignoring unsupported personality flags: {:?}", personality.flags));
    }
    let joins_user = linux.namespaces.iter().any(|one| one.kind == "user" && !one.path.is_empty());
    if joins_user && !(linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty()) {
        all.push(
            "the maps of the user namespace that is joined are kept, those of the configuration ignored".to_owned(),
        );
    }
    all
}

fn root(spec: &oci::Spec, bundle: Option<&Bundle>) -> Result<Rootfs, CompileError> {
    let root = spec.root.as_ref().ok_or_else(|| match bundle {
        Some(_) => wrong("root", "root must be specified"),
        None => wrong("root", "missing"),
    })?;
    let path = bundle.map_or_else(PathBuf::new, |bundle| bundle.path.clone()).join(&root.path);
    // `a/./b/` and `a/b` are one: hooks and errors see the short form.
    let path: PathBuf = path.components().collect();
    Ok(Rootfs::Directory { path, readonly: root.readonly, in_place: bundle.is_some() })
}

fn program(spec: &oci::Spec, bundle: Option<&Bundle>) -> Result<ProcessPlan, CompileError> {
    match (&spec.process, bundle) {
        (Some(config), Some(bundle)) => Ok(ProcessPlan {
            // Affinity is for those who join later.
            initial_cpus: Vec::new(),
            final_cpus: Vec::new(),
            preserve_fds: bundle.preserve_fds,
            make_cwd: true,
            ..bundle_process(config)?
        }),
        (Some(config), None) => process(config, None),
        (None, Some(_)) => Ok(ProcessPlan::default()),
        (None, None) => Err(wrong("process", "missing")),
    }
}

fn stdio(spec: &oci::Spec, mut stdio: Stdio) -> Stdio {
    let process = spec.process.as_ref();
    stdio.tty = process.is_some_and(|config| config.terminal);
    if let Some(size) = process.and_then(|config| config.console_size).filter(|_| stdio.tty) {
        stdio.size = (size.height, size.width);
    }
    stdio
}

fn propagation(linux: &oci::Linux, bundle: Option<&Bundle>) -> Result<u64, CompileError> {
    const MS_PRIVATE: u64 = 1 << 18;
    let word = linux.rootfs_propagation.as_str();
    if word.is_empty() {
        return Ok(0);
    }
    let at = |reason: String| wrong("linux.rootfsPropagation", reason);
    let bits =
        mount_options::propagation(word).ok_or_else(|| at(format!("rootfsPropagation={word} is not supported")))?;
    if bundle.is_some_and(|bundle| bundle.no_pivot) && bits & MS_PRIVATE != 0 {
        return Err(at("rootfsPropagation of [r]private is not safe without pivot_root".to_owned()));
    }
    Ok(bits)
}

/// What a bundle must keep to and the engine need not.
fn check(spec: &oci::Spec, linux: &oci::Linux, own: u64, bundle: &Bundle) -> Result<(), CompileError> {
    version::check(&spec.oci_version)?;
    let uts = own & namespaces::UTS != 0;
    for (field, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if !value.is_empty() && !uts {
            return Err(wrong(field, format!("unable to set {field} without a private UTS namespace")));
        }
    }
    if spec.annotations.keys().any(String::is_empty) {
        return Err(wrong("annotations", "a key is empty"));
    }
    if let Some(path) = linux.masked_paths.iter().find(|path| !path.starts_with('/')) {
        return Err(wrong("linux.maskedPaths", format!("{path:?} must be absolute")));
    }
    if bundle.path.is_relative() {
        return Err(wrong("bundle", format!("{:?} is not absolute", bundle.path)));
    }
    Ok(())
}
