//! Terminals: handed to a caller over `--console-socket`, or copied to our own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios};

use crate::init::{Failing, failed, invalid, leave_lines};

/// Checks `terminal` and `--console-socket` against each other, as runc does.
pub(super) fn check(terminal: bool, detached: bool, socket: Option<&Path>) -> Failing<()> {
    match (terminal, detached, socket) {
        (true, true, None) => {
            Err(invalid("cannot allocate tty if runc will detach without setting console socket".into()))
        }
        (false, _, Some(_)) | (true, false, Some(_)) => {
            Err(invalid("cannot use console socket if runc will not detach or allocate tty".into()))
        }
        _ => Ok(()),
    }
}

/// Connects to the caller's socket. Done before anything is made, so that a
/// wrong path costs nothing.
pub(super) fn connect(path: &Path) -> Failing<OwnedFd> {
    let what = failed(&format!("connect to the console socket {}", path.display()));
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| what(e.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|e| what(e.into()))?;
    rustix::net::connect(&socket, &address).map_err(|e| what(e.into()))?;
    Ok(socket)
}

/// Sends a terminal's controlling end; the message is its name, as runc's.
pub(super) fn send(socket: &OwnedFd, master: &OwnedFd) -> Failing<()> {
    budu_sys::socket::send_with_fds(socket, b"/dev/ptmx", &[master.as_fd()])
        .map_err(failed("send the terminal to the console socket"))
}

/// Sends a pidfd of the container's first process.
pub(super) fn send_pidfd(socket: &OwnedFd, pidfd: &OwnedFd) -> Failing<()> {
    budu_sys::socket::send_with_fds(socket, b"pidfd", &[pidfd.as_fd()])
        .map_err(failed("send the pidfd to the pidfd socket"))
}

/// A container's terminal in the foreground: its bytes are copied from and to
/// our standard streams, whose own terminal, if it is one, is in raw mode.
#[derive(Debug)]
pub(super) struct Foreground {
    master: OwnedFd,
    input_open: bool,
    saved: Option<Termios>,
    /// Input that the container has not taken yet.
    pending: Vec<u8>,
}

impl Foreground {
    pub(super) fn new(master: OwnedFd) -> Failing<Foreground> {
        let what = failed("set up the terminal");
        rustix::io::ioctl_fionbio(&master, true).map_err(|e| what(e.into()))?;
        // Our own terminal makes line ends of its own; a pipe wants none.
        leave_lines(master.as_fd()).map_err(&what)?;
        let mut foreground = Foreground { master, input_open: true, saved: None, pending: Vec::new() };
        if let Ok(saved) = rustix::termios::tcgetattr(rustix::stdio::stdin()) {
            let mut raw = saved.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)
                .map_err(|e| what(e.into()))?;
            foreground.saved = Some(saved);
        }
        foreground.resize();
        Ok(foreground)
    }

    /// Gives the container's terminal the size of ours.
    pub(super) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    pub(super) fn watched(&self) -> Vec<PollFd<'_>> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.pending.is_empty());
        let mut watched = vec![PollFd::new(&self.master, flags)];
        if self.input_open && self.pending.is_empty() {
            watched.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        watched
    }

    /// Moves what is there, in both directions.
    pub(super) fn copy(&mut self) {
        self.output();
        if self.input_open && self.pending.is_empty() && is_readable(rustix::stdio::stdin()) {
            let mut buffer = [0u8; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(n) if n > 0 => self.pending.extend_from_slice(&buffer[..n]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                _ => self.input_open = false,
            }
        }
        while !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
    }

    /// Takes what the container has written and nothing has read yet.
    pub(super) fn drain(&mut self) {
        self.output();
    }

    fn output(&mut self) {
        let mut buffer = [0u8; 16 << 10];
        // Anything but data ends it: nothing there now, or (EIO) nobody at the other end.
        while let Ok(n) = rustix::io::read(&self.master, &mut buffer) {
            if n == 0 || write_all(rustix::stdio::stdout(), &buffer[..n]).is_err() {
                return;
            }
        }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Writes a process id where `--pid-file` says: whole or not at all.
pub(super) fn write_pid(path: &Path, pid: i32) -> Failing<()> {
    let what = failed(&format!("write the pid file {}", path.display()));
    let name = path.file_name().ok_or_else(|| invalid(format!("--pid-file {}: no file name", path.display())))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let temporary = path.with_file_name(temporary);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written =
        rustix::fs::open(&temporary, flags, Mode::from_raw_mode(0o644)).map_err(io::Error::from).and_then(|file| {
            io::Write::write_all(&mut std::fs::File::from(file), pid.to_string().as_bytes())?;
            std::fs::rename(&temporary, path)
        });
    written.map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        what(e)
    })
}
