//! Request and answer over one netlink socket.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr};

/// Largest message a dump answers with; the kernel never fills more.
const RECEIVE: usize = 32 * 1024;
/// `NLM_F_CAPPED`: the answer does not repeat the request.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow that explain the error.
const ACK_ATTRIBUTES: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ATTRIBUTE_MESSAGE: u16 = 1;

/// The kernel refused a step.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}{}", .detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
pub struct Error {
    /// What was tried, on what.
    pub step: Cow<'static, str>,
    /// The error number.
    pub source: io::Error,
    /// The kernel's own explanation, if it gave one.
    pub detail: Option<String>,
}

impl Error {
    pub(crate) fn new(step: impl Into<Cow<'static, str>>, source: io::Error) -> Error {
        Error { step: step.into(), source, detail: None }
    }

    /// The error number, 0 if there was none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}

/// One message from the kernel.
pub(crate) enum Reply<'a> {
    /// Acknowledgement (`errno` 0) or refusal of one request message.
    Ack { sequence: u32, errno: i32, detail: Option<String> },
    /// End of a dump.
    Done { errno: i32 },
    /// An object.
    Object { payload: &'a [u8] },
}

/// One socket. Requests are answered one at a time.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Connection> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both only make answers shorter or clearer: older kernels do without.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Connection { socket, sequence: 0, buffer: Vec::new() })
    }

    /// Reserves `count` sequence numbers and returns the first. Never 0, which
    /// the kernel uses for its own messages.
    pub(crate) fn reserve(&mut self, count: u32) -> u32 {
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(bytes, 0)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::other("the kernel took only a part of a netlink message"))
        }
    }

    /// Hands the answers to the requests from sequence number `first` on to
    /// `each` until it breaks. Late answers to earlier requests are dropped.
    pub(crate) fn receive<B>(
        &mut self,
        first: u32,
        mut each: impl FnMut(Reply<'_>) -> io::Result<ControlFlow<B>>,
    ) -> io::Result<B> {
        self.buffer.resize(RECEIVE, 0);
        loop {
            let length = match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length?,
            };
            let mut rest = &self.buffer[..length.min(RECEIVE)];
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
                let size = message.length() as usize;
                if message.sequence_number() >= first
                    && let ControlFlow::Break(outcome) = each(reply(&message)?)?
                {
                    return Ok(outcome);
                }
                rest = &rest[size.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

fn reply<'a>(message: &NetlinkBuffer<&'a [u8]>) -> io::Result<Reply<'a>> {
    let payload = message.payload();
    Ok(match message.message_type() {
        NLMSG_ERROR => Reply::Ack {
            sequence: message.sequence_number(),
            errno: leading_errno(payload)?,
            detail: explanation(payload, message.flags()),
        },
        NLMSG_DONE => Reply::Done { errno: leading_errno(payload).unwrap_or(0) },
        _ => Reply::Object { payload },
    })
}

fn leading_errno(payload: &[u8]) -> io::Result<i32> {
    let bytes = payload.first_chunk::<4>().ok_or_else(|| io::Error::other("netlink answer too short"))?;
    Ok(-i32::from_ne_bytes(*bytes))
}

/// The kernel's text for an error: attributes after the (possibly repeated)
/// request.
fn explanation(payload: &[u8], flags: u16) -> Option<String> {
    if flags & ACK_ATTRIBUTES == 0 {
        return None;
    }
    let request = payload.get(4..)?;
    let repeated = u32::from_ne_bytes(*request.first_chunk()?) as usize;
    let skip = if flags & CAPPED == 0 { repeated.next_multiple_of(4) } else { 16 };
    NlasIterator::new(request.get(skip..)?)
        .flatten()
        .find(|nla: &NlaBuffer<&[u8]>| nla.kind() == ATTRIBUTE_MESSAGE)
        .map(|nla| String::from_utf8_lossy(nla.value()).trim_end_matches('\0').to_owned())
}
