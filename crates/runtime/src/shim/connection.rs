//! One connection of a shim: frames in, frames out, never blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde::Serialize;

use crate::protocol::{self, HEADER};

/// With more than this waiting for a client, its process is not read from:
/// a slow client slows the program down, as a full pipe would.
const HIGH_WATER: usize = 256 << 10;

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
    outgoing: Vec<u8>,
    /// How much of `outgoing` is sent.
    sent: usize,
    /// Close once everything is sent.
    closing: bool,
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
        Ok(Connection { fd, role, incoming: Vec::new(), outgoing: Vec::new(), sent: 0, closing: false, dead: false })
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
        self.outgoing.extend_from_slice(head);
        self.outgoing.extend_from_slice(body);
        self.flush();
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) {
        while self.sent < self.outgoing.len() && !self.dead {
            let rest = &self.outgoing[self.sent..];
            match rustix::net::send(&self.fd, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.dead = true,
            }
        }
        if self.sent == self.outgoing.len() {
            // Give the memory back: most connections are idle most of the time.
            self.outgoing = Vec::new();
            self.sent = 0;
            self.dead |= self.closing;
        } else if self.sent > HIGH_WATER {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Closes the connection once everything queued is sent.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    /// Something waits to be sent.
    pub(super) fn is_pending(&self) -> bool {
        !self.dead && self.sent < self.outgoing.len()
    }

    /// So much waits that its process should not be read from.
    pub(super) fn is_full(&self) -> bool {
        !self.dead && self.outgoing.len() - self.sent > HIGH_WATER
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
