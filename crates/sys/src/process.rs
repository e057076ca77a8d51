//! Processes: clone3(2), execve(2), pidfds, signals, descriptors.
//!
//! Copying a process that has several threads leaves the copy with locks that
//! nobody will ever release. Functions that copy therefore want a
//! [`SingleThreaded`] token, which only a process with one thread can mint.

mod descriptors;
mod signals;

use std::ffi::{CStr, CString};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, WaitIdOptions, WaitIdStatus};

pub use descriptors::*;
pub use signals::*;

/// Proof that this process has exactly one thread. It cannot leave the thread
/// that minted it.
#[derive(Debug)]
pub struct SingleThreaded(PhantomData<*const ()>);

impl SingleThreaded {
    /// Counts the threads of this process.
    ///
    /// # Errors
    /// When there are others, or /proc is not there to be asked.
    pub fn check() -> io::Result<SingleThreaded> {
        // The directory has a link for each thread, besides `.` and its own name.
        match rustix::fs::stat("/proc/self/task")?.st_nlink {
            3 => Ok(SingleThreaded(PhantomData)),
            n => Err(io::Error::other(format!(
                "this process has {} threads; only a single-threaded one may be copied",
                n.saturating_sub(2)
            ))),
        }
    }
}

/// How to copy this process.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneArgs<'a> {
    /// CLONE_NEW* bits, clone(2).
    pub namespaces: u64,
    /// Directory of the cgroup (version 2) the copy starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Make a child of this process's parent, CLONE_PARENT.
    pub sibling: bool,
}

/// Which side of the copy this is.
#[derive(Debug)]
pub enum Side {
    /// The caller, with the copy's process id and pidfd.
    Parent {
        /// Process id.
        pid: Pid,
        /// pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
    /// The copy.
    Child,
}

#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Copies this process with clone3(2), like fork(2) with new namespaces.
///
/// # Errors
/// What clone3(2) says: `EPERM` without privilege, `ENOSPC` when namespaces
/// are used up, `EBUSY` when the cgroup forbids processes.
pub fn clone3(_token: &SingleThreaded, args: CloneArgs<'_>) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    let mut raw = RawCloneArgs {
        flags: args.namespaces | CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    if args.sibling {
        // The signal on exit is then the one this process itself ends with.
        raw.flags |= CLONE_PARENT;
        raw.exit_signal = 0;
    }
    // SAFETY: the token proves that there is one thread, so the copy has no
    // lock held by a thread it lacks; no stack is given, so the copy continues
    // on a copy of ours; `raw` and `pidfd` outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const raw, size_of::<RawCloneArgs>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => {
            let pid = Pid::from_raw(pid as i32).expect("clone3 returns a positive id");
            // SAFETY: the kernel has just put a descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent { pid, pidfd })
        }
    }
}

/// A program with its arguments and environment. Everything execve(2) needs
/// is laid out beforehand: executing it allocates nothing and makes no other
/// system call, as a system call filter may forbid.
pub struct Image {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("path", &self.path).field("args", &self.args).finish_non_exhaustive()
    }
}

impl Image {
    /// Lays out a program.
    pub fn new(path: CString, args: Vec<CString>, env: Vec<CString>) -> Image {
        // The strings live on the heap: moving the vectors does not move them.
        let (argv, envp) = (pointers(&args), pointers(&env));
        Image { path, args, env, argv, envp }
    }

    /// The file that is executed.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// The environment, `KEY=value`.
    pub fn env(&self) -> &[CString] {
        &self.env
    }

