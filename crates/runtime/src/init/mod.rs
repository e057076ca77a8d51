//! What runs in the container before its program: one process, one thread,
//! executing a [`Plan`] step by step and then the program.
//!
//! It starts as a copy of its parent, a shim or `budu oci create`, in new
//! namespaces. It reports over a socket that keeps message boundaries (see
//! [`line`]): first it takes what only the parent can give, then it has the
//! hooks of the host run, then it says [`Event::Created`](crate::protocol::Event::Created) (with the terminal,
//! if there is one) or
//! `Failed`. By then it has the rights of its
//! program and no others, and the system call filter. It waits at a [`Gate`]
//! for one byte and executes.

mod attributes;
mod cgroupfs;
mod copy_up;
mod environment;
mod exec;
mod hooks;
mod line;
mod notify;
mod program;
mod reaper;
mod rootfs;
mod sibling;
mod terminal;
mod user;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use budu_spec::oci;
use budu_sys::cgroup;
use budu_sys::netlink::Route;
use budu_sys::process;
use budu_sys::scheduling;
use rustix::fs::{Mode, OFlags};

pub(crate) use attributes::raise_limits;
pub(crate) use cgroupfs::parsed as cgroup_mounts;
pub(crate) use exec::{Container, ExecStart, run as run_exec};
pub(crate) use hooks::{Stage, run_hooks, state};
pub(crate) use rootfs::{bare_kernel_mounts, lend, unescape};
pub(crate) use sibling::{adopt, bear};
pub(crate) use terminal::leave_lines;

use self::attributes::Labels;
use self::line::Line;
use self::notify::Agent;
use self::program::Program;
use self::terminal::{Terminal, take_terminal, use_streams};
use crate::plan::{Plan, Rootfs};
use crate::protocol::{Failure, FailureClass};

/// Moves the plan's network devices from this process's network namespace into
/// the container's, which is that of `pid` or one that it will join.
///
/// # Errors
/// When a device is missing, or the kernel refuses a step.
pub(crate) fn move_devices(pid: rustix::process::Pid, plan: &Plan) -> Failing<()> {
    let joined = plan.namespaces.join.iter().find(|(kind, _)| *kind == CLONE_NEWNET).map(|(_, path)| path.clone());
    let path = joined.unwrap_or_else(|| format!("/proc/{}/ns/net", pid.as_raw_nonzero()).into());
    let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed(&format!("open network namespace {}", path.display()))(e.into()))?;
    let mut route = Route::open().map_err(failed("open a netlink socket"))?;
    for (name, new_name) in &plan.net_devices {
        let new_name = if new_name.is_empty() { name } else { new_name };
        route
            .move_link(name, new_name, netns.as_fd())
            .map_err(|e| invalid(format!("move network device {name}: {e}")))?;
    }
    Ok(())
}

/// Byte from the parent: id maps are written, and everything else is done that
/// only the parent can do.
pub(crate) const MAPS_WRITTEN: u8 = b'M';
/// Byte from the parent, before [`MAPS_WRITTEN`], with descriptors of mounts:
/// two bytes a descriptor follow, the index of its mount (little-endian).
pub(crate) const LENT: u8 = b'L';
/// Byte from the parent: the hooks of the host have run.
pub(crate) const HOOKED: u8 = b'H';
/// Byte from the parent: its state says which process this is, so that it may
/// be left to wait.
pub(crate) const NOTED: u8 = b'N';
/// Byte from the parent or at the gate: execute the program.
pub(crate) const START: u8 = b'S';

const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWCGROUP: u64 = 0x0200_0000;
const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;

/// A step's outcome; the failure is worded for the user.
pub(crate) type Failing<T> = Result<T, Failure>;

/// Words an I/O error: `what: error`.
pub(crate) fn failed(what: &str) -> impl Fn(io::Error) -> Failure + use<> {
    let what = what.to_owned();
    move |error| Failure { class: FailureClass::Internal, message: format!("{what}: {}", words(&error)) }
}

/// An error of the kernel as other runtimes print it, for scripts that look
/// for the words: `no such file or directory`.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let Some((bare, _)) = text.split_once(" (os error").filter(|_| error.raw_os_error().is_some()) else { return text };
    let mut letters = bare.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A failure that the request itself is to blame for.
pub(crate) fn invalid(message: String) -> Failure {
    Failure { class: FailureClass::Invalid, message }
}

impl Failure {
    /// Says what was being done when it failed.
    pub(crate) fn about(self, what: &str) -> Failure {
        Failure { message: format!("{what}: {}", self.message), ..self }
    }
}

