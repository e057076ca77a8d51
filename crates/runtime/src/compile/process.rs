//! `process`: the program, as whom and with what rights it runs.

use std::collections::HashSet;

use budu_spec::{kernel, oci};
use budu_sys::capability::Capability;

use super::{CompileError, attributes, wrong};
use crate::plan::{Capabilities, ExecPlan, ProcessPlan, UserPlan};

/// Plans a process of its own, for exec. `seccomp` is the container's filter.
///
/// # Errors
/// As [`super::container`].
pub fn process(config: &oci::Process, seccomp: Option<Vec<u8>>) -> Result<ProcessPlan, CompileError> {
    if !config.cwd.is_empty() && !config.cwd.starts_with('/') {
        return Err(wrong("process.cwd", format!("{:?} is not absolute", config.cwd)));
    }
    let user = if config.user.username.is_empty() && config.user.group_names.is_empty() {
        ids(&config.user)
    } else {
        let mut groups: Vec<String> = config.user.additional_gids.iter().map(u32::to_string).collect();
        groups.extend(config.user.group_names.iter().cloned());
        UserPlan::Named { user: config.user.username.clone(), groups }
    };
    let (initial_cpus, final_cpus) = attributes::affinity(config.exec_cpu_affinity.as_ref())?;
    Ok(ProcessPlan {
        args: config.args.clone(),
        env: config.env.clone(),
        cwd: config.cwd.clone(),
        user,
        umask: config.user.umask,
        capabilities: capabilities(config.capabilities.as_ref()),
        rlimits: config.rlimits.iter().enumerate().map(|(n, one)| rlimit(n, one)).collect::<Result<_, _>>()?,
        no_new_privileges: config.no_new_privileges,
        seccomp: seccomp.unwrap_or_default(),
        oom_score_adj: config.oom_score_adj,
        apparmor_profile: config.apparmor_profile.clone(),
        selinux_label: config.selinux_label.clone(),
        scheduler: config.scheduler.as_ref().map(attributes::scheduler).transpose()?,
        io_priority: config.io_priority.as_ref().map(attributes::io_priority).transpose()?,
        initial_cpus,
        final_cpus,
        make_cwd: true,
        ..ProcessPlan::default()
    })
}

/// Plans the process of a `config.json`, or of `exec --process`, to the letter of the specification: nothing is looked
/// up, nothing is guessed. The filter, the container's personality and memory policy are not part of it.
///
/// # Errors
/// As [`super::container`].
pub fn bundle_process(config: &oci::Process) -> Result<ProcessPlan, CompileError> {
    let reason = if config.cwd.is_empty() {
        ("process.cwd", "Cwd property must not be empty")
    } else if !config.cwd.starts_with('/') {
        ("process.cwd", "Cwd must be an absolute path")
    } else if config.args.is_empty() {
        ("process.args", "args must not be empty")
    } else if config.args.iter().chain([&config.cwd]).any(|text| text.contains('\0')) {
        ("process.args", "contains nul byte (\\x00)")
    } else {
        return lettered(config);
    };
    Err(wrong(reason.0, reason.1))
}

fn lettered(config: &oci::Process) -> Result<ProcessPlan, CompileError> {
    for (n, limit) in config.rlimits.iter().enumerate() {
        if config.rlimits[..n].iter().any(|earlier| earlier.kind == limit.kind) {
            return Err(wrong(format!("process.rlimits[{n}]"), format!("{} is given twice", limit.kind)));
        }
        if !limit.kind.starts_with("RLIMIT_") {
            return Err(wrong(format!("process.rlimits[{n}].type"), format!("wrong rlimit value: {}", limit.kind)));
        }
    }
    if let Some(value) = config.oom_score_adj.filter(|value| !(-1000..=1000).contains(value)) {
        return Err(wrong("process.oomScoreAdj", format!("{value} is not in -1000..=1000")));
    }
    let env = environment(&config.env)?;
    let mut plan = process(config, None)?;
    // The kernel would refuse the others, capabilities(7); a warning tells of them.
    plan.capabilities.ambient &= plan.capabilities.permitted & plan.capabilities.inheritable;
    Ok(ProcessPlan { env, user: ids(&config.user), make_cwd: false, ..plan })
}

/// Plans an exec.
///
/// # Errors
/// As [`super::container`].
pub fn exec(
    config: &oci::Process,
    seccomp: Option<Vec<u8>>,
    stdin: bool,
    size: (u16, u16),
) -> Result<ExecPlan, CompileError> {
    Ok(ExecPlan { process: process(config, seccomp)?, tty: config.terminal, stdin, size, plain_lines: false })
}

fn ids(user: &oci::User) -> UserPlan {
    UserPlan::Ids { uid: user.uid, gid: user.gid, groups: user.additional_gids.clone() }
}

/// Of several variables of one name the last counts, as for a shell.
fn environment(config: &[String]) -> Result<Vec<String>, CompileError> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(config.len());
    for (n, variable) in config.iter().enumerate().rev() {
        let at = |reason: &str| wrong(format!("process.env[{n}]"), format!("invalid environment variable: {reason}"));
        let (name, _) = variable.split_once('=').ok_or_else(|| at("missing '='"))?;
        if name.is_empty() {
            return Err(at("name cannot be empty"));
        }
        if variable.contains('\0') {
            return Err(at("contains nul byte (\\x00)"));
        }
        if seen.insert(name) {
            kept.push(variable.clone());
        }
    }
    kept.reverse();
    Ok(kept)
}

fn capabilities(config: Option<&oci::Capabilities>) -> Capabilities {
    let Some(config) = config else { return Capabilities::default() };
    // Unknown names are skipped, as the specification asks since 1.1; see [`super::warnings`].
    let mask = |names: &[String]| {
        names
            .iter()
            .filter_map(|name| Capability::from_name(name))
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

/// Ambient capabilities that are not both permitted and inheritable, capabilities(7).
pub(super) fn unraisable_capabilities(config: &oci::Capabilities) -> Vec<&str> {
    let in_both = |name: &String| config.permitted.contains(name) && config.inheritable.contains(name);
    config.ambient.iter().filter(|name| !in_both(name)).map(String::as_str).collect()
}

/// Names that no kernel known here has, sorted.
pub(super) fn unknown_capabilities(config: &oci::Capabilities) -> Vec<&str> {
    let sets = [&config.bounding, &config.effective, &config.inheritable, &config.permitted, &config.ambient];
    let mut unknown: Vec<&str> = sets.into_iter().flatten().map(String::as_str).collect();
    unknown.retain(|name| Capability::from_name(name).is_none());
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

fn rlimit(n: usize, config: &oci::Rlimit) -> Result<(u32, u64, u64), CompileError> {
    let name = config.kind.strip_prefix("RLIMIT_").unwrap_or(&config.kind);
    let number = kernel::rlimit(name)
        .ok_or_else(|| wrong(format!("process.rlimits[{n}].type"), format!("wrong rlimit value: {}", config.kind)))?;
    if config.soft > config.hard {
        return Err(wrong(format!("process.rlimits[{n}]"), format!("{name}: soft limit is above the hard one")));
    }
    Ok((number, config.soft, config.hard))
}
