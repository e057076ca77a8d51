//! From plan to process: the container's first one, and exec'd ones.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use budu_sys::cgroup::{Cgroup, Layout, Version};
use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;

use super::connection::{Connection, Role};
use super::log::Log;
use super::process::{FarEnds, NearEnds, Process, pipes};
use super::serve::Shim;
use crate::cgroup;
use crate::init::{ExecStart, Failing, Gate, InitStart, MAPS_WRITTEN, failed, run, run_exec};
use crate::plan::{ExecPlan, Namespaces, Plan};
use crate::protocol::{Failure, SOCKET};

const CLONE_NEWCGROUP: u64 = 0x0200_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// A shim that fails is less dear to the kernel than any container, but more
/// than most of the host.
const SHIM_OOM_SCORE: i32 = -999;

/// Makes the container up to the point where its first process sets itself up.
pub(super) fn container(
    token: SingleThreaded,
    plan: Plan,
    control: OwnedFd,
    netns: Option<OwnedFd>,
    layout: Option<Layout>,
) -> Result<Shim, (OwnedFd, Failure)> {
    match prepare(&token, &plan, netns, layout.as_ref()) {
        Ok(parts) => {
            let control = Connection::new(control, Role::Control).expect("a connected socket takes FIONBIO");
            Ok(Shim::new(token, plan, parts, control))
        }
        Err(failure) => Err((control, failure)),
    }
}

/// What makes up a running shim.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) listener: OwnedFd,
    pub(super) run_dir: OwnedFd,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) log: Option<Log>,
    pub(super) first: Process,
    /// CLONE_NEW* bits in which the container differs from the shim.
    pub(super) namespaces: u64,
}

fn prepare(token: &SingleThreaded, plan: &Plan, netns: Option<OwnedFd>, layout: Option<&Layout>) -> Failing<Parts> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let run_dir = rustix::fs::open(&plan.run_dir, flags, Mode::empty())
        .map_err(|e| failed(&format!("open the run directory {}", plan.run_dir.display()))(e.into()))?;
    let listener = listen(&run_dir).map_err(failed("listen on the shim's socket"))?;
    let log = match &plan.log {
        Some(log) => Some(Log::open(log).map_err(failed(&format!("open the log file {}", log.path.display())))?),
        None => None,
    };
    let cgroup = cgroup::make(layout, &plan.cgroup)?;
    let first = first_process(token, plan, netns.as_ref(), cgroup.as_ref())?;
    oom_scores(plan, first.pid).map_err(failed("set the OOM score"))?;
    let joined = plan.namespaces.join.iter().fold(0, |bits, (kind, _)| bits | kind);
    let network = if netns.is_some() { CLONE_NEWNET } else { 0 };
    let namespaces = plan.namespaces.new | joined | network;
    Ok(Parts { listener, run_dir, cgroup, log, first, namespaces })
}

