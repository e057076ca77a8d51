//! `--init`: pid 1 that runs the program as its child, reaps orphans and
//! passes signals on. It is this very process; no helper binary enters the
//! container.

use std::os::fd::{AsFd, BorrowedFd};

use budu_sys::process::{self, CloneArgs, Side, SignalSet, SingleThreaded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use super::program::Program;
use super::{Failing, failed, send_failure, take_terminal};
use crate::plan::ProcessPlan;

const SIGCHLD: i32 = 17;

/// Runs the program as a child and ends with its exit status.
pub(super) fn run(program: &Program, plan: &ProcessPlan, report: BorrowedFd<'_>) -> Failing<()> {
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
            let failure = match program.drop_privileges(plan) {
                Ok(()) => program.exec(),
                Err(failure) => failure,
            };
            send_failure(report, failure);
            process::exit_now(1)
        }
    };
    program.drop_privileges(plan)?;
    // The child's exec must be what closes the socket, so this copy goes now.
    process::close_borrowed(report);
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