/// What the shim hands to the copy of itself.
pub(crate) struct InitStart<'a> {
    pub(crate) plan: &'a Plan,
    /// Our end of the reporting socket.
    pub(crate) report: OwnedFd,
    /// Network namespace to join.
    pub(crate) netns: Option<BorrowedFd<'a>>,
    /// Door to the cgroup, if the container has one of its own.
    pub(crate) cgroup: Option<&'a cgroup::Entry>,
    /// Whether clone3 put us into the cgroup already.
    pub(crate) born_inside: bool,
    /// Names of the cgroup version 1 hierarchies it is in; none on version 2.
    pub(crate) hierarchies: &'a [String],
    /// Where the host shows its cgroup of version 2; `None` for one that systemd made.
    pub(crate) group: Option<PathBuf>,
    /// Standard input, output, error; none keeps the inherited ones, unless there is a terminal.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    /// Who lets the program run, and how.
    pub(crate) gate: Gate,
    /// End when the parent does (a shim outlives its container; `create` does not).
    pub(crate) die_with_parent: bool,
    /// The cgroup namespace was not made at birth: make it once inside the group.
    pub(crate) unshare_cgroup: bool,
}

/// What the first process waits at before it executes the program.
#[derive(Debug)]
pub(crate) enum Gate {
    /// [`START`] on the reporting socket.
    Report,
    /// [`START`] from a FIFO that any later process can find, and a FIFO for
    /// the news: an `Event::Failed`, or its closing by exec.
    Fifo {
        /// Opened for reading and writing, so that it never ends.
        go: OwnedFd,
        /// Opened for writing.
        news: OwnedFd,
    },
}

/// Runs the container's first process. Never returns: it becomes the program,
/// or ends with a report.
pub(crate) fn run(start: InitStart<'_>) -> ! {
    let mut line = Line::new(&start.report, &start.gate);
    if let Err(failure) = become_program(&start, &mut line) {
        line.tell(failure);
    }
    process::exit_now(1)
}

fn become_program(start: &InitStart<'_>, line: &mut Line<'_>) -> Failing<()> {
    let plan = start.plan;
    if plan.namespaces.new & CLONE_NEWUSER == 0 {
        process::hide();
    }
    if start.die_with_parent {
        die_with_parent()?;
    }
    let lent = if plan.needs_parent() { line.take_help()? } else { Vec::new() };
    // Not earlier in a new user namespace: the files of its maps would then be
    // root's, and a parent who is not root could not write them.
    process::hide();
    let group = start.group.clone().or_else(|| scope(plan));
    let (labels, agent) = enter_namespaces(start)?;
    let (root, terminal) = build_root(plan, (start.hierarchies, group), lent, line)?;
    root.write_sysctls(&plan.sysctls)?;
    root.protect(plan)?;
    root.enter(plan)?;
    labels.apply()?;
    let mut program = program::find(&plan.process)?;
    use_streams(start.stdio, terminal.as_ref())?;
    program.own_streams();
    if plan.init {
        program.look_up()?;
        line.report_created(terminal.as_ref().map(|t| t.master.as_fd()))?;
        drop(terminal);
        line.pass_gate();
        run_start_hooks(plan, &program)?;
        return reaper::run(program, &plan.process, agent.as_ref(), line);
    }
    if terminal.is_some() {
        take_terminal()?;
    }
    drop(labels);
    let needed = Program::needed(line, agent.as_ref(), terminal.as_ref());
    program.settle(&plan.process, start.die_with_parent, &needed)?;
    program.restrict_and_report(&plan.process, agent, terminal, line)?;
    line.pass_gate();
    run_start_hooks(plan, &program)?;
    Err(program.exec())
}

/// Takes its place: ids, cgroup, namespaces, session. Returns what had to be
/// opened on the host for later.
fn enter_namespaces<'a>(start: &InitStart<'a>) -> Failing<(Labels<'a>, Option<Agent>)> {
    let plan = start.plan;
    let enters_user = plan.namespaces.join.iter().fold(plan.namespaces.new, |bits, (kind, _)| bits | kind);
    if enters_user & CLONE_NEWUSER != 0 {
        become_inner_root()?;
        // The change of user undid both.
        process::hide();
        if start.die_with_parent {
            die_with_parent()?;
        }
    }
    enter_cgroup(start)?;
    // Wherever its parent may run, it may run where its cgroup does.
    let _ = scheduling::reset_affinity();
    let labels = Labels::open(&plan.process)?;
    let agent = match &plan.process.seccomp_agent {
        Some(agent) => {
            let pid = notify::outer_pid();
            Some(Agent::connect(agent, state(&plan.id, &plan.about, oci::Status::Creating, pid), pid)?)
        }
        None => None,
    };
    join_namespaces(start)?;
    let _ = rustix::process::setsid();
    if !plan.keep_keyring {
        labels.make_keyring(&plan.process)?;
    }
    name_host(plan)?;
    Ok((labels, agent))
}

