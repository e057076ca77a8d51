//! Links, addresses and routes.

use std::borrow::Cow;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, Parseable,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::dump::{self, Address, Link};
use super::{Connection, Error, Reply};

/// An rtnetlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Route(Connection);

/// A pair of virtual Ethernet links, one end in another namespace.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of the near end.
    pub name: &'a str,
    /// Bridge the near end joins, by index.
    pub master: u32,
    /// Maximum transmission unit of both ends, bytes.
    pub mtu: u32,
    /// Name of the far end.
    pub peer_name: &'a str,
    /// Hardware address of the far end.
    pub peer_hardware: [u8; 6],
    /// Namespace of the far end.
    pub peer_netns: BorrowedFd<'a>,
}

/// Steps the kernel takes one after the other, sent in one go. A refused step
/// does not stop the later ones; [`Route::apply`] reports the first refusal.
#[derive(Debug, Default)]
pub struct Batch<'fd> {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    fds: PhantomData<BorrowedFd<'fd>>,
}

#[derive(Debug)]
struct Step {
    what: Cow<'static, str>,
    start: usize,
}

impl<'fd> Batch<'fd> {
    /// An empty batch.
    pub fn new() -> Batch<'fd> {
        Batch::default()
    }

    /// Makes a bridge that is down.
    pub fn add_bridge(&mut self, name: &str, hardware: [u8; 6], mtu: u32) {
        let mut link = named(name);
        link.attributes.extend([
            LinkAttribute::Address(hardware.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ]);
        let message = RouteNetlinkMessage::NewLink(link);
        self.push(format!("make bridge {name}"), message, NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Makes a veth pair whose far end is born in its namespace, both down.
    pub fn add_veth(&mut self, veth: &Veth<'fd>) {
        let mut peer = named(veth.peer_name);
        peer.attributes.extend([
            LinkAttribute::Address(veth.peer_hardware.to_vec()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::NetNsFd(veth.peer_netns.as_raw_fd()),
        ]);
        let mut link = named(veth.name);
        link.attributes.extend([
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Controller(veth.master),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        let message = RouteNetlinkMessage::NewLink(link);
        self.push(format!("make link {}", veth.name), message, NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Brings a link up.
    pub fn set_up(&mut self, index: u32) {
        let mut link = indexed(index);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.push(format!("bring link {index} up"), RouteNetlinkMessage::SetLink(link), 0);
    }

    /// Brings a link of this name up without giving it an IPv6 link-local
    /// address: ports of a bridge need none.
    pub fn set_port_up(&mut self, name: &str) {
        let mut link = named(name);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )])]));
        self.push(format!("bring link {name} up"), RouteNetlinkMessage::SetLink(link), 0);
    }

    /// Brings a link down.
    pub fn set_down(&mut self, index: u32) {
        let mut link = indexed(index);
        link.header.change_mask = LinkFlags::Up;
        self.push(format!("bring link {index} down"), RouteNetlinkMessage::SetLink(link), 0);
    }

    /// Changes a hardware address.
    pub fn set_hardware(&mut self, index: u32, hardware: [u8; 6]) {
        let mut link = indexed(index);
        link.attributes.push(LinkAttribute::Address(hardware.to_vec()));
        let what = format!("set hardware address of link {index}");
        self.push(what, RouteNetlinkMessage::SetLink(link), 0);
    }

    /// Lets a bridge send a frame back out of the port it came in by.
    pub fn set_hairpin(&mut self, name: &str) {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]));
        let what = format!("set hairpin mode of link {name}");
        self.push(what, RouteNetlinkMessage::NewLink(link), 0);
    }

    /// Keeps the ports of a bridge apart: a port so marked exchanges frames
    /// with the bridge itself and with unmarked ports only (Linux 4.18).
    pub fn set_isolated(&mut self, name: &str) {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)])),
        ]));
        self.push(format!("isolate link {name}"), RouteNetlinkMessage::NewLink(link), 0);
    }

    /// Gives a link an IPv4 address.
    pub fn add_address(&mut self, index: u32, ip: Ipv4Addr, prefix: u8) {
        let message = RouteNetlinkMessage::NewAddress(address(index, ip, prefix));
        let what = format!("give address {ip}/{prefix} to link {index}");
        self.push(what, message, NLM_F_CREATE | NLM_F_REPLACE);
    }

    /// Gives a link an IPv6 address that can be used at once.
    pub fn add_address6(&mut self, index: u32, ip: Ipv6Addr, prefix: u8) {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.prefix_len = prefix;
        message.header.index = index;
        // Nobody else can have it: no need to ask around first.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.extend([AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())]);
        let what = format!("give address {ip}/{prefix} to link {index}");
        self.push(what, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE);
    }

    /// Makes an IPv6 address the default gateway.
    pub fn add_default_route6(&mut self, gateway: Ipv6Addr) {
        let route = route(AddressFamily::Inet6, 0, RouteAddress::Inet6(gateway));
        let message = RouteNetlinkMessage::NewRoute(route);
        self.push(format!("add route through {gateway}"), message, NLM_F_CREATE | NLM_F_REPLACE);
    }

    /// Takes an IPv4 address from a link.
    pub fn delete_address(&mut self, index: u32, ip: Ipv4Addr, prefix: u8) {
        let message = RouteNetlinkMessage::DelAddress(address(index, ip, prefix));
        self.push(format!("take address {ip}/{prefix} from link {index}"), message, 0);
    }

    /// Routes `destination` (default if `None`) through `gateway`, replacing
    /// what was there.
    pub fn add_route(&mut self, destination: Option<(Ipv4Addr, u8)>, gateway: Ipv4Addr) {
        let length = destination.map_or(0, |(_, prefix)| prefix);
        let mut route = route(AddressFamily::Inet, length, RouteAddress::Inet(gateway));
        if let Some((ip, _)) = destination {
            route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(ip)));
        }
        let message = RouteNetlinkMessage::NewRoute(route);
        self.push(format!("add route through {gateway}"), message, NLM_F_CREATE | NLM_F_REPLACE);
    }

    /// Deletes the IPv4 default route of the main table.
    pub fn delete_default_route(&mut self) {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.scope = RouteScope::NoWhere;
        self.push("delete the default route", RouteNetlinkMessage::DelRoute(route), 0);
    }

    /// Deletes a link (with its peer) by name.
    pub fn delete_link(&mut self, name: &str) {
        let message = RouteNetlinkMessage::DelLink(named(name));
        self.push(format!("delete link {name}"), message, 0);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn push(&mut self, what: impl Into<Cow<'static, str>>, message: RouteNetlinkMessage, flags: u16) {
        let start = self.bytes.len();
        append(&mut self.bytes, message, NLM_F_REQUEST | flags);
        self.steps.push(Step { what: what.into(), start });
    }
}

