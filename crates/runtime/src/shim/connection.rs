//! One connection of a shim: frames in, frames out, never blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::backlog::Backlog;
use crate::protocol::{self, HEADER};

/// A client with a full backlog that took nothing for this long has stalled.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Has not said yet.
    New,
    /// Commands and the exit of the container.
    Control,
    /// Streams of the container's first process.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// Streams and exit of an exec'd process, by its key.
    Exec(u64),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    pub(super) role: Role,
    incoming: Vec<u8>,
    outgoing: Backlog,
    /// When the client last took something.
    progress: Instant,
    /// Close once everything is sent.
    closing: bool,
    /// The client is gone; what it sent last is still to be read.
    left: bool,
    dead: bool,
}

/// A whole frame.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
}

impl Connection {
    /// Takes a connected socket.
    pub(super) fn new(fd: OwnedFd, role: Role) -> io::Result<Connection> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let (incoming, outgoing, progress) = (Vec::new(), Backlog::default(), Instant::now());
        Ok(Connection { fd, role, incoming, outgoing, progress, closing: false, left: false, dead: false })
    }

    /// Reads what has arrived. Afterwards [`Connection::next_frame`] yields it.
    pub(super) fn fill(&mut self) {
        let mut buffer = [0u8; 8192];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => self.dead = true,
            Ok(n) => self.incoming.extend_from_slice(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.dead = true,
        }
    }

    /// Takes the next whole frame out. A peer that does not speak the protocol is dropped.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let head: [u8; HEADER] = self.incoming.get(..HEADER)?.try_into().ok()?;
        let Some((kind, length)) = protocol::parse_header(head) else {
            self.dead = true;
            return None;
        };
        let payload = self.incoming.get(HEADER..HEADER + length)?.to_vec();
        self.incoming.drain(..HEADER + length);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        Some(Frame { kind, payload })
    }

    /// Queues a message.
    pub(super) fn send<M: Serialize>(&mut self, message: &M) {
        let frame = protocol::encode(message);
        self.push(&[], &frame);
    }

    /// Queues stream data.
    pub(super) fn send_stream(&mut self, kind: u8, data: &[u8]) {
        self.push(&protocol::header(kind, data.len()), data);
    }

    fn push(&mut self, head: &[u8], body: &[u8]) {
        if self.dead || self.closing {
            return;
        }
        if self.outgoing.is_empty() {
            self.progress = Instant::now();
        }
        self.outgoing.push(head);
        self.outgoing.push(body);
        self.flush();
    }

    /// Keeps in a file what its client does not take: the program goes on.
    pub(super) fn keep_in(&mut self, directory: &Path) {
        self.outgoing.allow_file(directory);
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) {
        while !self.outgoing.is_empty() && !self.dead {
            match rustix::net::send(&self.fd, self.outgoing.next(), rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.outgoing.advance(n);
                    self.progress = Instant::now();
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.dead = true,
            }
        }
        self.dead |= self.closing;
    }

    /// Closes the connection once everything queued is sent.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    /// Something waits to be sent.
    pub(super) fn is_pending(&self) -> bool {
        !self.dead && !self.outgoing.is_empty()
    }

    /// So much waits that its process should not be read from: a slow client
    /// slows the program down, as a full pipe would.
    pub(super) fn is_full(&self) -> bool {
        !self.dead && self.outgoing.is_full()
    }

    /// When the client last took something.
    pub(super) fn progress(&self) -> Instant {
        self.progress
    }

    /// Gives up a client of the container that has not only been slow: others
    /// want its output, too.
    pub(super) fn drop_stalled(&mut self) {
        let others = matches!(self.role, Role::Attach { .. });
        self.dead |= others && self.is_full() && self.progress.elapsed() > PATIENCE;
    }

    /// Looks whether the client is gone, while nothing is read from it. The
    /// kernel would go on telling so; what is unread waits in the socket.
    pub(super) fn look_whether_left(&mut self) {
        let mut fds = [PollFd::new(&self.fd, PollFlags::empty())];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        self.left = !fds[0].revents().is_empty();
        let unread = rustix::io::ioctl_fionread(&self.fd).unwrap_or(0);
        self.dead |= self.left && unread == 0 && self.incoming.is_empty();
    }

    /// The client is gone, and need not be watched while nothing is read from it.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// Nothing will come or go any more.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