/// Builds the tree and has it seen by the hooks of the host, then by those
/// that run in the container's namespaces.
fn build_root(
    plan: &Plan,
    (hierarchies, group): (&[String], Option<PathBuf>),
    lent: Vec<(u16, OwnedFd)>,
    line: &Line<'_>,
) -> Failing<(rootfs::NewRoot, Option<Terminal>)> {
    let root = rootfs::build(plan, hierarchies, group, lent)?;
    if plan.process.make_cwd {
        root.make_directory(&plan.process.cwd);
    }
    if plan.hooks.at_creation() {
        line.have_hooks_run()?;
        let state = own_state(plan, oci::Status::Creating);
        let cwd = match &plan.rootfs {
            Rootfs::Directory { path, .. } => path,
            Rootfs::Overlay { .. } => &plan.about.bundle,
        };
        let stage = Stage { point: "createContainer", state: &state, cwd, env: &[] };
        run_hooks(&plan.hooks.create_container, &stage)?;
    }
    let terminal = if plan.stdio.tty { Some(Terminal::in_root(&root, plan.stdio.size)?) } else { None };
    Ok((root, terminal))
}

fn run_start_hooks(plan: &Plan, program: &Program) -> Failing<()> {
    if plan.hooks.start_container.is_empty() {
        return Ok(());
    }
    let state = own_state(plan, oci::Status::Created);
    let stage = Stage { point: "startContainer", state: &state, cwd: Path::new("/"), env: program.env() };
    run_hooks(&plan.hooks.start_container, &stage)
}

/// The state as those see it who live in the container.
fn own_state(plan: &Plan, status: oci::Status) -> oci::State {
    state(&plan.id, &plan.about, status, std::process::id().cast_signed())
}

/// Has this process killed when its parent ends.
fn die_with_parent() -> Failing<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|e| failed("set the parent death signal")(e.into()))
}

/// Takes user and group 0 of the user namespace this process is in.
pub(crate) fn become_inner_root() -> Failing<()> {
    use rustix::fs::{Gid, Uid};
    let what = failed("become root of the user namespace");
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(|e| what(e.into()))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(|e| what(e.into()))?;
    match rustix::thread::set_thread_groups(&[]) {
        // Maps written without privilege come with the loss of setgroups(2).
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => other.map_err(|e| what(e.into())),
    }
}

/// Where the host shows the scope that systemd has put this process into, as
/// long as it is in the host's cgroup namespace.
fn scope(plan: &Plan) -> Option<PathBuf> {
    if !plan.cgroup.systemd {
        return None;
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).filter(|path| !path.is_empty())?;
    Some(Path::new("/sys/fs/cgroup").join(path))
}

/// Enters the cgroup where clone3 could not, then the cgroup namespace, whose
/// root is wherever its first process is at that moment.
fn enter_cgroup(start: &InitStart<'_>) -> Failing<()> {
    if let Some(entry) = start.cgroup.filter(|_| !start.born_inside) {
        entry.enter().map_err(|e| failed("enter the cgroup")(e.into()))?;
    }
    if start.unshare_cgroup {
        let token = process::SingleThreaded::check().map_err(failed("count threads"))?;
        process::unshare(&token, CLONE_NEWCGROUP as i32).map_err(failed("make the cgroup namespace"))?;
    }
    Ok(())
}

/// Joins what need not be joined before birth. All paths are opened first: the
/// mount namespace, joined last, has others.
fn join_namespaces(start: &InitStart<'_>) -> Failing<()> {
    const AT_BIRTH: u64 = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWTIME;
    let mut joined = Vec::new();
    for (kind, path) in start.plan.namespaces.join.iter().filter(|(kind, _)| kind & AT_BIRTH == 0) {
        let what = format!("join namespace {}", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(&what)(e.into()))?;
        joined.push((*kind, fd, what));
    }
    joined.sort_by_key(|(kind, ..)| *kind == CLONE_NEWNS);
    for (kind, fd, what) in &joined {
        join(fd.as_fd(), *kind).map_err(failed(what))?;
    }
    if let Some(netns) = start.netns {
        join(netns, CLONE_NEWNET).map_err(failed("join the network namespace"))?;
    }
    Ok(())
}

/// Joins one namespace, unless this process is in it already: it may have been
/// born there because it lacks the right to enter now.
fn join(namespace: BorrowedFd<'_>, kind: u64) -> io::Result<()> {
    let Err(error) = process::setns(namespace, kind as i32) else { return Ok(()) };
    let name = match kind {
        CLONE_NEWNET => "net",
        CLONE_NEWIPC => "ipc",
        CLONE_NEWUTS => "uts",
        CLONE_NEWCGROUP => "cgroup",
        CLONE_NEWNS => "mnt",
        _ => return Err(error),
    };
    let own = rustix::fs::stat(format!("/proc/self/ns/{name}"))?;
    let other = rustix::fs::fstat(namespace)?;
    if (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino) { Ok(()) } else { Err(error) }
}

fn name_host(plan: &Plan) -> Failing<()> {
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes()).map_err(|e| failed("set the host name")(e.into()))?;
    }
    if !plan.domainname.is_empty() {
        process::set_domain_name(plan.domainname.as_bytes()).map_err(failed("set the domain name"))?;
    }
    Ok(())
}
