//! From plan to process: the container's first one, and exec'd ones.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use budu_sys::cgroup::{Cgroup, Layout};
use budu_sys::process::SingleThreaded;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::connection::{Connection, Role};
use super::process::{FarEnds, NearEnds, Process, pipes};
use super::serve::Shim;
use crate::birth::{self, CLONE_NEWNET, Dowry, Newborn, Visit};
use crate::init::{Failing, Gate, failed};
use crate::log::Log;
use crate::plan::{ExecPlan, Plan};
use crate::protocol::{Failure, SOCKET};

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
    let (near, far) = streams(plan.stdio.tty, plan.stdio.open_stdin)?;
    let dowry = Dowry {
        netns: netns.as_ref().map(|fd| fd.as_fd()),
        layout,
        stdio: far.as_ref().map(FarEnds::borrow),
        gate: Gate::Report,
        die_with_parent: true,
    };
    let (born, cgroup) = birth::first(token, plan, dowry)?;
    drop(far);
    let first = grown(0, born, near, plan.stdio.tty)?;
    // Not being allowed to (no CAP_SYS_RESOURCE) costs protection, not function.
    let _ = std::fs::write("/proc/self/oom_score_adj", SHIM_OOM_SCORE.to_string());
    let network = if netns.is_some() { CLONE_NEWNET } else { 0 };
    let namespaces = birth::namespaces(plan) | network;
    Ok(Parts { listener, run_dir, cgroup, log, first, namespaces })
}

/// Takes a newborn process into the event loop's care.
fn grown(key: u64, born: Newborn, near: NearEnds, tty: bool) -> Failing<Process> {
    rustix::io::ioctl_fionbio(&born.report, true).map_err(|e| failed("set up the socket pair")(e.into()))?;
    Ok(Process::new(key, born.pid, born.pidfd, born.report, near, tty))
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

/// Pipes, unless the process opens itself a terminal.
fn streams(tty: bool, open_stdin: bool) -> Failing<(NearEnds, Option<FarEnds>)> {
    if tty {
        return Ok((NearEnds::default(), None));
    }
    let (near, far) = pipes(open_stdin).map_err(failed("make the standard streams"))?;
    Ok((near, Some(far)))
}

/// Makes an exec'd process in the container of `target`.
pub(super) fn exec(shim: &Shim, key: u64, plan: &ExecPlan) -> Failing<Process> {
    let mut plan = plan.clone();
    // A shim's own score is for shims; the process takes its own before its program runs.
    plan.process.oom_score_adj.get_or_insert(0);
    let (near, far) = streams(plan.tty, plan.stdin)?;
    let target = shim.processes[0].pidfd.as_fd();
    let stdio = far.as_ref().map(FarEnds::borrow);
    let entry = shim.cgroup.as_ref().map(Cgroup::entry).transpose()?;
    let visit = Visit {
        target,
        namespaces: shim.namespaces,
        entry: entry.as_ref(),
        stdio,
        die_with_parent: true,
        keep_keyring: false,
        container: None,
    };
    let born = birth::joining(&shim.token, &plan, visit)?;
    drop(far);
    grown(key, born, near, plan.tty)
}