impl Route {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Route> {
        Connection::open(NETLINK_ROUTE).map(Route)
    }

    /// Takes all steps of a batch and reports the first that was refused.
    pub fn apply(&mut self, batch: Batch<'_>) -> Result<(), Error> {
        match self.apply_all(batch)?.into_iter().next() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Takes all steps of a batch and returns every refusal.
    pub fn apply_all(&mut self, mut batch: Batch<'_>) -> Result<Vec<Error>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let count = u32::try_from(batch.steps.len()).expect("a batch is short");
        let first = self.0.reserve(count);
        for (step, number) in batch.steps.iter().zip(first..) {
            batch.bytes[step.start + 8..step.start + 12].copy_from_slice(&number.to_ne_bytes());
        }
        // Refusals are always answered; one acknowledgement marks the end.
        let last = batch.steps.last().map_or(0, |step| step.start);
        batch.bytes[last + 6] |= NLM_F_ACK as u8;
        let talk = |error| Error::new("talk to the kernel about links", error);
        self.0.send(&batch.bytes).map_err(talk)?;
        let mut refusals = Vec::new();
        self.0
            .receive(first, |reply| {
                let Reply::Ack { sequence, errno, detail } = reply else {
                    return Ok(ControlFlow::Continue(()));
                };
                let index = (sequence - first) as usize;
                if errno != 0
                    && let Some(step) = batch.steps.get_mut(index)
                {
                    let source = io::Error::from_raw_os_error(errno);
                    let what = std::mem::take(&mut step.what);
                    refusals.push(Error { step: what, source, detail });
                }
                let end = index + 1 >= batch.steps.len();
                Ok(if end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })
            .map_err(talk)?;
        Ok(refusals)
    }

    /// Lists all links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut links = Vec::new();
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump("list links", request, NLM_F_DUMP, |payload| {
            let message = LinkMessage::parse(payload).map_err(io::Error::other)?;
            links.push(Link::of(&message));
            Ok(())
        })?;
        Ok(links)
    }

    /// Finds a link by name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = None;
        let request = RouteNetlinkMessage::GetLink(named(name));
        let outcome = self.dump("find a link", request, 0, |payload| {
            let message = LinkMessage::parse(payload).map_err(io::Error::other)?;
            found = Some(Link::of(&message));
            Ok(())
        });
        match outcome {
            Err(error) if error.errno() == libc::ENODEV => Ok(None),
            Err(error) => Err(Error { step: format!("find link {name}").into(), ..error }),
            Ok(()) => Ok(found),
        }
    }

