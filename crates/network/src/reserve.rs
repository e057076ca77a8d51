//! Holding host ports, so that nobody else on the host takes them.
//!
//! Packets never reach these sockets: the firewall rewrites their destination
//! first. They exist so that another program's `bind` fails with "address
//! already in use", and ours does when another program came first. A TCP
//! socket listens, because only a listener keeps out those who bind with
//! `SO_REUSEADDR`; with that option itself, a port whose old connections
//! linger in TIME_WAIT can be taken at once.
//!
//! Over IPv6 some packets do reach them: those of the host's own `::1`, which
//! cannot be forwarded. Their TCP sockets stop listening again, so that
//! connections are refused and clients go on to the IPv4 address; switching
//! `SO_REUSEADDR` off keeps others out then.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, ipproto, listen, shutdown, socket_with, sockopt,
};

use crate::{Error, HostPort, PortRequest, Protocol, PublishedPort};

/// Where ephemeral ports come from if the kernel does not say.
const FALLBACK_RANGE: (u16, u16) = (49153, 65535);

/// A host port that is ours until dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) port: PublishedPort,
    _socket: Option<OwnedFd>,
}

/// Reserves what a request asks for: one port, on each of these host addresses.
/// `ours` are the ports of this daemon's containers, `ephemeral` is where the
/// search for a free port goes on.
pub(crate) fn reserve(
    request: &PortRequest,
    hosts: &[IpAddr],
    ours: &dyn Fn(IpAddr, u16, Protocol) -> bool,
    ephemeral: &mut u16,
) -> Result<Vec<Reservation>, Error> {
    let Some(ip) = hosts.first().copied() else { return Ok(Vec::new()) };
    let protocol = request.protocol;
    let hold = |host_port| -> Result<Vec<Reservation>, Error> {
        let port = |host_ip: &IpAddr| {
            let container_port = request.container_port;
            PublishedPort { host_ip: *host_ip, host_port, container_port, protocol }
        };
        hosts.iter().map(|host_ip| reserve_port(port(host_ip), ours)).collect()
    };
    let (first, last, start) = match request.host_port {
        HostPort::Fixed(0) | HostPort::Ephemeral => {
            let (first, last) = ephemeral_range();
            (first, last, (*ephemeral).clamp(first, last))
        }
        HostPort::Fixed(port) => return hold(port),
        HostPort::Range(first, last) => (first.min(last).max(1), last.max(first), first.min(last)),
    };
    for port in (start..=last).chain(first..start) {
        match hold(port) {
            Err(Error::PortAllocated { .. }) => {}
            Err(Error::BindPort { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            outcome => {
                if !matches!(request.host_port, HostPort::Range(..)) {
                    *ephemeral = port.checked_add(1).unwrap_or(first);
                }
                return outcome;
            }
        }
    }
    Err(Error::PortsExhausted { ip, first, last, protocol })
}

/// Takes a running container's port over. Somebody who bound it while no
/// daemon ran gets no packets (the firewall element is older), so this is no
/// reason to give the container up: the port is then ours without a socket.
pub(crate) fn take_over(port: PublishedPort) -> Reservation {
    reserve_port(port, &|_, _, _| false).unwrap_or_else(|error| {
        tracing::warn!(%error, "a published port of a running container could not be reserved again");
        Reservation { port, _socket: None }
    })
}

/// Reserves exactly this port.
fn reserve_port(port: PublishedPort, ours: &dyn Fn(IpAddr, u16, Protocol) -> bool) -> Result<Reservation, Error> {
    let PublishedPort { host_ip: ip, host_port, protocol, .. } = port;
    match hold(SocketAddr::new(ip, host_port), protocol) {
        Ok(socket) => Ok(Reservation { port, _socket: socket }),
        Err(source) if source.kind() == io::ErrorKind::AddrInUse && ours(ip, host_port, protocol) => {
            Err(Error::PortAllocated { ip, port: host_port })
        }
        Err(source) => Err(Error::BindPort { ip, port: host_port, protocol, source }),
    }
}

fn hold(address: SocketAddr, protocol: Protocol) -> io::Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let made = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number));
    let socket = match made {
        // Without SCTP in the kernel nobody on the host can take the port.
        Err(rustix::io::Errno::PROTONOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        made => made?,
    };
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Udp {
        // Nothing is ever read from it: let nothing pile up.
        sockopt::set_socket_recv_buffer_size(&socket, 0)?;
    } else {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if protocol != Protocol::Udp {
        listen(&socket, 0)?;
    }
    if protocol == Protocol::Tcp && address.is_ipv6() {
        sockopt::set_socket_reuseaddr(&socket, false)?;
        shutdown(&socket, Shutdown::Read)?;
    }
    Ok(Some(socket))
}

fn ephemeral_range() -> (u16, u16) {
    let parse = |text: String| {
        let mut words = text.split_whitespace().map(|word| word.parse::<u16>().ok());
        match (words.next()??, words.next()??) {
            (first, last) if 0 < first && first <= last => Some((first, last)),
            _ => None,
        }
    };
    budu_sys::netns::read_sysctl("net.ipv4.ip_local_port_range").ok().and_then(parse).unwrap_or(FALLBACK_RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn request(host_port: HostPort) -> PortRequest {
        PortRequest { host_ip: None, host_port, container_port: 80, protocol: Protocol::Tcp }
    }

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LOCAL6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn a_range_gives_its_first_free_port() {
        let taken = reserve(&request(HostPort::Ephemeral), &[LOCAL], &|_, _, _| false, &mut 40000).unwrap();
        let first = taken[0].port.host_port;
        let range = request(HostPort::Range(first, first + 20));
        // One number on both addresses, though it is free on one of them.
        let next = reserve(&range, &[LOCAL6, LOCAL], &|_, _, _| false, &mut 0).unwrap();
        assert!(next[0].port.host_port > first && next[0].port.host_port == next[1].port.host_port);
        let none = request(HostPort::Range(first, first));
        let error = reserve(&none, &[LOCAL], &|_, _, _| false, &mut 0).unwrap_err();
        assert!(matches!(error, Error::PortsExhausted { .. }), "{error}");
    }

    #[test]
    fn the_port_is_taken_for_everybody_else_and_both_ways() {
        for (ip, shown) in [(LOCAL, "127.0.0.1"), (LOCAL6, "[::1]")] {
            let held = reserve(&request(HostPort::Ephemeral), &[ip], &|_, _, _| false, &mut 41000).unwrap();
            let port = held[0].port.host_port;
            // std binds with SO_REUSEADDR, as servers do.
            let error = std::net::TcpListener::bind((ip, port)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            if ip == LOCAL6 {
                let error = std::net::TcpStream::connect((ip, port)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            }
            drop(held);
            let _other = std::net::TcpListener::bind((ip, port)).unwrap();
            let fixed = request(HostPort::Fixed(port));
            let error = reserve(&fixed, &[ip], &|_, _, _| false, &mut 0).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("failed to bind host port {shown}:{port}/tcp: address already in use")
            );
            let error = reserve(&fixed, &[ip], &|_, _, _| true, &mut 0).unwrap_err();
            assert_eq!(error.to_string(), format!("Bind for {ip}:{port} failed: port is already allocated"));
        }
    }
}
