//! The way to a receiver: datagrams or a stream, plain or in TLS.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use budu_dial::{Resolver, tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};

/// How long a connection, or a receiver that takes nothing, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a receiver is.
#[derive(Debug, Clone)]
pub(super) enum Address {
    /// A stream socket of this machine.
    Unix(PathBuf),
    /// A datagram socket of this machine.
    UnixDatagram(PathBuf),
    /// The first of these that there is.
    First(Vec<Address>),
    /// Datagrams.
    Udp(String, u16),
    /// A stream.
    Tcp(String, u16),
    /// A stream in TLS.
    Tls(String, u16, Arc<tls::ClientConfig>),
}

/// Both directions of a stream.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Send + Sync> Duplex for T {}

/// An open connection.
pub(super) enum Wire {
    Stream(Pin<Box<dyn Duplex>>),
    UnixDatagram(UnixDatagram),
    Udp(UdpSocket),
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wire::Stream(_) => "Wire::Stream",
            Wire::UnixDatagram(_) => "Wire::UnixDatagram",
            Wire::Udp(_) => "Wire::Udp",
        })
    }
}

/// Messages to be sent, each with its end.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl Batch {
    /// Takes in what was appended to `bytes` as one message.
    pub(super) fn end_message(&mut self) {
        if self.bytes.len() > self.ends.last().copied().unwrap_or(0) {
            self.ends.push(self.bytes.len());
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Takes the first `count` messages out.
    fn forget(&mut self, count: usize) {
        let Some(&gone) = count.checked_sub(1).and_then(|last| self.ends.get(last)) else { return };
        self.bytes.drain(..gone);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|end| *end -= gone);
    }
}

impl Address {
    /// Opens a connection. Errors are told in Docker's words.
    pub(super) async fn connect(&self) -> Result<Wire, String> {
        match tokio::time::timeout(PATIENCE, self.connect_in_time()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("dial {self}: i/o timeout")),
        }
    }

    async fn connect_in_time(&self) -> Result<Wire, String> {
        let told = |error: io::Error| format!("dial {self}: connect: {}", plain(&error));
        match self {
            Address::Unix(path) => Ok(Wire::Stream(Box::pin(UnixStream::connect(path).await.map_err(told)?))),
            Address::UnixDatagram(path) => {
                let socket = UnixDatagram::unbound().map_err(told)?;
                socket.connect(path).map_err(told)?;
                Ok(Wire::UnixDatagram(socket))
            }
            Address::First(all) => {
                for address in all {
                    if let Ok(wire) = Box::pin(address.connect_in_time()).await {
                        return Ok(wire);
                    }
                }
                Err("Unix syslog delivery error".to_owned())
            }
            Address::Udp(host, port) => {
                let mut last = Err(format!("dial {self}: no address"));
                for ip in self.lookup(host).await? {
                    let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(any).await.map_err(told)?;
                    match socket.connect((ip, *port)).await {
                        Ok(()) => return Ok(Wire::Udp(socket)),
                        Err(error) => last = Err(told(error)),
                    }
                }
                last
            }
            Address::Tcp(host, port) => Ok(Wire::Stream(Box::pin(self.tcp(host, *port).await?))),
            Address::Tls(host, port, config) => {
                let stream = self.tcp(host, *port).await?;
                let name = tls::ServerName::try_from(host.clone()).map_err(|e| format!("tls: {host}: {e}"))?;
                let connector = tls::Connector::from(Arc::clone(config));
                let stream = connector.connect(name, stream).await.map_err(|e| format!("tls: {}", plain(&e)))?;
                Ok(Wire::Stream(Box::pin(stream)))
            }
        }
    }

    async fn lookup(&self, host: &str) -> Result<Vec<std::net::IpAddr>, String> {
        Resolver::system().lookup(host).await.map_err(|e| format!("dial {self}: lookup {host}: {e}"))
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let mut last = Err(format!("dial {self}: no address"));
        for ip in self.lookup(host).await? {
            match TcpStream::connect((ip, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let address = std::net::SocketAddr::new(ip, port);
                    last = Err(format!("dial tcp {address}: connect: {}", plain(&error)));
                }
            }
        }
        last
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix {}", path.display()),
            Address::UnixDatagram(path) => write!(f, "unixgram {}", path.display()),
            Address::First(_) => f.write_str("unixgram /dev/log"),
            Address::Udp(host, port) => write!(f, "udp {host}:{port}"),
            Address::Tcp(host, port) | Address::Tls(host, port, _) => write!(f, "tcp {host}:{port}"),
        }
    }
}

