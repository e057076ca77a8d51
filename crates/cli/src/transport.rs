//! The byte stream to the daemon: a unix socket, TCP, TLS, or the two ends of an `ssh`.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};

use budu_dial::tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::error::Error;
use crate::host::{Host, Ssh, Tls};

/// One connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
    /// The same, encrypted.
    Tls(Box<tls::ClientStream<TcpStream>>),
}

impl Stream {
    /// Connects to `host`.
    pub(crate) async fn connect(host: &Host) -> Result<Stream, Error> {
        match host {
            Host::Unix(path) => {
                let connected = UnixStream::connect(path).await.map(Stream::Unix);
                connected.map_err(|error| match error.kind() {
                    io::ErrorKind::PermissionDenied => Error::Denied { host: host.to_string() },
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                        Error::Connect { host: host.to_string() }
                    }
                    _ => Error::Transport { reason: format!("connect to {host}: {}", crate::error::os_text(&error)) },
                })
            }
            Host::Tcp(address) => Ok(Stream::Tcp(tcp(host, address).await?.0)),
            Host::Tls(address, wish) => encrypted(host, address, wish).await,
            Host::Ssh(ssh) => through(ssh).map(Stream::Unix),
        }
    }
}

/// Connects to `host:port`; returns the host's name with the connection.
async fn tcp<'a>(host: &Host, address: &'a str) -> Result<(TcpStream, &'a str), Error> {
    let invalid = |why: String| Error::Transport { reason: format!("connect to {host}: {why}") };
    let (name, port) = address.rsplit_once(':').ok_or_else(|| invalid("no port".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| invalid(format!("{port:?} is no port")))?;
    let name = name.trim_matches(['[', ']']);
    match budu_dial::tcp(name, port).await {
        Ok(stream) => Ok((stream, name)),
        Err(why) if why.contains("Connection refused") => Err(Error::Connect { host: host.to_string() }),
        Err(why) => Err(invalid(why)),
    }
}

async fn encrypted(host: &Host, address: &str, wish: &Tls) -> Result<Stream, Error> {
    let failed = |why: String| Error::Transport { reason: format!("connect to {host}: {why}") };
    let config = tls::client(&wish.files, wish.verify).map_err(|error| Error::new(error.to_string()))?;
    let (stream, name) = tcp(host, address).await?;
    let name = tls::ServerName::try_from(name.to_owned()).map_err(|error| failed(error.to_string()))?;
    let stream = tls::Connector::from(config).connect(name, stream).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::InvalidData if error.to_string().contains("InvalidContentType") => {
                " (does the daemon speak TLS?)"
            }
            _ => "",
        };
        failed(format!("tls: {error}{hint}"))
    })?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Lets `ssh` carry the stream to `docker system dial-stdio` on the other machine.
fn through(ssh: &Ssh) -> Result<UnixStream, Error> {
    let failed = |error: io::Error| Error::Transport { reason: format!("run ssh: {}", crate::error::os_text(&error)) };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let output: OwnedFd = theirs.try_clone().map_err(failed)?.into();
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = &ssh.user {
        command.args(["-l", user]);
    }
    if let Some(port) = &ssh.port {
        command.args(["-p", port]);
    }
    command.args(["--", &ssh.host, "docker"]);
    if let Some(socket) = &ssh.socket {
        // The shell over there reads this.
        command.args(["--host", &format!("'unix://{}'", socket.replace('\'', "'\\''"))]);
    }
    command.args(["system", "dial-stdio"]);
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(output));
    // It ends with its standard input, and init takes what is left of it.
    command.spawn().map_err(failed)?;
    UnixStream::from_std(ours).map_err(failed)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