    /// Lists all IPv4 addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let mut addresses = Vec::new();
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetAddress(request);
        self.dump("list addresses", request, NLM_F_DUMP, |payload| {
            let message = AddressMessage::parse(payload).map_err(io::Error::other)?;
            addresses.extend(Address::of(&message));
            Ok(())
        })?;
        Ok(addresses)
    }

    /// Lists the IPv6 addresses of all links.
    pub fn addresses6(&mut self) -> Result<Vec<Ipv6Addr>, Error> {
        let mut addresses = Vec::new();
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetAddress(request);
        self.dump("list IPv6 addresses", request, NLM_F_DUMP, |payload| {
            let message = AddressMessage::parse(payload).map_err(io::Error::other)?;
            addresses.extend(message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V6(ip)) => Some(*ip),
                _ => None,
            }));
            Ok(())
        })?;
        Ok(addresses)
    }

    /// Lists the destinations of all unicast IPv4 routes but default ones.
    pub fn destinations(&mut self) -> Result<Vec<(Ipv4Addr, u8)>, Error> {
        let mut destinations = Vec::new();
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetRoute(request);
        self.dump("list routes", request, NLM_F_DUMP, |payload| {
            let message = RouteMessage::parse(payload).map_err(io::Error::other)?;
            destinations.extend(dump::destination(&message));
            Ok(())
        })?;
        Ok(destinations)
    }

    pub(super) fn dump(
        &mut self,
        step: &'static str,
        request: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Error> {
        let failed = |error| Error::new(step, error);
        let mut bytes = Vec::new();
        append(&mut bytes, request, NLM_F_REQUEST | NLM_F_ACK | flags);
        let first = self.0.reserve(1);
        bytes[8..12].copy_from_slice(&first.to_ne_bytes());
        self.0.send(&bytes).map_err(failed)?;
        self.0
            .receive(first, |reply| {
                match reply {
                    Reply::Object { payload } => each(payload)?,
                    Reply::Ack { errno: 0, .. } | Reply::Done { errno: 0 } => {
                        return Ok(ControlFlow::Break(()));
                    }
                    Reply::Ack { errno, .. } | Reply::Done { errno } => {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
            .map_err(failed)
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

pub(super) fn indexed(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

pub(super) fn address(index: u32, ip: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let broadcast = Ipv4Addr::from_bits(ip.to_bits() | host_bits);
    message.attributes.extend([
        AddressAttribute::Local(IpAddr::V4(ip)),
        AddressAttribute::Address(IpAddr::V4(ip)),
        AddressAttribute::Broadcast(broadcast),
    ]);
    message
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..start + message.header.length as usize]);
}
/// A route of the main table through a gateway, to all that begins with `length` bits of a destination.
fn route(family: AddressFamily, length: u8, gateway: RouteAddress) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: family,
        destination_prefix_length: length,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    route.attributes.push(RouteAttribute::Gateway(gateway));
    route
}
