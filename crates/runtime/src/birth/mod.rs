//! Birth of a container's processes: the first one, and those that join it.
//!
//! The parent keeps the host's privileges. It copies itself into new
//! namespaces and does for the copy what that cannot do itself any more: it
//! writes id maps, lends mounts, moves network devices, asks systemd for a
//! scope. Where namespaces can only be entered by being born into them, a
//! short-lived process in between ([`stage`]) enters them first.

mod maps;
mod stage;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::cgroup::{Cgroup, Entry, Layout, Version};
use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use rustix::process::Pid;

use crate::cgroup;
use crate::init::{self, ExecStart, Failing, Gate, InitStart, LENT, MAPS_WRITTEN, failed};
use crate::plan::{ExecPlan, Plan};

pub(crate) const CLONE_NEWTIME: u64 = 0x80;
pub(crate) const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const CLONE_NEWNS: u64 = 0x0002_0000;
pub(crate) const CLONE_NEWPID: u64 = 0x2000_0000;
pub(crate) const CLONE_NEWNET: u64 = 0x4000_0000;

/// Descriptors sent with one message; the kernel allows 253.
const LENT_AT_ONCE: usize = 60;

/// A process that has been born and sets itself up.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// Our end of the reporting socket.
    pub(crate) report: OwnedFd,
}

impl Newborn {
    /// Ends it at once and reaps it.
    pub(crate) fn abort(&self) {
        let _ = process::signal(self.pidfd.as_fd(), 9);
        let _ = process::reap(self.pidfd.as_fd(), true);
    }
}

/// What a first process is born with, besides its plan.
#[derive(Debug)]
pub(crate) struct Dowry<'a> {
    /// Network namespace to join.
    pub(crate) netns: Option<BorrowedFd<'a>>,
    /// Cgroup file systems of the host.
    pub(crate) layout: Option<&'a Layout>,
    /// Standard streams; none inherits ours.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    pub(crate) gate: Gate,
    pub(crate) die_with_parent: bool,
}

/// CLONE_NEW* bits in which a container differs from its parent.
pub(crate) fn namespaces(plan: &Plan) -> u64 {
    plan.namespaces.join.iter().fold(plan.namespaces.new, |bits, (kind, _)| bits | kind)
}

/// Makes the container's cgroup and first process. On failure nothing is left.
pub(crate) fn first(token: &SingleThreaded, plan: &Plan, dowry: Dowry<'_>) -> Failing<(Newborn, Option<Cgroup>)> {
    let layout = dowry.layout;
    let mut group = if plan.cgroup.systemd { None } else { cgroup::make(layout, &plan.cgroup)? };
    let born = clone_first(token, plan, dowry, group.as_ref())?;
    match provide(plan, layout, &born) {
        Ok(scope) => Ok((born, scope.or_else(|| group.take()))),
        Err(failure) => {
            born.abort();
            Err(failure)
        }
    }
}

fn clone_first(token: &SingleThreaded, plan: &Plan, dowry: Dowry<'_>, group: Option<&Cgroup>) -> Failing<Newborn> {
    let (ours, theirs) = budu_sys::socket::seqpacket_pair().map_err(failed("make a socket pair"))?;
    let entry = group.map(Cgroup::entry).transpose()?;
    let born_into = entry.as_ref().and_then(Entry::clone_into);
    let hierarchies = hierarchies(group);
    let mut namespaces = plan.namespaces.new;
    if dowry.netns.is_some() {
        namespaces &= !CLONE_NEWNET;
    }
    // Made at birth its root would be our own cgroup, not the container's.
    let late = namespaces & CLONE_NEWCGROUP != 0 && born_into.is_none() && (entry.is_some() || plan.cgroup.systemd);
    if late {
        namespaces &= !CLONE_NEWCGROUP;
    }
    let args = CloneArgs { namespaces, cgroup: entry.as_ref().and_then(Entry::birthplace), ..CloneArgs::default() };
    let bear = |args| {
        if stage::is_needed(plan) {
            stage::clone(token, plan, args, theirs.as_fd(), ours.as_fd())
        } else {
            process::clone3(token, args).map_err(failed("create the container's namespaces"))
        }
    };
    let side = match bear(args) {
        // Beside version 1 the unified tree limits nothing: it is not worth a failure.
        Err(_) if args.cgroup.is_some() && born_into.is_none() => bear(CloneArgs { cgroup: None, ..args }),
        other => other,
    }?;
    match side {
        Side::Parent { pid, pidfd } => Ok(Newborn { pid, pidfd, report: ours }),
        Side::Child => init::run(InitStart {
            plan,
            report: theirs,
            netns: dowry.netns,
            cgroup: entry.as_ref(),
            born_inside: born_into.is_some(),
            hierarchies: &hierarchies,
            group: place(group),
            stdio: dowry.stdio,
            gate: dowry.gate,
            die_with_parent: dowry.die_with_parent,
            unshare_cgroup: late,
        }),
    }
}

