//! A further process in a container that runs: joins its namespaces, then
//! becomes the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_spec::oci;
use budu_sys::cgroup;
use budu_sys::process::{self, CloneArgs, SingleThreaded};
use budu_sys::scheduling;

use super::attributes::{Labels, raise_limits};
use super::line::Line;
use super::notify::{self, Agent};
use super::program::Program;
use super::terminal::{Terminal, take_terminal, use_streams};
use super::{CLONE_NEWUSER, Failing, Gate, become_inner_root, die_with_parent, failed, program, sibling, state};
use crate::plan::{About, ExecPlan};

/// clone(2), as the bits of setns(2).
const CLONE_NEWPID: i32 = 0x2000_0000;

/// What the parent hands to the copy of itself.
pub(crate) struct ExecStart<'a> {
    /// Proof that it may copy itself once more.
    pub(crate) token: &'a SingleThreaded,
    pub(crate) plan: &'a ExecPlan,
    /// Our end of the reporting socket.
    pub(crate) report: OwnedFd,
    /// The container's first process.
    pub(crate) target: BorrowedFd<'a>,
    /// CLONE_NEW* bits of the namespaces to join. With that of pids among them
    /// this process only goes ahead: the one it makes is the container's.
    pub(crate) namespaces: i32,
    /// Door to the container's cgroup.
    pub(crate) cgroup: Option<&'a cgroup::Entry>,
    /// Whether clone3 put us into the cgroup already.
    pub(crate) born_inside: bool,
    /// Standard input, output, error; none keeps the inherited ones, unless there is a terminal.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    /// End when the parent does.
    pub(crate) die_with_parent: bool,
    /// Keep the caller's session keyring.
    pub(crate) keep_keyring: bool,
    /// The container, for a seccomp agent.
    pub(crate) container: Option<Container<'a>>,
}

/// A running container as seccomp agents are told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) id: &'a str,
    pub(crate) about: &'a About,
    /// Its first process, on the host.
    pub(crate) pid: i32,
}

/// Runs an exec'd process. Never returns.
pub(crate) fn run(start: ExecStart<'_>) -> ! {
    let line = Line::new(&start.report, &Gate::Report);
    if let Err(failure) = become_program(&start, &line) {
        line.tell(failure);
    }
    process::exit_now(1)
}

fn become_program(start: &ExecStart<'_>, line: &Line<'_>) -> Failing<()> {
    let plan = start.plan;
    process::hide();
    if let Some(score) = plan.process.oom_score_adj {
        // By itself: its program must not run, nor fork, with its parent's. Not
        // being allowed to lower it is no reason to refuse.
        let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    shut(start)?;
    let labels = Labels::open(&plan.process)?;
    let mut agent = connect_agent(start)?;
    enter(start)?;
    if !start.keep_keyring {
        labels.make_keyring(&plan.process)?;
    }
    // A label for the next exec is this process's own; a copy inherits it.
    labels.apply()?;
    drop(labels);
    if start.namespaces & CLONE_NEWPID != 0 {
        leave_behind(start, agent.as_ref())?;
        let pid = sibling::bear(start.token, CloneArgs::default(), start.report.as_fd())?;
        if let Some(agent) = &mut agent {
            agent.speak_for(pid)?;
        }
    }
    if start.die_with_parent {
        die_with_parent()?;
    }
    let _ = rustix::process::setsid();
    let mut program = program::find(&plan.process)?;
    let terminal = if plan.tty { Some(Terminal::in_container(plan.size, plan.plain_lines)?) } else { None };
    use_streams(start.stdio, terminal.as_ref())?;
    program.own_streams();
    if plan.tty {
        take_terminal()?;
    }
    let needed = Program::needed(line, agent.as_ref(), terminal.as_ref());
    program.settle(&plan.process, start.die_with_parent, &needed)?;
    program.restrict_and_report(&plan.process, agent, terminal, line)?;
    Err(program.exec())
}

/// Closes at once what this process need not have: without a pid namespace
/// those in the container see it from birth, and some may look into it
/// (CVE-2016-9962).
fn shut(start: &ExecStart<'_>) -> Failing<()> {
    let mut needed = vec![start.report.as_fd(), start.target];
    needed.extend(start.stdio.into_iter().flatten());
    needed.extend(start.cgroup.filter(|_| !start.born_inside).map(cgroup::Entry::descriptors).unwrap_or_default());
    process::close_borrowed_from(3u32.saturating_add(start.plan.process.preserve_fds), &needed)
        .map_err(failed("close descriptors"))
}

/// Closes what was needed to get in: it is the host's.
fn leave_behind(start: &ExecStart<'_>, agent: Option<&Agent>) -> Failing<()> {
    let mut needed = vec![start.report.as_fd()];
    needed.extend(start.stdio.into_iter().flatten());
    needed.extend(agent.map(Agent::socket));
    process::close_borrowed_from(3u32.saturating_add(start.plan.process.preserve_fds), &needed)
        .map_err(failed("close descriptors"))
}

/// Enters the container: its cgroup, then its namespaces.
fn enter(start: &ExecStart<'_>) -> Failing<()> {
    let process = &start.plan.process;
    if !process.initial_cpus.is_empty() {
        scheduling::set_affinity(&process.initial_cpus).map_err(failed("set the initial CPU affinity"))?;
    }
    if let Some(entry) = start.cgroup.filter(|_| !start.born_inside) {
        entry.enter().map_err(|e| failed("enter the cgroup")(e.into()))?;
    }
    if process.initial_cpus.is_empty() {
        // Wherever its parent may run, it may run where its cgroup does.
        let _ = scheduling::reset_affinity();
    }
    let enters_user = start.namespaces as u64 & CLONE_NEWUSER != 0;
    if enters_user {
        // If this process may not, setting the exact values says so.
        let _ = raise_limits(None, &process.rlimits);
    }
    if start.namespaces != 0 {
        process::setns(start.target, start.namespaces).map_err(failed("join the container's namespaces"))?;
    }
    if enters_user || !rustix::process::geteuid().is_root() {
        become_inner_root()?;
        process::hide();
    }
    Ok(())
}

fn connect_agent(start: &ExecStart<'_>) -> Failing<Option<Agent>> {
    let Some(agent) = &start.plan.process.seccomp_agent else { return Ok(None) };
    let nothing = About::default();
    let container = start.container.unwrap_or(Container { id: "", about: &nothing, pid: 0 });
    let state = state(container.id, container.about, oci::Status::Running, container.pid);
    Agent::connect(agent, state, notify::outer_pid()).map(Some)
}
