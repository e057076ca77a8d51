//! `--init`: pid 1 that runs the program as its child, reaps orphans and
//! passes signals on. It is this very process; no helper binary enters the
//! container.

use std::os::fd::{AsFd, BorrowedFd};

use budu_sys::process::{self, CloneArgs, Side, SignalSet, SingleThreaded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use super::line::Line;
use super::notify::Agent;
use super::program::Program;
use super::terminal::take_terminal;
use super::{Failing, failed};
use crate::plan::ProcessPlan;

const SIGCHLD: i32 = 17;

/// Runs the program as a child and ends with its exit status.
pub(super) fn run(mut program: Program, plan: &ProcessPlan, agent: Option<&Agent>, line: &Line<'_>) -> Failing<()> {
    let _ = rustix::thread::set_name(c"budu-init");
    process::keep_children();
    SignalSet::all().block();
    let signals = SignalSet::all().open().map_err(failed("open a signal descriptor"))?;
    // The copy comes first: the program's system call filter may forbid it.
    let token = SingleThreaded::check().map_err(failed("count threads"))?;
    let pid = match process::clone3(&token, CloneArgs::default()).map_err(failed("fork"))? {
        Side::Parent { pid, .. } => pid,
        Side::Child => {
            let _ = rustix::process::setsid();
            if rustix::termios::isatty(rustix::stdio::stdin()) {
                let _ = take_terminal();
            }
            let needed = Program::needed(line, agent, None);
            let outcome = program.settle(plan, true, &needed).and_then(|()| {
                process::default_signals();
                program.restrict(plan, agent)
            });
            line.tell(outcome.err().unwrap_or_else(|| program.exec()));
            process::exit_now(1)
        }
    };
    let mut needed = Program::needed(line, None, None);
    needed.push(signals.as_fd());
    program.settle(plan, true, &needed)?;
    program.restrict(plan, None)?;
    // The child's exec must be what closes the line, so this copy goes now.
    line.close();
    process::exit_now(watch(pid, signals.as_fd()))
}

fn watch(main: Pid, signals: BorrowedFd<'_>) -> i32 {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        while let Ok(Some(signal)) = process::read_signal(signals) {
            if signal != SIGCHLD {
                let _ = process::signal_child(main, signal);
            }
        }
        while let Ok(Some((pid, ended))) = process::reap_any() {
            if pid == main {
                return ended.code();
            }
        }
    }
}
