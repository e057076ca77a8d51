//! Sockets in a container's namespace, and the way to them.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use budu_sys::netns;
use budu_sys::nft::{Chain, Change, Family, Hook, HookKind, HookPoint, Nftables, Statement, Transaction};

use crate::Error;

/// Where containers ask.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "budu-dns";

/// What the name server listens on.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

impl Door {
    /// Ports of UDP and TCP.
    pub(crate) fn ports(&self) -> Result<(u16, u16), Error> {
        let ports = || Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()));
        ports().map_err(|error: io::Error| Error::kernel("read the ports of a name server", error))
    }
}

/// Opens the sockets inside a namespace and leads port 53 to them. `known` are
/// the ports they had before: if they are free, the rules inside are right.
pub(crate) fn open(netns: BorrowedFd<'_>, known: Option<(u16, u16)>) -> Result<Door, Error> {
    let inside = || {
        if let Some(ports) = known
            && let Ok(door) = bind(ports)
        {
            return Ok(door);
        }
        let door = bind((0, 0)).map_err(|error| Error::kernel("open a container's name server", error))?;
        match lead(door.ports()?) {
            Ok(()) => Ok(door),
            Err(error) => {
                // Without address translation the container cannot have a port 53 of its own.
                tracing::debug!(%error, "a container's name server takes port 53 itself");
                bind((PORT, PORT)).map_err(|error| Error::kernel("open a container's name server on port 53", error))
            }
        }
    };
    netns::inside(netns, inside).map_err(|error| Error::kernel("enter a container's network namespace", error))?
}

fn bind((udp, tcp): (u16, u16)) -> io::Result<Door> {
    let (udp, tcp) = (UdpSocket::bind((ADDRESS, udp))?, TcpListener::bind((ADDRESS, tcp))?);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok(Door { udp, tcp })
}

/// Rewrites what the container sends to port 53, in one transaction.
fn lead((udp, tcp): (u16, u16)) -> Result<(), Error> {
    let mut socket = Nftables::open().map_err(|error| Error::kernel("open an nf_tables socket", error))?;
    let mut changes = Vec::new();
    if socket.table(Family::Ip, TABLE)?.is_some() {
        changes.push(Change::DeleteTable);
    }
    let hook = Hook { kind: HookKind::Nat, point: HookPoint::Output, priority: -100 };
    changes.push(Change::AddTable(b"budu".to_vec()));
    changes.push(Change::AddChain(Chain { name: "output".into(), hook: Some(hook) }));
    for (protocol, port) in [(17, udp), (6, tcp)] {
        let statements = vec![
            Statement::Destination(true, ADDRESS.into(), 32),
            Statement::DestinationPort(protocol, PORT),
            Statement::DnatTo(ADDRESS, port),
        ];
        changes.push(Change::AddRule("output".into(), statements));
    }
    Ok(socket.apply(&Transaction { family: Family::Ip, table: TABLE.into(), changes })?)
}