/// A system error without its number, in lower case.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

impl Wire {
    /// Sends messages and takes those that were sent out of the batch.
    ///
    /// # Errors
    /// When the receiver is gone or takes nothing for a while. Part of the
    /// batch may have arrived then.
    pub(super) async fn send(&mut self, batch: &mut Batch) -> io::Result<()> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the receiver takes nothing");
        match self {
            Wire::Stream(stream) => {
                let whole = async {
                    stream.write_all(&batch.bytes).await?;
                    stream.flush().await
                };
                tokio::time::timeout(PATIENCE, whole).await.map_err(|_| late())??;
                batch.clear();
                Ok(())
            }
            Wire::UnixDatagram(_) | Wire::Udp(_) => {
                let mut sent = 0;
                let mut from = 0;
                let mut outcome = Ok(());
                for &end in &batch.ends {
                    let message = &batch.bytes[from..end];
                    match tokio::time::timeout(PATIENCE, self.datagram(message)).await {
                        Ok(Ok(())) => (sent, from) = (sent + 1, end),
                        Ok(Err(error)) => outcome = Err(error),
                        Err(_) => outcome = Err(late()),
                    }
                    if outcome.is_err() {
                        break;
                    }
                }
                batch.forget(sent);
                outcome
            }
        }
    }

    async fn datagram(&self, message: &[u8]) -> io::Result<()> {
        let outcome = match self {
            Wire::UnixDatagram(socket) => socket.send(message).await,
            Wire::Udp(socket) => match socket.send(message).await {
                // The answer to an earlier one that nobody wanted: this is UDP, nobody need want it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(message).await.or(Ok(0)),
                other => other,
            },
            Wire::Stream(_) => Ok(0),
        };
        match outcome {
            // It will not be smaller next time.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether the receiver has closed the connection.
    pub(super) fn is_closed(&mut self) -> bool {
        let Wire::Stream(stream) = self else { return false };
        let mut byte = [0u8; 1];
        let mut buffer = tokio::io::ReadBuf::new(&mut byte);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match stream.as_mut().poll_read(&mut context, &mut buffer) {
            std::task::Poll::Pending => false,
            // Receivers that say something unasked are heard, not answered.
            std::task::Poll::Ready(Ok(())) => buffer.filled().is_empty(),
            std::task::Poll::Ready(Err(_)) => true,
        }
    }

    /// Reads what a receiver answers.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let Wire::Stream(stream) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut piece = [0u8; 1024];
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await;
        match count.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the receiver does not answer"))?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}

/// What a URL says, as far as log drivers care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    /// Host, with port if there is one.
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
}

impl Url<'_> {
    /// Takes `scheme://authority/path` apart.
    pub(super) fn parse(text: &str) -> Url<'_> {
        let (scheme, rest) = text.split_once("://").unwrap_or((text.split(':').next().unwrap_or_default(), ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Url { scheme: if text.contains(':') { scheme } else { "" }, authority, path }
    }

    /// Host and port; the port is absent or in the text after the last colon.
    pub(super) fn host_port(&self) -> (&str, Option<&str>) {
        let bare = |host: &'_ str| host.len() > 1 && host.starts_with('[') && host.ends_with(']');
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !self.authority.ends_with(']') => {
                (if bare(host) { &host[1..host.len() - 1] } else { host }, Some(port))
            }
            _ if bare(self.authority) => (&self.authority[1..self.authority.len() - 1], None),
            _ => (self.authority, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, scheme, host, port, path) in [
            ("tcp://h:1", "tcp", "h", Some("1"), ""),
            ("udp://[::1]:514", "udp", "::1", Some("514"), ""),
            ("udp://[::1]", "udp", "::1", None, ""),
            ("unix:///dev/log", "unix", "", None, "/dev/log"),
            ("tcp+tls://a.b", "tcp+tls", "a.b", None, ""),
            ("h:1", "h", "", None, ""),
            ("nonsense", "", "", None, ""),
        ] {
            let url = Url::parse(text);
            assert_eq!((url.scheme, url.host_port(), url.path), (scheme, (host, port), path), "{text}");
        }
    }

    #[test]
    fn what_was_sent_is_taken_out() {
        let mut batch = Batch::default();
        for message in ["one", "", "two", "three"] {
            batch.bytes.extend(message.bytes());
            batch.end_message();
        }
        batch.forget(2);
        assert_eq!((&*batch.bytes, &*batch.ends), (&b"three"[..], &[5usize][..]));
    }
}
