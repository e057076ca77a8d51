//! Connection tracking: making the kernel forget flows.
//!
//! Packets of a flow that is known already never see the address rewriting
//! that was set up later. For TCP a new connection is a new flow; a UDP client
//! that goes on sending from one port is one flow for ever.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::wire::{Writer, find};
use crate::netlink::{Connection, Error, Reply};

/// `NFNL_SUBSYS_CTNETLINK`, message `IPCTNL_MSG_CT_GET` and `…_DELETE`.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];
/// `CTA_TUPLE_ORIG`: the flow as its first packet had it.
const ORIGINAL: u16 = 1;
/// `CTA_ZONE`.
const ZONE: u16 = 18;

/// The first direction of a flow: where its first packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol, as in the IP header.
    pub protocol: u8,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port; 0 for protocols without ports.
    pub port: u16,
}

/// Forgets all flows for which `stale` holds, in the calling thread's network
/// namespace. Returns how many. Takes time in proportion to the whole table.
pub fn forget(stale: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
    let failed = |error| Error::new("forget connections", error);
    let mut connection = Connection::open(NETLINK_NETFILTER).map_err(failed)?;
    let mut found = Vec::new();
    for family in FAMILIES {
        list(&mut connection, family, &stale, &mut found).map_err(failed)?;
    }
    let mut forgotten = 0;
    for flow in found {
        match delete(&mut connection, &flow) {
            Ok(()) => forgotten += 1,
            // It ended by itself meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(forgotten)
}

/// What names a flow to the kernel: its original tuple and zone, as it sent them.
struct Named {
    family: u8,
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
}

fn list(
    connection: &mut Connection,
    family: u8,
    stale: &impl Fn(&Flow) -> bool,
    found: &mut Vec<Named>,
) -> io::Result<()> {
    let first = connection.reserve(1);
    let mut writer = Writer::default();
    writer.message(GET, REQUEST | DUMP, first, (family, 0), |_| {});
    connection.send(&writer.bytes)?;
    connection.receive(first, |reply| {
        match reply {
            Reply::Object { payload } => {
                let attributes = payload.get(4..).unwrap_or_default();
                if let Some(tuple) = find(attributes, ORIGINAL)
                    && parse(tuple).is_some_and(|flow| stale(&flow))
                {
                    let zone = find(attributes, ZONE).map(<[u8]>::to_vec);
                    found.push(Named { family, tuple: tuple.to_vec(), zone });
                }
            }
            Reply::Done { errno: 0 } | Reply::Ack { errno: 0, .. } => {
                return Ok(ControlFlow::Break(()));
            }
            Reply::Done { errno } | Reply::Ack { errno, .. } => {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn delete(connection: &mut Connection, flow: &Named) -> io::Result<()> {
    let first = connection.reserve(1);
    let mut writer = Writer::default();
    writer.message(DELETE, REQUEST | ACK, first, (flow.family, 0), |writer| {
        writer.nested(ORIGINAL, |writer| writer.bytes.extend_from_slice(&flow.tuple));
        if let Some(zone) = &flow.zone {
            writer.bytes(ZONE, zone);
        }
    });
    connection.send(&writer.bytes)?;
    connection.receive(first, |reply| match reply {
        Reply::Ack { errno: 0, .. } => Ok(ControlFlow::Break(())),
        Reply::Ack { errno, .. } => Err(io::Error::from_raw_os_error(errno)),
        _ => Ok(ControlFlow::Continue(())),
    })
}

/// `CTA_TUPLE_IP { CTA_IP_V4_DST or CTA_IP_V6_DST }`, `CTA_TUPLE_PROTO { NUM, DST_PORT }`.
fn parse(tuple: &[u8]) -> Option<Flow> {
    let addresses = find(tuple, 1)?;
    let destination = match (find(addresses, 2), find(addresses, 4)) {
        (Some(ip), _) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        (None, ip) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip?).ok()?)),
    };
    let transport = find(tuple, 2)?;
    let protocol = *find(transport, 1)?.first()?;
    let port = find(transport, 3).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
    Some(Flow { protocol, destination, port })
}
