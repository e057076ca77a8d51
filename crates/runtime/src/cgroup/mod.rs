//! A plan's cgroup in the words of `sys`, made by writing files or by systemd.
//!
//! A container's cgroup is remembered as one text, its *place*: the path
//! below the root of every hierarchy, followed, where the hierarchies of
//! version 1 differ, by one line per exception. [`resolve`] makes it, every
//! other function takes it.

use std::time::Duration;

use budu_sys::cgroup::{self, Cgroup, Controllers, Entry, Layout, Version};

use rustix::process::Pid;

use crate::init::{Failing, failed, invalid};
use crate::plan::{CgroupPlan, Resources};
use crate::protocol::{Failure, FailureClass};

mod measure;
pub(crate) mod metrics;
mod place;
mod rdt;
mod rdt_metrics;
mod systemd;
mod translate;

use metrics::Metrics;
use place::Place;
pub(crate) use rdt::{enter_rdt, leave_rdt, rdt_metrics, update_rdt};
use translate::translate;

/// How long processes that were killed may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

impl From<cgroup::Error> for Failure {
    fn from(error: cgroup::Error) -> Failure {
        let class = match error {
            cgroup::Error::BadPath { .. } | cgroup::Error::BadValue { .. } => FailureClass::Invalid,
            _ => FailureClass::Internal,
        };
        Failure { class, message: error.to_string() }
    }
}

