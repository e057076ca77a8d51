//! A process a shim looks after: the container's first one or an exec'd one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::process::Ended;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::protocol::{STDERR, STDOUT};

/// Bytes read at once from a process that says little.
pub(super) const CHUNK: usize = 4 << 10;
/// Bytes read at once from one that says much, and what its pipe then holds.
pub(super) const BULK: usize = 128 << 10;

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Sets itself up; its report has not come.
    Preparing,
    /// Ready; waits to be let go (first process only).
    Waiting,
    /// Let go; whether its exec succeeded is not known yet.
    Starting,
    /// Runs the program.
    Running,
    /// Has ended.
    Ended(Ended),
}

/// A process and our ends of its streams.
#[derive(Debug)]
pub(super) struct Process {
    /// Distinguishes exec'd processes; the first process has 0.
    pub(super) key: u64,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) phase: Phase,
    /// It was told to run its program as soon as it can.
    pub(super) let_go: bool,
    /// Our end of the reporting socket, until the program runs.
    pub(super) report: Option<OwnedFd>,
    /// Where standard input goes.
    stdin: Option<OwnedFd>,
    /// Input the process has not taken yet.
    pending: Vec<u8>,
    stdin_ends: bool,
    /// Where output comes from: stream kind and descriptor.
    pub(super) outputs: Vec<(u8, OwnedFd)>,
    pub(super) tty: bool,
    /// Size a new terminal gets: rows, columns.
    pub(super) size: (u16, u16),
}

/// The process's ends of its pipes, to be closed by us after the copy.
#[derive(Debug)]
pub(super) struct FarEnds(pub(super) [OwnedFd; 3]);

impl FarEnds {
    pub(super) fn borrow(&self) -> [BorrowedFd<'_>; 3] {
        [self.0[0].as_fd(), self.0[1].as_fd(), self.0[2].as_fd()]
    }
}

/// Our ends of a process's pipes.
#[derive(Debug, Default)]
pub(super) struct NearEnds {
    stdin: Option<OwnedFd>,
    outputs: Vec<(u8, OwnedFd)>,
}

/// Makes the pipes of a process without a terminal.
pub(super) fn pipes(open_stdin: bool) -> io::Result<(NearEnds, FarEnds)> {
    let mut near = NearEnds::default();
    let input = if open_stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        near.stdin = Some(write);
        read
    } else {
        rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?
    };
    let mut output = |kind| -> io::Result<OwnedFd> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        near.outputs.push((kind, read));
        Ok(write)
    };
    let far = FarEnds([input, output(STDOUT)?, output(STDERR)?]);
    Ok((near, far))
}

impl Process {
    pub(super) fn new(key: u64, pid: Pid, pidfd: OwnedFd, report: OwnedFd, near: NearEnds, tty: bool) -> Process {
        Process {
            key,
            pid,
            pidfd,
            phase: Phase::Preparing,
            let_go: false,
            report: Some(report),
            stdin: near.stdin,
            pending: Vec::new(),
            stdin_ends: false,
            outputs: near.outputs,
            tty,
            size: (0, 0),
        }
    }

    /// Takes the terminal that the process opened.
    pub(super) fn use_terminal(&mut self, master: OwnedFd, size: (u16, u16)) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        self.stdin = Some(rustix::io::fcntl_dupfd_cloexec(&master, 3)?);
        self.outputs = vec![(STDOUT, master)];
        if size != (0, 0) {
            self.resize(size.0, size.1)?;
        }
        Ok(())
    }

    /// Sets the terminal's size.
    pub(super) fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        let Some((_, master)) = self.outputs.first().filter(|_| self.tty) else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the process has no terminal"));
        };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(master, size)?)
    }

    /// Gives the process input, as much as it takes now; the rest waits.
    pub(super) fn feed(&mut self, data: &[u8]) {
        if self.stdin.is_some() && !self.stdin_ends {
            self.pending.extend_from_slice(data);
            self.feed_pending();
        }
    }

    /// Writes waiting input.
    pub(super) fn feed_pending(&mut self) {
        while let Some(stdin) = self.stdin.as_ref().filter(|_| !self.pending.is_empty()) {
            match rustix::io::write(stdin, &self.pending) {
                Ok(n) => {
                    self.pending.drain(..n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads any more.
                Err(_) => {
                    self.stdin = None;
                    self.pending = Vec::new();
                }
            }
        }
        self.pending = Vec::new();
        if self.stdin_ends {
            self.stdin = None;
        }
    }

    /// No more input will come. A terminal has no end of input; it stays open.
    pub(super) fn end_stdin(&mut self) {
        if !self.tty {
            self.stdin_ends = true;
            self.feed_pending();
        }
    }

    /// The descriptor to watch while input waits.
    pub(super) fn blocked_stdin(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().filter(|_| !self.pending.is_empty()).map(|fd| fd.as_fd())
    }

    /// Reads output `at` once into `buffer`. `None` when there is nothing now;
    /// an ended stream is taken out of the list and reads as `Some(0)`.
    pub(super) fn read(&mut self, at: usize, buffer: &mut [u8]) -> Option<(u8, usize)> {
        let (kind, fd) = self.outputs.get(at)?;
        let kind = *kind;
        match rustix::io::read(fd, buffer) {
            Ok(n) if n > 0 => Some((kind, n)),
            Err(Errno::AGAIN | Errno::INTR) => None,
            // End of file; a terminal whose other end is closed says EIO.
            _ => {
                self.outputs.remove(at);
                Some((kind, 0))
            }
        }
    }

    /// It says much: lets its pipe hold more, so that it is read less often.
    pub(super) fn widen(&self, at: usize) {
        if let Some((_, fd)) = self.outputs.get(at).filter(|_| !self.tty) {
            // Where users may not have that much, it stays as it is.
            let _ = rustix::pipe::fcntl_setpipe_size(fd, BULK);
        }
    }

    /// It has ended, and nothing it said is left to read.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended(_)) && self.outputs.is_empty() && self.report.is_none()
    }
}

/// Reads what an output of a process that has ended still holds. Others may have it open and go on writing: no more
/// than was there is read, or there would be no end.
pub(super) fn read_rest(output: &OwnedFd, mut take: impl FnMut(&[u8])) {
    // A terminal, which has no such size, holds less.
    let mut left = rustix::pipe::fcntl_getpipe_size(output).unwrap_or(BULK);
    let mut buffer = [0; CHUNK];
    while left > 0 {
        match rustix::io::read(output, &mut buffer) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return,
            Ok(count) => {
                take(&buffer[..count]);
                left = left.saturating_sub(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_pipe_holds_is_the_rest() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let data: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let held = rustix::io::write(&write, &data).unwrap();
        let mut rest = Vec::new();
        read_rest(&read, |piece| rest.extend_from_slice(piece));
        assert!(held >= 1 << 16 && rest == data[..held], "{held}");
    }

    #[test]
    fn the_rest_of_what_never_ends_does() {
        let zeros = rustix::fs::open("/dev/zero", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut rest = 0;
        read_rest(&zeros, |piece| {
            rest += piece.len();
            assert!(rest <= BULK);
        });
    }
}
