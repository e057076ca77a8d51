//! The line between a process that sets itself up and whoever watches over it.
//!
//! Once the system call filter stands only read(2), write(2) and close(2) are
//! used on it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::process;
use rustix::io::Errno;

use super::{Failing, Gate, HOOKED, LENT, MAPS_WRITTEN, NOTED, START, failed};
use crate::protocol::{self, Event, Failure};

/// A failure is one message on the socket; what a hook said must not make it larger than readers expect.
const MAX_TEXT: usize = 8 << 10;

/// Descriptors that come with one message.
const LENT_AT_ONCE: usize = 60;

/// Our ends of the reporting socket and of the gate. They close by exec, or
/// with the process.
pub(super) struct Line<'a> {
    report: BorrowedFd<'a>,
    gate: &'a Gate,
    /// The reporting socket is closed: failures go to the news of the gate.
    reported: bool,
}

impl<'a> Line<'a> {
    pub(super) fn new(report: &'a OwnedFd, gate: &'a Gate) -> Line<'a> {
        Line { report: report.as_fd(), gate, reported: false }
    }

    /// Takes what the parent prepared: mounts by their number in the plan. It
    /// has done everything else that only it can do when this returns.
    pub(super) fn take_help(&self) -> Failing<Vec<(u16, OwnedFd)>> {
        let mut lent = Vec::new();
        loop {
            let mut buffer = [0u8; 1 + 2 * LENT_AT_ONCE];
            let (n, fds) = budu_sys::socket::receive_with_fds(self.report, &mut buffer)
                .map_err(failed("receive mounts from the parent process"))?;
            match &buffer[..n] {
                [MAPS_WRITTEN] => return Ok(lent),
                [LENT, numbers @ ..] if numbers.len() == 2 * fds.len() => {
                    let numbers = numbers.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                    lent.extend(numbers.zip(fds));
                }
                // The parent is gone.
                _ => process::exit_now(1),
            }
        }
    }

    /// Has the parent run the hooks of the host.
    pub(super) fn have_hooks_run(&self) -> Failing<()> {
        self.write(&protocol::encode(&Event::Hooks)).map_err(failed("ask for the hooks"))?;
        self.wait_on(self.report, HOOKED);
        Ok(())
    }

    /// Reports that everything stands, with the terminal if there is one.
    pub(super) fn report_created(&self, terminal: Option<BorrowedFd<'_>>) -> Failing<()> {
        let created = protocol::encode(&Event::Created { pid: 0 });
        match terminal {
            Some(terminal) => budu_sys::socket::send_with_fds(self.report, &created, &[terminal]),
            None => self.write(&created),
        }
        .map_err(failed("report to the parent process"))
    }

    /// Waits to be let go.
    pub(super) fn pass_gate(&mut self) {
        match self.gate {
            Gate::Report => self.wait_on(self.report, START),
            Gate::Fifo { go, .. } => {
                // Without it nobody could find us.
                self.wait_on(self.report, NOTED);
                process::close_borrowed(self.report);
                self.reported = true;
                self.wait_on(go.as_fd(), START);
            }
        }
    }

    /// Tells of a failure. If the other side is gone nobody is left to tell.
    pub(super) fn tell(&self, mut failure: Failure) {
        if let Some((end, _)) = failure.message.char_indices().find(|(at, _)| *at >= MAX_TEXT) {
            failure.message.truncate(end);
        }
        let _ = self.write(&protocol::encode(&Event::Failed(failure)));
    }

    /// What must stay open for it.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'a>> {
        match self.gate {
            Gate::Report => vec![self.report],
            Gate::Fifo { go, news } => vec![self.report, go.as_fd(), news.as_fd()],
        }
    }

    /// Leaves the line to a copy of this process.
    pub(super) fn close(&self) {
        if !self.reported {
            process::close_borrowed(self.report);
        }
        if let Gate::Fifo { go, news } = self.gate {
            process::close_borrowed(go.as_fd());
            process::close_borrowed(news.as_fd());
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let to = match self.gate {
            Gate::Fifo { news, .. } if self.reported => news.as_fd(),
            _ => self.report,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Waits for one byte. The end of the line means that the parent is gone.
    fn wait_on(&self, from: BorrowedFd<'_>, wanted: u8) {
        let mut byte = [0u8];
        loop {
            match rustix::io::read(from, &mut byte) {
                Ok(1) if byte[0] == wanted => return,
                Err(Errno::INTR) => {}
                _ => process::exit_now(1),
            }
        }
    }
}