fn listen(run_dir: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = budu_sys::socket::address_in(run_dir.as_fd(), SOCKET)?;
    match rustix::net::bind(&socket, &address) {
        // Left by a run that was cut off; the caller sees to it that there is one shim at a time.
        Err(rustix::io::Errno::ADDRINUSE) => {
            rustix::fs::unlinkat(run_dir, SOCKET, rustix::fs::AtFlags::empty())?;
            rustix::net::bind(&socket, &address)?;
        }
        other => other?,
    }
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

fn first_process(
    token: &SingleThreaded,
    plan: &Plan,
    netns: Option<&OwnedFd>,
    cgroup: Option<&Cgroup>,
) -> Failing<Process> {
    let (near, far) = streams(plan.stdio.tty, plan.stdio.open_stdin)?;
    let (ours, theirs) = budu_sys::socket::seqpacket_pair().map_err(failed("make a socket pair"))?;
    let entry = cgroup.map(Cgroup::entry).transpose()?;
    let born_into = entry.as_ref().and_then(|e| e.clone_into());
    let hierarchies = hierarchies(cgroup);
    let mut namespaces = plan.namespaces.new;
    if netns.is_some() {
        namespaces &= !CLONE_NEWNET;
    }
    if entry.is_some() && born_into.is_none() {
        // Its root would be our own cgroup; the process makes it once it is inside its own.
        namespaces &= !CLONE_NEWCGROUP;
    }
    let side = process::clone3(token, CloneArgs { namespaces, cgroup: born_into })
        .map_err(failed("create the container's namespaces"))?;
    let (pid, pidfd) = match side {
        Side::Parent { pid, pidfd } => (pid, pidfd),
        Side::Child => run(InitStart {
            plan,
            report: theirs,
            netns: netns.map(|fd| fd.as_fd()),
            cgroup: entry.as_ref(),
            born_inside: born_into.is_some(),
            hierarchies: &hierarchies,
            stdio: far.as_ref().map(FarEnds::borrow),
            gate: Gate::Report,
            die_with_parent: true,
            unshare_cgroup: false,
        }),
    };
    drop((theirs, far));
    if let Err(error) = write_maps(&plan.namespaces, pid, &ours) {
        let _ = process::signal(pidfd.as_fd(), 9);
        let _ = process::reap(pidfd.as_fd(), true);
        return Err(failed("map the user namespace's ids")(error));
    }
    rustix::io::ioctl_fionbio(&ours, true).map_err(|e| failed("set up the socket pair")(e.into()))?;
    Ok(Process::new(0, pid, pidfd, ours, near, plan.stdio.tty))
}

/// Names of the version 1 hierarchies a cgroup is in, as their mounts are
/// called (`cpu,cpuacct`); none on version 2.
fn hierarchies(cgroup: Option<&Cgroup>) -> Vec<String> {
    let Some(cgroup) = cgroup.filter(|cgroup| cgroup.version() == Version::V1) else { return Vec::new() };
    cgroup.hierarchies().map(|controllers| controllers.names().collect::<Vec<_>>().join(",")).collect()
}

/// Pipes, unless the process opens itself a terminal.
fn streams(tty: bool, open_stdin: bool) -> Failing<(NearEnds, Option<FarEnds>)> {
    if tty {
        return Ok((NearEnds::default(), None));
    }
    let (near, far) = pipes(open_stdin).map_err(failed("make the standard streams"))?;
    Ok((near, Some(far)))
}

/// Writes uid_map and gid_map of a new user namespace, user_namespaces(7).
fn write_maps(namespaces: &Namespaces, pid: Pid, report: &OwnedFd) -> io::Result<()> {
    if namespaces.uid_map.is_empty() && namespaces.gid_map.is_empty() {
        return Ok(());
    }
    let text = |map: &[(u32, u32, u32)]| {
        map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect::<String>()
    };
    let pid = pid.as_raw_nonzero();
    std::fs::write(format!("/proc/{pid}/uid_map"), text(&namespaces.uid_map))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), text(&namespaces.gid_map))?;
    budu_sys::socket::send_with_fds(report, &[MAPS_WRITTEN], &[])
}

/// Sets the container's OOM score, then our own, which copies inherit.
fn oom_scores(plan: &Plan, pid: Pid) -> io::Result<()> {
    if let Some(score) = plan.process.oom_score_adj {
        std::fs::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), score.to_string())?;
    }
    // Not being allowed to (no CAP_SYS_RESOURCE) costs protection, not function.
    let _ = std::fs::write("/proc/self/oom_score_adj", SHIM_OOM_SCORE.to_string());
    Ok(())
}

/// Makes an exec'd process in the container of `target`.
pub(super) fn exec(shim: &Shim, key: u64, plan: &ExecPlan) -> Failing<Process> {
    let (near, far) = streams(plan.tty, plan.stdin)?;
    let (ours, theirs) = budu_sys::socket::seqpacket_pair().map_err(failed("make a socket pair"))?;
    let entry = shim.cgroup.as_ref().map(Cgroup::entry).transpose()?;
    let born_into = entry.as_ref().and_then(|e| e.clone_into());
    let target = &shim.processes[0].pidfd;
    if shim.namespaces & CLONE_NEWPID != 0 {
        // From now on whatever we copy is born in the container's pid namespace.
        process::setns(target.as_fd(), CLONE_NEWPID as i32).map_err(failed("join the pid namespace"))?;
    }
    let side = process::clone3(&shim.token, CloneArgs { namespaces: 0, cgroup: born_into }).map_err(failed("fork"))?;
    let (pid, pidfd) = match side {
        Side::Parent { pid, pidfd } => (pid, pidfd),
        Side::Child => run_exec(ExecStart {
            plan,
            report: theirs,
            target: target.as_fd(),
            namespaces: (shim.namespaces & !CLONE_NEWPID) as i32,
            cgroup: entry.as_ref(),
            born_inside: born_into.is_some(),
            stdio: far.as_ref().map(FarEnds::borrow),
        }),
    };
    drop((theirs, far));
    let score = plan.process.oom_score_adj.unwrap_or(0);
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), score.to_string());
    rustix::io::ioctl_fionbio(&ours, true).map_err(|e| failed("set up the socket pair")(e.into()))?;
    Ok(Process::new(key, pid, pidfd, ours, near, plan.tty))
}
