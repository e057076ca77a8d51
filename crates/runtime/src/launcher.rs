//! The launcher: a tiny single-threaded process that shims are forked from.
//!
//! The daemon has many threads and must not be copied. The launcher has one,
//! has allocated next to nothing, and is copied for every container: a shim
//! shares its pages. It is our own binary, executed through a read-only
//! detached mount, so that `/proc/self/exe` of whatever it forks can never be
//! opened for writing, whoever gets to it from inside a container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use budu_sys::cgroup::Layout;
use budu_sys::mount::{Detached, attr};
use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use budu_sys::socket;

use crate::shim::{self, Birth};

/// First argument that makes the binary a launcher.
pub const PERSONALITY: &str = "launcher";

/// The daemon's hold on the launcher process. When it is dropped, or the
/// daemon dies, the launcher ends; the shims live on.
#[derive(Debug)]
pub struct Launcher {
    socket: OwnedFd,
    child: Mutex<Child>,
}

impl Launcher {
    /// Starts the launcher process.
    ///
    /// # Errors
    /// When our own binary cannot be opened or executed.
    pub fn spawn() -> io::Result<Launcher> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        let binary = protected_binary()?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&binary));
        // The path is resolved after the fork, before the descriptor closes on exec.
        let child = Command::new(path)
            .arg0("budu-launcher")
            .arg(PERSONALITY)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .spawn()?;
        Ok(Launcher { socket: ours, child: Mutex::new(child) })
    }

    /// Forks a shim and returns its control connection. `netns` is the network
    /// namespace its container joins. Takes a few dozen microseconds.
    ///
    /// # Errors
    /// When the launcher is gone or the host is out of descriptors.
    pub fn new_shim(&self, netns: Option<BorrowedFd<'_>>) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut fds = vec![theirs.as_fd()];
        fds.extend(netns);
        socket::send_with_fds(&self.socket, &[1], &fds)
            .map_err(|e| io::Error::new(e.kind(), format!("the launcher process does not answer: {e}")))?;
        Ok(ours)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        if let Ok(child) = self.child.get_mut() {
            let _ = child.wait();
        }
    }
}

/// Opens our own binary through a read-only mount of its own, or, where the
/// kernel or a lack of privilege forbids that, as it is.
fn protected_binary() -> io::Result<OwnedFd> {
    readonly_binary().or_else(|_| open_binary(Path::new("/proc/self/exe")))
}

/// Our own binary in a read-only mount that is attached nowhere.
///
/// # Errors
/// Where the kernel or a lack of privilege forbids it.
pub(crate) fn readonly_binary() -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let mount = Detached::clone_of(rustix::fs::CWD, &path, false)?;
    mount.set_attributes(attr::RDONLY | attr::NOSUID | attr::NODEV, 0, 0, false)?;
    mount.as_fd().try_clone_to_owned()
}

fn open_binary(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The launcher's main function: forks a shim for every message that arrives
/// on standard input (a socket), until the daemon closes it.
pub fn main() -> i32 {
    // Whatever the daemon's parent left open is not for shims to keep.
    let _ = process::close_inherited_from(3);
    let Ok(stdin) = std::io::stdin().as_fd().try_clone_to_owned() else { return 1 };
    let Ok(null) = std::fs::File::open("/dev/null") else { return 1 };
    if process::replace_standard_stream(null.as_fd(), 0).is_err() {
        return 1;
    }
    drop(null);
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"budu-launcher");
    process::hide();
    process::ignore_children();
    // Shims inherit it: what a busy time needs is not kept for idle ones.
    budu_sys::memory::return_large_blocks();
    // The host's cgroup mounts do not change while a daemon runs.
    let layout = Layout::detect().ok();
    // Looked up here once instead of in every copy.
    let _ = budu_sys::capability::last_cap();
    loop {
        let mut byte = [0u8];
        match socket::receive_with_fds(&stdin, &mut byte) {
            Ok((1, fds)) => fork(fds, layout.as_ref(), &stdin),
            Ok(_) => return 0,
            Err(_) => return 1,
        }
    }
}

/// Copies this process into a shim. A failure closes the control connection,
/// which tells the engine.
fn fork(fds: Vec<OwnedFd>, layout: Option<&Layout>, socket: &OwnedFd) {
    let Ok(token) = SingleThreaded::check() else { return };
    let Ok(Side::Child) = process::clone3(&token, CloneArgs::default()) else { return };
    process::close_borrowed(socket.as_fd());
    // Standard input is /dev/null already; the others may be a terminal or a
    // pipe whose reader waits for the daemon's end, not for this container's.
    for number in 1..=2 {
        let _ = process::replace_standard_stream(std::io::stdin().as_fd(), number);
    }
    let mut fds = fds.into_iter();
    let Some(control) = fds.next() else { process::exit_now(1) };
    shim::run(Birth { token, control, netns: fds.next(), layout: layout.cloned() })
}