    /// Replaces this process's program. Returns only when that failed.
    pub fn exec(&self) -> io::Error {
        // SAFETY: both arrays end in a null pointer and point to C strings that `self` owns unchanged.
        unsafe { libc::execve(self.path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Replaces this process's program by the file a descriptor refers to.
pub fn exec_fd(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in a null pointer and point to C strings that
    // outlive the call; the path is an empty C string, which AT_EMPTY_PATH allows.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Ends this process at once: no destructors, no buffers flushed. What a
/// copied process must use instead of returning into its parent's code.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Sends a signal to the process a pidfd refers to; real-time signals included.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no pointer is passed but the null siginfo, which the kernel then fills in itself.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to a process by id. Only for processes that cannot have
/// been reaped: our own children.
pub fn signal_child(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill has no memory preconditions.
    if unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an exit status.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
}

impl Ended {
    /// The shell's convention: the status, or 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exited(status) => status,
            Ended::Signaled(signal) => 128 + signal,
        }
    }

    fn from_status(status: &WaitIdStatus) -> Option<Ended> {
        status.exit_status().map(Ended::Exited).or_else(|| status.terminating_signal().map(Ended::Signaled))
    }
}

/// Reaps a child by pidfd. `None` when it has not ended and `block` is false.
pub fn reap(pidfd: BorrowedFd<'_>, block: bool) -> io::Result<Option<Ended>> {
    let mut options = WaitIdOptions::EXITED;
    if !block {
        options |= WaitIdOptions::NOHANG;
    }
    loop {
        match rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd), options) {
            Ok(Some(status)) => return Ok(Ended::from_status(&status)),
            Ok(None) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reaps any child that has ended; `None` when none has.
///
/// # Errors
/// `ECHILD` when there is no child left.
pub fn reap_any() -> io::Result<Option<(Pid, Ended)>> {
    let mut status = 0;
    // SAFETY: the status is a local integer.
    match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let pid = Pid::from_raw(pid).expect("waitpid returns a positive id");
            let ended = if libc::WIFSIGNALED(status) {
                Ended::Signaled(libc::WTERMSIG(status))
            } else {
                Ended::Exited(libc::WEXITSTATUS(status))
            };
            Ok(Some((pid, ended)))
        }
    }
}

/// Gives this process a session keyring of its own, keyctl(2), so that it
/// does not possess the keys of whoever started it. Kernels without keyrings
/// are left as they are.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize) };
    match result {
        -1 => match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENOSYS)) => Ok(()),
            e => Err(e),
        },
        _ => Ok(()),
    }
}

/// Leaves the namespaces named by CLONE_NEW* bits, unshare(2).
pub fn unshare(_token: &SingleThreaded, namespaces: i32) -> io::Result<()> {
    // SAFETY: with one thread, nobody relies on what is left behind; CLONE_FILES
    // and CLONE_VM are not namespace bits and not passed by our callers.
    if unsafe { libc::unshare(namespaces) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Joins namespaces: of the process a pidfd refers to (several bits), or the
/// one a namespace file refers to (0 or its own bit), setns(2).
pub fn setns(fd: BorrowedFd<'_>, namespaces: i32) -> io::Result<()> {
    // SAFETY: setns has no memory preconditions; it affects this thread alone.
    if unsafe { libc::setns(fd.as_raw_fd(), namespaces) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a resource limit of this process, prlimit(2). `u64::MAX` is unlimited.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the limit outlives the call; the old one is not wanted.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<u8>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the hard limit of a resource to at least `hard`, prlimit(2), of
/// another process or (`None`) this one. The soft limit stays.
pub fn raise_rlimit(pid: Option<Pid>, resource: u32, hard: u64) -> io::Result<()> {
    let pid = pid.map_or(0, |pid| pid.as_raw_nonzero().get());
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let null = std::ptr::null::<libc::rlimit64>();
    // SAFETY: no new limit is given; the old one is written to a structure that outlives the call.
    if unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, null, &raw mut limit) } == -1 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_max >= hard {
        return Ok(());
    }
    limit.rlim_max = hard;
    let unwanted = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the limit outlives the call; the old one is not wanted.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, unwanted) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes this process unreadable to others through /proc until it executes
/// another program, PR_SET_DUMPABLE.
pub fn hide() {
    // SAFETY: prctl with these arguments touches no memory.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Sets this process's NIS domain name in its UTS namespace, setdomainname(2).
pub fn set_domain_name(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe one slice.
    if unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