/// What the host mounts, for containers made by the OCI command line: they are
/// in every hierarchy and have every controller, as its callers expect.
/// `None` on a host without.
pub(crate) fn layout() -> Failing<Option<Layout>> {
    match Layout::detect() {
        Ok(layout) => Ok(Some(layout.complete())),
        Err(cgroup::Error::NotMounted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the container's cgroup with its limits; `None` when the plan wants
/// none, or can do without and the caller may not make one.
pub(crate) fn make(layout: Option<&Layout>, plan: &CgroupPlan) -> Failing<Option<Cgroup>> {
    if plan.path.is_empty() || plan.systemd {
        return Ok(None);
    }
    let layout = layout.ok_or(cgroup::Error::NotMounted)?;
    let place = Place::of_files(layout, plan)?;
    let resources = translate(&plan.resources)?;
    let based = place.layout(layout)?;
    let mut wish = cgroup::plan(&based, &place.path, &resources)?;
    (wish.lenient, wish.optional) = (plan.optional, plan.optional);
    let mut outcome = wish.apply();
    if !wish.lenient && layout.complete && outcome.as_ref().is_err_and(cgroup::Error::is_denied) && systemd::is_user() {
        // Who is not root on the host cannot guard devices, nor need to: there are none to be had.
        wish.lenient = true;
        outcome = wish.apply();
    }
    match outcome {
        Ok(group) if plan.optional && group.hierarchies().next().is_none() => Ok(None),
        Ok(group) => {
            if let Some(owner) = plan.owner {
                group.delegate(owner)?;
            }
            Ok(Some(group))
        }
        Err(error) if plan.optional && error.is_denied() => {
            if resources.is_unlimited() {
                return Ok(None);
            }
            let reason = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
            Err(failure(format!("unable to apply cgroup configuration: {reason}: {error}")))
        }
        Err(error) if error.is_denied() => Err(failure(format!("unable to apply cgroup configuration: {error}"))),
        Err(error) => Err(error.into()),
    }
}

/// Asks systemd for a scope around `pid`, which waits meanwhile.
pub(crate) fn make_scope(layout: Option<&Layout>, plan: &CgroupPlan, id: &str, pid: Pid) -> Failing<Option<Cgroup>> {
    let layout = layout.ok_or(cgroup::Error::NotMounted)?;
    systemd::make(layout, plan, id, pid).map(Some)
}

fn failure(message: String) -> Failure {
    Failure { class: FailureClass::Internal, message }
}

/// The place of the container's cgroup, which may not exist yet; empty when
/// the plan wants none.
pub(crate) fn resolve(layout: Option<&Layout>, plan: &CgroupPlan) -> Failing<String> {
    if plan.path.is_empty() {
        return Ok(String::new());
    }
    let layout = layout.ok_or(cgroup::Error::NotMounted)?;
    if plan.systemd {
        return Ok(systemd::resolve(layout, plan, "")?.to_string());
    }
    Ok(Place::of_files(layout, plan)?.to_string())
}

/// The cgroup at a place, in whatever hierarchies it is found.
pub(crate) fn open(layout: &Layout, place: &str) -> Failing<Cgroup> {
    let place: Place = place.parse()?;
    Ok(Cgroup::open(&place.layout(layout)?, &place.path)?)
}

/// Kills what is still inside, waits for its end, stops the unit of systemd and
/// removes the cgroup with those below it. One that is gone already is fine.
pub(crate) fn remove(layout: &Layout, place: &str) -> Failing<()> {
    let place: Place = place.parse()?;
    if let Some(unit) = &place.unit {
        // systemd would ask them politely first, and wait.
        if let Ok(group) = Cgroup::open(layout, &place.path)
            && !group.is_empty()
        {
            group.kill_all()?;
            group.drain(DRAIN_TIMEOUT);
        }
        systemd::stop(unit)?;
    }
    Ok(Cgroup::remove_at(&place.layout(layout)?, &place.path)?)
}

/// Removes a group that a container was to have, unless others are in it: it
/// may be theirs.
pub(crate) fn remove_idle(layout: &Layout, place: &str) -> Failing<()> {
    let place: Place = place.parse()?;
    match Cgroup::open(&place.layout(layout)?, &place.path) {
        Ok(mut group) if group.drain(DRAIN_TIMEOUT) => Ok(group.remove()?),
        _ => Ok(()),
    }
}

/// Changes limits: those that `resources` has. Without device rules they stay
/// as they are.
pub(crate) fn update(layout: &Layout, plan: &CgroupPlan, place: &str, resources: &Resources) -> Failing<()> {
    let place: Place = place.parse()?;
    let based = place.layout(layout)?;
    let mut group = Cgroup::open(&based, &place.path)?;
    let mut resources = translate(resources)?;
    if let Some(unit) = &place.unit {
        // systemd does not look at what is in use.
        group.check_memory(&resources.memory)?;
        resources.memory.check = false;
        systemd::update(layout, unit, &mut resources)?;
    }
    Ok(group.update(&based, &resources, plan.optional || place.unit.as_ref().is_some_and(|unit| unit.user))?)
}

/// What the container has used, for `events`.
pub(crate) fn metrics(layout: &Layout, plan: &CgroupPlan, id: &str, place: &str) -> Failing<Metrics> {
    let mut metrics = measure::measure(&open(layout, place)?);
    metrics.intel_rdt = rdt_metrics(plan.intel_rdt.as_ref(), id);
    Ok(metrics)
}

/// What the files of a group say.
pub(crate) fn measured(group: &Cgroup) -> Metrics {
    measure::measure(group)
}

/// The door for an exec'd process. `below` are the command line's `--cgroup`
/// options: `path`, or `controllers:path` on version 1. On version 2, where a
/// cgroup that hands controllers down takes no process, an exec'd one that
/// named no place goes where the first process, `init`, is.
pub(crate) fn exec_entry(layout: &Layout, place: &str, below: &[String], init: i32) -> Failing<Entry> {
    let group = open(layout, place)?;
    let below = below.iter().map(|option| sub_cgroup(option)).collect::<Failing<Vec<_>>>()?;
    if below.is_empty() && !group.takes_processes() {
        let own = std::fs::read_to_string(format!("/proc/{init}/cgroup"))
            .map_err(failed("find the cgroup of the container's first process"))?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        return Ok(open(layout, path)?.entry()?);
    }
    let explicit = !below.is_empty();
    // The process to be is not there yet; this one stands for it.
    let own = std::process::id();
    if explicit && !group.takes_processes() && below.iter().all(|(_, path)| path.trim_matches('/').is_empty()) {
        let full = group.places().next().map(|(_, path)| path.join("cgroup.procs").display().to_string());
        let full = full.unwrap_or_default();
        return Err(failure(format!("error adding pid {own} to cgroups: write {full}: device or resource busy")));
    }
    group.entry_below(&below).map_err(|error| match error {
        cgroup::Error::Io { path, .. } if explicit => {
            let reason = "no such file or directory";
            failure(format!("error adding pid {own} to cgroups: open {}: {reason}", path.display()))
        }
        cgroup::Error::NoController { controller, .. } => {
            invalid(format!("unknown controller {controller} in SubCgroupPaths"))
        }
        other => other.into(),
    })
}

/// `path` or `controller[,controller]:path`.
fn sub_cgroup(option: &str) -> Failing<(Controllers, String)> {
    let (names, path) = option.split_once(':').unwrap_or(("", option));
    let mut controllers = Controllers::NONE;
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let known = Controllers::from_name(name)
            .ok_or_else(|| invalid(format!("unknown controller {name} in SubCgroupPaths")))?;
        controllers = controllers.union(known);
    }
    if path.split('/').any(|part| part == "..") {
        return Err(invalid(format!("{path} is not a sub cgroup path")));
    }
    Ok((controllers, path.to_owned()))
}

/// Whether the host has cgroups of version 2 alone.
pub(crate) fn is_v2(layout: &Layout) -> bool {
    layout.version == Version::V2
}

#[cfg(test)]
mod kernel_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_cgroups_stay_below() {
        assert_eq!(
            sub_cgroup("cpu,cpuacct:a").unwrap(),
            (Controllers::CPU.union(Controllers::CPUACCT), "a".to_owned())
        );
        assert_eq!(sub_cgroup("/").unwrap(), (Controllers::NONE, "/".to_owned()));
        assert_eq!(sub_cgroup("..").unwrap_err().message, ".. is not a sub cgroup path");
        assert_eq!(sub_cgroup("a/../../b").unwrap_err().message, "a/../../b is not a sub cgroup path");
        assert!(sub_cgroup("whaaat:/").unwrap_err().message.starts_with("unknown controller "));
    }
}
