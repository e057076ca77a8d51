//! A further process in a container that runs: joins its namespaces, then
//! becomes the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::cgroup;
use budu_sys::process;
use rustix::fs::{Mode, OFlags, fstat, fstatfs, major, minor};

use super::{Failing, Terminal, failed, invalid, pair, program, send_failure, take_terminal, use_streams};
use crate::plan::ExecPlan;
use crate::protocol::{self, Event};

/// DEVPTS_SUPER_MAGIC, statfs(2).
const DEVPTS_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// What the shim hands to the copy of itself.
pub(crate) struct ExecStart<'a> {
    pub(crate) plan: &'a ExecPlan,
    /// Our end of the reporting socket.
    pub(crate) report: OwnedFd,
    /// The container's first process.
    pub(crate) target: BorrowedFd<'a>,
    /// CLONE_NEW* bits of the namespaces to join.
    pub(crate) namespaces: i32,
    /// Door to the container's cgroup.
    pub(crate) cgroup: Option<&'a cgroup::Entry>,
    /// Whether clone3 put us into the cgroup already.
    pub(crate) born_inside: bool,
    /// Standard input, output, error, unless there is a terminal.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// Runs an exec'd process. Never returns.
pub(crate) fn run(start: ExecStart<'_>) -> ! {
    if let Err(failure) = become_program(&start) {
        send_failure(start.report.as_fd(), failure);
    }
    process::exit_now(1)
}

fn become_program(start: &ExecStart<'_>) -> Failing<()> {
    let plan = start.plan;
    process::hide();
    if let Some(entry) = start.cgroup.filter(|_| !start.born_inside) {
        entry.enter().map_err(|e| failed("enter the cgroup")(e.into()))?;
    }
    process::setns(start.target, start.namespaces).map_err(failed("join the container's namespaces"))?;
    let _ = rustix::process::setsid();
    process::new_session_keyring().map_err(failed("make a session keyring"))?;
    let program = program::find(&plan.process)?;
    let terminal = if plan.tty { Some(open_terminal()?) } else { None };
    use_streams(start.stdio, terminal.as_ref())?;
    program.own_streams();
    let created = protocol::encode(&Event::Created { pid: 0 });
    let master: Vec<BorrowedFd<'_>> = terminal.iter().map(|t| t.master.as_fd()).collect();
    budu_sys::socket::send_with_fds(&start.report, &created, &master).map_err(failed("report to the shim"))?;
    drop(terminal);
    if plan.tty {
        take_terminal()?;
    }
    program.drop_privileges(&plan.process)?;
    Err(program.exec())
}

/// Opens a terminal of the container's devpts, which must be one: the
/// container may have put anything at that path.
fn open_terminal() -> Failing<Terminal> {
    let what = failed("open a terminal in /dev/pts");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let devpts = rustix::fs::open("/dev/pts", flags, Mode::empty()).map_err(|e| what(e.into()))?;
    let magic = fstatfs(&devpts).map_err(|e| what(e.into()))?.f_type;
    if magic != DEVPTS_MAGIC {
        return Err(invalid("cannot open a terminal: /dev/pts in the container is no devpts".to_owned()));
    }
    let terminal = pair(devpts.as_fd()).map_err(&what)?;
    let device = fstat(&terminal.master).map_err(|e| what(e.into()))?.st_rdev;
    if (major(device), minor(device)) != (5, 2) {
        return Err(invalid("cannot open a terminal: /dev/pts/ptmx in the container is no terminal".to_owned()));
    }
    Ok(terminal)
}
