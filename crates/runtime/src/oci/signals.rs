//! Standing between a caller and a container's process in the foreground:
//! signals go in, the exit status comes out, a terminal is copied.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::process::{self, Ended, SignalSet};
use rustix::event::{PollFd, PollFlags, poll};

use super::console::Foreground;
use super::notify::Relay;
use crate::init::{Failing, failed};

const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// Signals held back so that none is lost while a process is being made.
#[derive(Debug)]
pub(super) struct Held(OwnedFd);

impl Held {
    /// Holds all signals back. Copies of this process must undo it
    /// ([`process::default_signals`] does, before a program is executed).
    pub(super) fn all() -> Failing<Held> {
        SignalSet::all().block();
        SignalSet::all().open().map(Held).map_err(failed("open a signal descriptor"))
    }
}

/// Waits for a child, passing on signals, its readiness and, if there is one,
/// the terminal's bytes. Returns the exit status as a shell would.
pub(super) fn attend(
    pid: i32,
    pidfd: BorrowedFd<'_>,
    held: &Held,
    mut terminal: Option<Foreground>,
    mut relay: Option<Relay>,
) -> Failing<i32> {
    loop {
        let mut fds = vec![
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(held.0.as_fd(), PollFlags::IN),
        ];
        if let Some(terminal) = &terminal {
            fds.extend(terminal.watched());
        }
        fds.extend(relay.as_ref().map(Relay::watched));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed("wait for the container")(e.into())),
        }
        drop(fds);
        if let Some(terminal) = &mut terminal {
            terminal.copy();
        }
        if let Some(ready) = relay.take_if(|relay| relay.is_ready()) {
            // Whoever ends us ends the container: we are the service.
            let _ = ready.tell(std::process::id());
        }
        while let Ok(Some(signal)) = process::read_signal(held.0.as_fd()) {
            match signal {
                SIGCHLD | SIGURG => {}
                SIGWINCH => {
                    if let Some(terminal) = &terminal {
                        terminal.resize();
                    }
                }
                other => drop(process::signal(pidfd, other)),
            }
        }
        if let Some(ended) = reap_all(pid) {
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(ended.code());
        }
    }
}

/// Reaps whatever has ended: as a subreaper this process is also given
/// children that are none of its own. How `main` ended, if it is among them.
fn reap_all(main: i32) -> Option<Ended> {
    let mut found = None;
    while let Ok(Some((pid, ended))) = process::reap_any() {
        if pid.as_raw_nonzero().get() == main {
            found = Some(ended);
        }
    }
    found
}
