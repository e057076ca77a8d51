//! What the kernel tells about links and addresses, reduced to what we use.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

/// A network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind, like `bridge` or `veth`; empty for physical links and loopback.
    pub kind: String,
    /// Index of the bridge (or bond) it belongs to.
    pub master: Option<u32>,
    /// Hardware address; empty if it has none.
    pub hardware: Vec<u8>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is operational: it carries packets now. This comes a moment
    /// after both ends of a link were brought up; before, packets are lost.
    pub running: bool,
    /// Maximum transmission unit, bytes.
    pub mtu: u32,
}

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address.
    pub ip: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
}

impl Link {
    pub(super) fn of(message: &LinkMessage) -> Link {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            kind: String::new(),
            master: None,
            hardware: Vec::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            running: false,
            mtu: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Address(bytes) => link.hardware.clone_from(bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::OperState(state) => link.running = *state == State::Up,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(kind).unwrap_or_default();
                }
                _ => {}
            }
        }
        link
    }
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(other)) => Some(other.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

impl Address {
    pub(super) fn of(message: &AddressMessage) -> Option<Address> {
        let mut local = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(IpAddr::V4(ip)) => local = Some(*ip),
                AddressAttribute::Address(IpAddr::V4(ip)) if local.is_none() => local = Some(*ip),
                _ => {}
            }
        }
        let ip = local?;
        Some(Address { link: message.header.index, ip, prefix: message.header.prefix_len })
    }
}

/// The destination of a unicast IPv4 route; `None` for the default route, for
/// other kinds and for the local table.
pub(super) fn destination(message: &RouteMessage) -> Option<(Ipv4Addr, u8)> {
    if message.header.kind != RouteType::Unicast || message.header.destination_prefix_length == 0 {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some((*ip, message.header.destination_prefix_length)),
        _ => None,
    })
}
