//! The byte stream to the daemon: a unix socket or a TCP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::error::Error;
use crate::host::Host;

/// One connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
}

impl Stream {
    /// Connects to `host`.
    pub(crate) async fn connect(host: &Host) -> Result<Stream, Error> {
        let connected = match host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Host::Tcp(address) => tcp(address).await.map(Stream::Tcp),
        };
        connected.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied { host: host.to_string() },
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                Error::Connect { host: host.to_string() }
            }
            _ => Error::Transport { reason: format!("connect to {host}: {}", crate::error::os_text(&error)) },
        })
    }
}

/// Connects to `host:port`. Names are looked up in /etc/hosts and nowhere
/// else: the C library's resolver would load code at run time, which a static
/// program must not do.
async fn tcp(address: &str) -> io::Result<TcpStream> {
    let hosts = || std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let addresses = resolve(address, hosts)?;
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    // Keystrokes should not wait for company; failing that, they merely arrive later.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn resolve(address: &str, hosts: impl FnOnce() -> String) -> io::Result<Vec<SocketAddr>> {
    if let Ok(literal) = address.parse::<SocketAddr>() {
        return Ok(vec![literal]);
    }
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let (name, port) = address.rsplit_once(':').ok_or_else(|| invalid(format!("{address:?} has no port")))?;
    let port: u16 = port.parse().map_err(|_| invalid(format!("{port:?} is no port")))?;
    let text = hosts();
    let found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let ip: IpAddr = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(SocketAddr::new(ip, port))
        })
        .collect();
    if found.is_empty() {
        return Err(invalid(format!("{name} is not in /etc/hosts; give an IP address")));
    }
    Ok(found)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn names_come_from_the_hosts_file() {
        let hosts = || "127.0.0.1 localhost # here\n192.0.2.7\tfar far.example\n".to_owned();
        let find = |address: &str| resolve(address, hosts).map(|found| found[0].to_string());
        assert_eq!(find("[::1]:2375").unwrap(), "[::1]:2375");
        assert_eq!(find("Far.example:1").unwrap(), "192.0.2.7:1");
        assert!(find("unknown:1").unwrap_err().to_string().contains("unknown is not in /etc/hosts"));
        assert!(find("far").is_err());
    }
}