/// Gives a new first process what only its parent can.
fn provide(plan: &Plan, layout: Option<&Layout>, born: &Newborn) -> Failing<Option<Cgroup>> {
    if let Some(score) = plan.process.oom_score_adj {
        std::fs::write(format!("/proc/{}/oom_score_adj", born.pid.as_raw_nonzero()), score.to_string())
            .map_err(failed("set the OOM score"))?;
    }
    if namespaces(plan) & CLONE_NEWUSER != 0 {
        // If we may not either, setting the exact values says so.
        let _ = init::raise_limits(Some(born.pid), &plan.process.rlimits);
    }
    if !plan.needs_parent() {
        return Ok(None);
    }
    if plan.namespaces.new & CLONE_NEWUSER != 0 && !stage::is_needed(plan) {
        maps::write(&plan.namespaces, born.pid).map_err(failed("map the user namespace's ids"))?;
    }
    let mut scope = None;
    if plan.cgroup.systemd {
        scope = cgroup::make_scope(layout, &plan.cgroup, &plan.id, born.pid)?;
    }
    if !plan.net_devices.is_empty() {
        init::move_devices(born.pid, plan)?;
    }
    let userns = if namespaces(plan) & CLONE_NEWUSER != 0 {
        let path = format!("/proc/{}/ns/user", born.pid.as_raw_nonzero());
        Some(std::fs::File::open(path).map_err(failed("open the user namespace"))?)
    } else {
        None
    };
    let lent = init::lend(plan, userns.as_ref().map(AsFd::as_fd))?;
    let what = failed("lend mounts to the container's first process");
    for some in lent.chunks(LENT_AT_ONCE) {
        let mut message = vec![LENT];
        message.extend(some.iter().flat_map(|(at, _)| at.to_le_bytes()));
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(|(_, fd)| fd.as_fd()).collect();
        budu_sys::socket::send_with_fds(&born.report, &message, &fds).map_err(&what)?;
    }
    budu_sys::socket::send_with_fds(&born.report, &[MAPS_WRITTEN], &[]).map_err(&what)?;
    Ok(scope)
}

/// Names of the version 1 hierarchies a cgroup is in, as their mounts are
/// called (`cpu,cpuacct`); none on version 2.
fn hierarchies(group: Option<&Cgroup>) -> Vec<String> {
    let Some(group) = group.filter(|group| group.version() == Version::V1) else { return Vec::new() };
    group.hierarchies().map(|controllers| controllers.names().collect::<Vec<_>>().join(",")).collect()
}

/// Where the host shows a cgroup of version 2.
fn place(group: Option<&Cgroup>) -> Option<std::path::PathBuf> {
    group.filter(|group| group.version() == Version::V2)?.places().next().map(|(_, path)| path)
}

/// Where and how a further process joins a container.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    /// The container's first process.
    pub(crate) target: BorrowedFd<'a>,
    /// CLONE_NEW* bits in which the container differs from us.
    pub(crate) namespaces: u64,
    /// Door to its cgroup.
    pub(crate) entry: Option<&'a Entry>,
    /// Standard streams; none inherits ours.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    pub(crate) die_with_parent: bool,
    pub(crate) keep_keyring: bool,
    /// The container, for a seccomp agent.
    pub(crate) container: Option<init::Container<'a>>,
}

/// Makes a further process in a container.
pub(crate) fn joining(token: &SingleThreaded, plan: &ExecPlan, visit: Visit<'_>) -> Failing<Newborn> {
    let (ours, theirs) = budu_sys::socket::seqpacket_pair().map_err(failed("make a socket pair"))?;
    let mut birthplace = visit.entry.and_then(Entry::birthplace);
    if !plan.process.initial_cpus.is_empty() {
        // It is to choose its processors before the group's.
        birthplace = None;
    }
    let Visit { target, namespaces, .. } = visit;
    let args = CloneArgs { cgroup: birthplace, ..CloneArgs::default() };
    let side = match process::clone3(token, args) {
        // A group that is delegated, or busy as an inner node, may still be entered by name.
        Err(_) if birthplace.is_some() => {
            birthplace = None;
            process::clone3(token, CloneArgs::default())
        }
        other => other,
    };
    match side.map_err(failed("fork"))? {
        Side::Parent { pidfd: ahead, .. } if namespaces & CLONE_NEWPID != 0 => {
            drop(theirs);
            let adopted = init::adopt(ours.as_fd());
            if adopted.is_err() {
                let _ = process::signal(ahead.as_fd(), 9);
            }
            // It ends by itself, once its sibling knows what it waits for.
            let _ = process::reap(ahead.as_fd(), true);
            let (pid, pidfd) = adopted?;
            Ok(Newborn { pid, pidfd, report: ours })
        }
        Side::Parent { pid, pidfd } => Ok(Newborn { pid, pidfd, report: ours }),
        Side::Child => init::run_exec(ExecStart {
            token,
            plan,
            report: theirs,
            target,
            namespaces: namespaces as i32,
            cgroup: visit.entry,
            born_inside: birthplace.is_some() && visit.entry.is_some_and(|entry| entry.clone_into().is_some()),
            stdio: visit.stdio,
            die_with_parent: visit.die_with_parent,
            keep_keyring: visit.keep_keyring,
            container: visit.container,
        }),
    }
}
