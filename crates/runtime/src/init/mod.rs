//! What runs in the container before its program: one process, one thread,
//! executing a [`Plan`] step by step and then the program.
//!
//! It starts as a copy of the shim in new namespaces. It reports to the shim
//! over a socket that keeps message boundaries: [`Event::Created`] (with the
//! terminal, if there is one) or [`Event::Failed`]; then it waits for one byte
//! and executes. The socket closes on exec, which tells the shim of success.

mod cgroupfs;
mod copy_up;
mod exec;
mod program;
mod reaper;
mod rootfs;
mod user;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::cgroup;
use budu_sys::process;
use rustix::fs::{Mode, OFlags, openat};
use rustix::pty::OpenptFlags;

pub(crate) use exec::{ExecStart, run as run_exec};
pub(crate) use rootfs::lend;

/// Moves network devices into the network namespace of `pid`.
pub(crate) fn move_devices(_pid: rustix::process::Pid, _devices: &[(String, String)]) -> Failing<()> {
    Err(invalid("moving network devices is not there yet".to_owned()))
}

use crate::plan::Plan;
use crate::protocol::{self, Event, Failure, FailureClass};

/// Byte from the shim: user id maps are written.
pub(crate) const MAPS_WRITTEN: u8 = b'M';
/// Byte from the parent, before [`MAPS_WRITTEN`], with descriptors of mounts:
/// two bytes a descriptor follow, the index of its mount (little-endian).
pub(crate) const LENT: u8 = b'L';
/// Byte from the parent: the hooks of the host have run.
pub(crate) const HOOKED: u8 = b'H';
/// Byte from the shim: execute the program.
pub(crate) const START: u8 = b'S';

const CLONE_NEWCGROUP: u64 = 0x0200_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// A step's outcome; the failure is worded for the user.
pub(crate) type Failing<T> = Result<T, Failure>;

/// Words an I/O error: `what: error`.
pub(crate) fn failed(what: &str) -> impl Fn(io::Error) -> Failure + use<> {
    let what = what.to_owned();
    move |error| Failure { class: FailureClass::Internal, message: format!("{what}: {error}") }
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
    /// the news: an [`Event::Failed`], or its closing by exec.
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
    let report = start.report.as_fd();
    if let Err(failure) = become_program(&start) {
        send_failure(report, failure);
    }
    process::exit_now(1)
}

fn send_failure(report: BorrowedFd<'_>, failure: Failure) {
    // If the shim is gone nobody is left to tell.
    let _ = budu_sys::socket::send_with_fds(report, &protocol::encode(&Event::Failed(failure)), &[]);
}

fn become_program(start: &InitStart<'_>) -> Failing<()> {
    let plan = start.plan;
    let report = start.report.as_fd();
    process::hide();
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|e| failed("set the parent death signal")(e.into()))?;
    if plan.namespaces.new & CLONE_NEWUSER != 0 {
        become_inner_root(report)?;
    }
    enter_cgroup(start)?;
    join_namespaces(start)?;
    let _ = rustix::process::setsid();
    process::new_session_keyring().map_err(failed("make a session keyring"))?;
    name_host(plan)?;
    let root = rootfs::build(plan, start.hierarchies, Vec::new())?;
    let terminal = if plan.stdio.tty { Some(open_terminal(&root)?) } else { None };
    root.write_sysctls(&plan.sysctls)?;
    root.protect(plan)?;
    root.enter(plan)?;
    let program = program::find(&plan.process)?;
    use_streams(start.stdio, terminal.as_ref())?;
    program.own_streams();
    let created = protocol::encode(&Event::Created { pid: 0 });
    let master: Vec<BorrowedFd<'_>> = terminal.iter().map(|t| t.master.as_fd()).collect();
    budu_sys::socket::send_with_fds(report, &created, &master).map_err(failed("report to the shim"))?;
    drop(terminal);
    wait_for(report, START)?;
    if plan.init {
        reaper::run(&program, &plan.process, report)
    } else {
        if plan.stdio.tty {
            take_terminal()?;
        }
        program.drop_privileges(&plan.process)?;
        Err(program.exec())
    }
}

/// Waits for one byte; anything else means that the shim is gone.
fn wait_for(report: BorrowedFd<'_>, wanted: u8) -> Failing<()> {
    let mut byte = [0u8];
    match budu_sys::socket::receive_with_fds(report, &mut byte) {
        Ok((1, _)) if byte[0] == wanted => Ok(()),
        _ => process::exit_now(1),
    }
}

/// Takes user and group 0 of the new user namespace, once its maps are written.
fn become_inner_root(report: BorrowedFd<'_>) -> Failing<()> {
    use rustix::fs::{Gid, Uid};
    wait_for(report, MAPS_WRITTEN)?;
    let what = failed("become root of the user namespace");
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(|e| what(e.into()))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(|e| what(e.into()))?;
    rustix::thread::set_thread_groups(&[]).map_err(|e| what(e.into()))
}

/// Enters the cgroup where clone3 could not, then the cgroup namespace, whose
/// root is wherever its first process is at that moment.
fn enter_cgroup(start: &InitStart<'_>) -> Failing<()> {
    let Some(entry) = start.cgroup else { return Ok(()) };
    if start.born_inside {
        return Ok(());
    }
    entry.enter().map_err(|e| failed("enter the cgroup")(e.into()))?;
    if start.plan.namespaces.new & CLONE_NEWCGROUP != 0 {
        let token = process::SingleThreaded::check().map_err(failed("count threads"))?;
        process::unshare(&token, CLONE_NEWCGROUP as i32).map_err(failed("make the cgroup namespace"))?;
    }
    Ok(())
}

fn join_namespaces(start: &InitStart<'_>) -> Failing<()> {
    for (kind, path) in &start.plan.namespaces.join {
        let what = format!("join namespace {}", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(&what)(e.into()))?;
        process::setns(fd.as_fd(), *kind as i32).map_err(failed(&what))?;
    }
    if let Some(netns) = start.netns {
        process::setns(netns, CLONE_NEWNET as i32).map_err(failed("join the network namespace"))?;
    }
    Ok(())
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

/// A pseudo-terminal, pty(7).
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

/// Opens a pseudo-terminal of the container's own devpts.
fn open_terminal(root: &rootfs::NewRoot) -> Failing<Terminal> {
    let devpts =
        root.devpts.as_ref().ok_or_else(|| invalid("a terminal needs devpts mounted on /dev/pts".to_owned()))?;
    let terminal = pair(devpts.as_fd()).map_err(failed("open a terminal"))?;
    root.bind_console(terminal.slave.as_fd())?;
    Ok(terminal)
}

/// Opens a new terminal pair in an open devpts directory.
fn pair(devpts: BorrowedFd<'_>) -> io::Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok(Terminal { master, slave })
}

fn use_streams(pipes: Option<[BorrowedFd<'_>; 3]>, terminal: Option<&Terminal>) -> Failing<()> {
    let streams = match (pipes, terminal) {
        (_, Some(terminal)) => [terminal.slave.as_fd(); 3],
        (Some(pipes), None) => pipes,
        (None, None) => return Ok(()),
    };
    for (number, stream) in (0..).zip(streams) {
        process::replace_standard_stream(stream, number).map_err(failed("set up standard streams"))?;
    }
    Ok(())
}

/// Makes the terminal on standard input the controlling one of this session.
fn take_terminal() -> Failing<()> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(|e| failed("take the terminal")(e.into()))
}
