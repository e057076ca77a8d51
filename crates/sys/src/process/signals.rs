//! Signals of this process, signal(7).

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

/// Makes the signals that end a program by default end this process at once,
/// even as the first one of a pid namespace, which the kernel would protect
/// from them. A program it executes does not inherit that.
pub fn end_on_signals() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: `_exit` is async-signal-safe, signal-safety(7).
        unsafe { libc::_exit(128 + signal) }
    }
    let handler = end as extern "C" fn(libc::c_int);
    for signal in
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGTERM]
    {
        // SAFETY: the handler calls nothing but `_exit`.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// A set of signals, signal(7).
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalSet")
    }
}

impl SignalSet {
    /// Every signal.
    pub fn all() -> SignalSet {
        // SAFETY: sigfillset initialises the whole set.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&mut set);
            SignalSet(set)
        }
    }

    /// These signals; numbers the system does not know are left out.
    pub fn of(signals: &[i32]) -> SignalSet {
        // SAFETY: sigemptyset initialises the whole set; sigaddset checks its number.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for &signal in signals {
                libc::sigaddset(&mut set, signal);
            }
            SignalSet(set)
        }
    }

    /// Blocks these and no others for this thread.
    pub fn block(&self) {
        // SAFETY: the set is initialised; the old mask is not wanted.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }

    /// Opens a signalfd(2) for these signals; they should be blocked.
    pub fn open(&self) -> io::Result<OwnedFd> {
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Reads one signal number from a signalfd; `None` when there is none.
pub fn read_signal(signalfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = [0u8; 128];
    match rustix::io::read(signalfd, &mut info) {
        Ok(128) => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Ok(_) => Ok(None),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Unblocks all signals and gives the ones that our own processes ignore or
/// handle (SIGPIPE, SIGCHLD) their default action, as a program expects.
pub fn default_signals() {
    set_action(libc::SIGPIPE, libc::SIG_DFL);
    set_action(libc::SIGCHLD, libc::SIG_DFL);
    SignalSet::of(&[]).block();
}

/// Lets the kernel reap this process's children by itself.
pub fn ignore_children() {
    set_action(libc::SIGCHLD, libc::SIG_IGN);
}

/// Gives SIGCHLD its default action, so that children wait to be reaped.
pub fn keep_children() {
    set_action(libc::SIGCHLD, libc::SIG_DFL);
}

fn set_action(signal: i32, action: libc::sighandler_t) {
    // SAFETY: SIG_DFL and SIG_IGN run no code of ours in signal context.
    unsafe { libc::signal(signal, action) };
}
