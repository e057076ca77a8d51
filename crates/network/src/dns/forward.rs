//! Asking a container's own name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use budu_sys::netns;
use simple_dns::RCODE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::answer::failure;
use super::names::View;
use crate::Upstream;

/// How long a server may take, as long as Docker waits.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many servers are tried.
const SERVERS: usize = 3;
const PORT: u16 = 53;

/// Asks one server after the other; `None` only for what is no query.
pub(crate) async fn forward(query: &[u8], view: &View, netns: &Arc<OwnedFd>, stream: bool) -> Option<Vec<u8>> {
    let usable = |server: &&Upstream| !server.from_host || view.external;
    for server in view.dns.servers.iter().filter(usable).take(SERVERS) {
        let answer = match timeout(PATIENCE, exchange(query, *server, netns, stream)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!(server = %server.ip, %error, "a name server did not answer");
                continue;
            }
            Err(_) => continue,
        };
        let code = answer.get(3).map_or(0, |byte| byte & 0xf);
        if code == RCODE::ServerFailure as u8 || code == RCODE::Refused as u8 {
            continue;
        }
        return Some(answer);
    }
    failure(query, RCODE::ServerFailure)
}

async fn exchange(query: &[u8], server: Upstream, netns: &Arc<OwnedFd>, stream: bool) -> io::Result<Vec<u8>> {
    let address = SocketAddr::new(server.ip, PORT);
    let answer = if stream {
        let socket = open(server, netns, move || match server.ip {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        });
        let mut connection = socket.await?.connect(address).await?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        connection.write_all(&[&length.to_be_bytes(), query].concat()).await?;
        let mut answer = vec![0; usize::from(connection.read_u16().await?)];
        connection.read_exact(&mut answer).await?;
        answer
    } else {
        let any = if server.ip.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = open(server, netns, move || {
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = UdpSocket::from_std(socket.await?)?;
        socket.send(query).await?;
        let mut answer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = socket.recv(&mut answer).await?;
            // An answer to something else is not ours.
            if length >= 12 && answer[..2] == query[..2] {
                answer.truncate(length);
                break answer;
            }
        }
    };
    let is_answer = answer.len() >= 12 && answer[..2] == query[..2] && answer[2] & 0x80 != 0;
    if is_answer { Ok(answer) } else { Err(io::Error::other("it said something else")) }
}

/// Makes a socket in the container's namespace, or in the host's for servers
/// on its loopback. The port is a random one each time.
async fn open<S: Send + 'static>(
    server: Upstream,
    netns: &Arc<OwnedFd>,
    make: impl FnOnce() -> io::Result<S> + Send + 'static,
) -> io::Result<S> {
    if server.from_host {
        return make();
    }
    let netns = Arc::clone(netns);
    let opened = tokio::task::spawn_blocking(move || netns::inside(netns.as_fd(), make)).await;
    opened.map_err(io::Error::other)??
}
