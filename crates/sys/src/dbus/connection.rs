//! A connection to a bus, or to a service that speaks D-Bus itself.

use super::message::START;
use super::{Error, Kind, Message, Value, address};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Signals kept for whoever asks for them.
const KEPT: usize = 1024;

/// A connection. Closed on drop.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects to a bus and gets a name on it.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Refused`] and those of [`Connection::call`].
    pub fn bus(address: &str) -> Result<Connection, Error> {
        let mut connection = Connection::direct(address)?;
        let bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        connection.call(bus, "Hello", Vec::new())?;
        Ok(connection)
    }

    /// Connects to a service that is no bus.
    ///
    /// # Errors
    /// As [`Connection::bus`].
    pub fn direct(address: &str) -> Result<Connection, Error> {
        let fail = |source| Error::Connect { address: address.to_owned(), source };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for socket in address::sockets(address) {
            match UnixStream::connect_addr(&socket) {
                Ok(stream) => {
                    let mut connection = Connection { stream, serial: 0, signals: VecDeque::new() };
                    connection.authenticate()?;
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(fail(last))
    }

    /// A connection over a stream that is authenticated already.
    pub fn over(stream: UnixStream) -> Connection {
        Connection { stream, serial: 0, signals: VecDeque::new() }
    }

    /// EXTERNAL without an identity: who we are is what the kernel tells the other side, which holds in user
    /// namespaces too, where we do not know our number outside.
    fn authenticate(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        self.stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
        let answer = self.line(deadline)?;
        if !answer.starts_with("DATA") {
            return Err(Error::Refused(answer));
        }
        self.stream.write_all(b"DATA\r\n")?;
        let answer = self.line(deadline)?;
        if !answer.starts_with("OK ") {
            return Err(Error::Refused(answer));
        }
        Ok(self.stream.write_all(b"BEGIN\r\n")?)
    }

    /// One line of the dialogue before messages; byte by byte, for what follows is none.
    fn line(&mut self, deadline: Instant) -> Result<String, Error> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte, deadline, "authentication")?;
            line.push(byte[0]);
            if line.len() > 1024 {
                return Err(Error::Malformed("line without end"));
            }
        }
        Ok(String::from_utf8_lossy(line.trim_ascii()).into_owned())
    }

    /// Fills a buffer.
    fn fill(&mut self, buffer: &mut [u8], deadline: Instant, what: &str) -> Result<(), Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(|_| Error::Timeout(what.to_owned()))?;
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(Error::Timeout(what.to_owned())),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::Io(errno.into())),
            }
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(Error::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(())
    }

    /// Sends a message with the next serial, which is returned.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn send(&mut self, mut message: Message) -> Result<u32, Error> {
        self.serial = self.serial.wrapping_add(1).max(1);
        message.serial = self.serial;
        self.stream.write_all(&message.encode())?;
        Ok(self.serial)
    }

    /// The next message.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`], [`Error::Timeout`], which names `what`.
    pub fn receive(&mut self, deadline: Instant, what: &str) -> Result<Message, Error> {
        let mut start = [0; START];
        self.fill(&mut start, deadline, what)?;
        let mut bytes = start.to_vec();
        bytes.resize(Message::length(&start)?, 0);
        self.fill(&mut bytes[START..], deadline, what)?;
        Message::decode(&bytes)
    }

    /// Calls a method of (service, object, interface) and waits for its result.
    ///
    /// # Errors
    /// [`Error::Answer`] and those of [`Connection::send`] and [`Connection::receive`].
    pub fn call(&mut self, of: (&str, &str, &str), method: &str, body: Vec<Value>) -> Result<Vec<Value>, Error> {
        let (service, path, interface) = of;
        let serial = self.send(Message {
            destination: service.to_owned(),
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: method.to_owned(),
            body,
            ..Message::default()
        })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline, method)?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(message.body),
                Kind::Error if message.reply_to == serial => {
                    let text = message.body.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                    return Err(Error::Answer { name: message.error, text });
                }
                Kind::Signal => self.keep(message),
                _ => {}
            }
        }
    }

    fn keep(&mut self, signal: Message) {
        if self.signals.len() == KEPT {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }

    /// Waits for the first signal that is `wanted`; others are dropped.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn signal(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Result<Message, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.receive(deadline, what)?,
            };
            if message.kind == Kind::Signal && wanted(&message) {
                return Ok(message);
            }
        }
    }
}
