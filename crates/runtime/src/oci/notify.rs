//! `NOTIFY_SOCKET`: a program in the container tells the service manager that
//! it is ready, sd_notify(3), as runc passes it on.
//!
//! The container gets a socket of its own, in a directory of the container's
//! state that is mounted at `/run/notify`. Of what comes over it only
//! readiness reaches the manager's socket: a container must not speak for the
//! host's service in any other way.

use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use budu_spec::oci;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::container::Container;
use crate::init::{Failing, failed};

/// Where the directory is in the container.
const INSIDE: &str = "/run/notify";
/// Its name in the container's state.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Messages that are read in a row; more than a socket's queue usually holds.
const TURNS: u32 = 64;
/// How long the manager may take to say that it has read everything.
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The service manager's socket, of the environment.
#[derive(Debug)]
pub(super) struct Manager(PathBuf);

impl Manager {
    /// `None` without a manager that waits.
    pub(super) fn of_environment() -> Option<Manager> {
        std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(|path| Manager(path.into()))
    }

    /// Gives a container, to be kept in `state`, what its program needs to find the socket.
    pub(super) fn provide(&self, spec: &mut oci::Spec, state: &Path) {
        spec.mounts.push(oci::Mount {
            destination: INSIDE.into(),
            source: state.join(DIRECTORY).to_string_lossy().into_owned(),
            options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
            ..Default::default()
        });
        if let Some(process) = &mut spec.process {
            process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
        }
    }

    /// Makes the directory that will be mounted.
    pub(super) fn make_directory(container: &Container) -> Failing<()> {
        let what = failed("make the directory of the notification socket");
        rustix::fs::mkdirat(&container.dir, DIRECTORY, Mode::from_raw_mode(0o755)).map_err(|e| what(e.into()))?;
        let directory = open_directory(container)?;
        // Whatever the umask is: the program may be any user.
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755)).map_err(|e| what(e.into()))
    }

    /// Makes the container's socket, before its program runs.
    pub(super) fn listen(self, container: &Container) -> Failing<Relay> {
        let what = failed("make the notification socket");
        let directory = open_directory(container)?;
        // Of a start that came to nothing.
        let _ = rustix::fs::unlinkat(&directory, SOCKET, rustix::fs::AtFlags::empty());
        // However long the state directory's path is.
        let path = format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&directory));
        let socket = UnixDatagram::bind(&path).map_err(&what)?;
        socket.set_nonblocking(true).map_err(&what)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).map_err(&what)?;
        Ok(Relay { socket, manager: self })
    }

    /// Connects to the manager.
    fn connect(&self) -> std::io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        match self.0.as_os_str().as_bytes() {
            [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            _ => socket.connect(&self.0)?,
        }
        Ok(socket)
    }
}

fn open_directory(container: &Container) -> Failing<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&container.dir, DIRECTORY, flags, Mode::empty())
        .map_err(|e| failed("open the directory of the notification socket")(e.into()))
}

/// A container's socket, and whom to tell.
#[derive(Debug)]
pub(super) struct Relay {
    socket: UnixDatagram,
    manager: Manager,
}

impl Relay {
    /// Readable when something was said.
    pub(super) fn watched(&self) -> PollFd<'_> {
        PollFd::new(&self.socket, PollFlags::IN)
    }

    /// Reads what was said; whether it was that the program is ready.
    pub(super) fn is_ready(&self) -> bool {
        hears_readiness(|buffer| self.socket.recv(buffer))
    }

    /// Tells the manager, and that from now on `main` is the service's process.
    pub(super) fn tell(&self, main: u32) -> Failing<UnixDatagram> {
        let what = failed("notify the service manager");
        let manager = self.manager.connect().map_err(&what)?;
        manager.send(b"READY=1\n").map_err(&what)?;
        manager.send(format!("MAINPID={main}\n").as_bytes()).map_err(&what)?;
        Ok(manager)
    }

    /// Waits until a program that is left to itself is ready, or has ended;
    /// then tells, and waits until the manager has read it: it would not know
    /// any more who sent what the dead have said.
    pub(super) fn attend(&self, main: i32, pidfd: impl AsFd) -> Failing<()> {
        loop {
            let mut fds = [self.watched(), PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(failed("wait for the container to be ready")(e.into())),
            }
            let ended = !fds[1].revents().is_empty();
            if self.is_ready() {
                return barrier(&self.tell(main.cast_unsigned())?);
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// Takes messages until one says so, or there are none; not without end, who says other things all the time is not to
/// keep us from what else happens.
fn hears_readiness(mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>) -> bool {
    let mut buffer = [0u8; 4096];
    for _ in 0..TURNS {
        match receive(&mut buffer) {
            Ok(n) if tells_readiness(&buffer[..n]) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Whether a message says so, in a line of its own.
fn tells_readiness(message: &[u8]) -> bool {
    message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
}

/// sd_notify_barrier(3): the manager closes a descriptor once it has read all that came before it.
fn barrier(manager: &UnixDatagram) -> Failing<()> {
    let what = failed("wait for the service manager");
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| what(e.into()))?;
    budu_sys::socket::send_with_fds(manager, b"BARRIER=1", &[theirs.as_fd()]).map_err(&what)?;
    drop(theirs);
    // One that does not know barriers has been waited for long enough then.
    match poll(&mut [PollFd::new(&ours, PollFlags::empty())], Some(&BARRIER)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(what(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_stops_talking_is_interrupted() {
        let says = |text: &'static [u8]| {
            move |buffer: &mut [u8]| {
                buffer[..text.len()].copy_from_slice(text);
                Ok(text.len())
            }
        };
        assert!(!hears_readiness(says(b"STATUS=busy")));
        assert!(hears_readiness(says(b"READY=1")));
        let mut words = [&b"STATUS=up"[..], b"READY=1"].into_iter();
        assert!(hears_readiness(|buffer| words.next().map_or(Ok(0), |text| says(text)(buffer))));
    }

    #[test]
    fn readiness_is_a_line_of_its_own() {
        assert!(tells_readiness(b"READY=1"));
        assert!(tells_readiness(b"STATUS=up\nREADY=1\n"));
        for other in [&b"READY=0"[..], b"READY=11", b"STATUS=READY=1", b"MAINPID=1", b"", b"\n"] {
            assert!(!tells_readiness(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
