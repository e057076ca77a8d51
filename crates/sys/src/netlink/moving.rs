//! Links that change their network namespace and keep their addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::{Batch, Route, address, indexed};
use super::{Error, Link};

/// IFA_F_PERMANENT, rtnetlink(7).
const PERMANENT: u8 = 0x80;

/// An address that a link keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    ip: IpAddr,
    prefix: u8,
}

impl Route {
    /// Moves a link of this socket's namespace to another one under `new_name`
    /// (where `%d` is a free number), gives it its permanent global addresses
    /// again, which the kernel takes away, and brings it up.
    ///
    /// # Errors
    /// When there is no such link, the name is taken there, or the kernel refuses a step.
    pub fn move_link(&mut self, name: &str, new_name: &str, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let missing = || Error::new(format!("find link {name}"), io::Error::from_raw_os_error(libc::ENODEV));
        let link = self.link(name)?.ok_or_else(missing)?;
        let inside = |error| Error::new("enter the network namespace", error);
        let mut there = crate::netns::inside(netns, Route::open).and_then(|route| route).map_err(inside)?;
        let before = there.links()?;
        let kept = self.kept_addresses(link.index)?;
        let mut batch = Batch::new();
        batch.set_down(link.index);
        batch.move_to(link.index, name, new_name, netns);
        self.apply(batch)?;
        let after = there.links()?;
        let arrived = arrived(&before, &after).ok_or_else(|| missing_there(name))?;
        let mut batch = Batch::new();
        for kept in kept {
            batch.add_kept(arrived, kept);
        }
        batch.set_up(arrived);
        there.apply(batch)
    }

    fn kept_addresses(&mut self, link: u32) -> Result<Vec<Kept>, Error> {
        let mut kept = Vec::new();
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump("list addresses", request, NLM_F_DUMP, |payload| {
            let message = AddressMessage::parse(payload).map_err(io::Error::other)?;
            kept.extend(to_keep(&message, link));
            Ok(())
        })?;
        Ok(kept)
    }
}

fn missing_there(name: &str) -> Error {
    Error::new(format!("find link {name} in its new network namespace"), io::Error::from_raw_os_error(libc::ENODEV))
}

/// The index that is new.
fn arrived(before: &[Link], after: &[Link]) -> Option<u32> {
    after.iter().map(|link| link.index).find(|index| before.iter().all(|link| link.index != *index))
}

/// An address somebody gave the link for good, valid everywhere.
fn to_keep(message: &AddressMessage, link: u32) -> Option<Kept> {
    let header = &message.header;
    if header.index != link || header.flags.bits() & PERMANENT == 0 || header.scope != AddressScope::Universe {
        return None;
    }
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let ip = local
        .or_else(|| find(|attribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None }))?;
    Some(Kept { ip, prefix: header.prefix_len })
}

impl<'fd> Batch<'fd> {
    fn move_to(&mut self, index: u32, name: &str, new_name: &str, netns: BorrowedFd<'fd>) {
        let mut link = indexed(index);
        link.attributes.push(LinkAttribute::IfName(new_name.to_owned()));
        link.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let what = format!("move link {name} to the network namespace as {new_name}");
        self.push(what, RouteNetlinkMessage::SetLink(link), 0);
    }

    fn add_kept(&mut self, index: u32, kept: Kept) {
        let message = match kept.ip {
            IpAddr::V4(ip) => address(index, ip, kept.prefix),
            IpAddr::V6(ip) => {
                let mut message = AddressMessage::default();
                message.header.family = AddressFamily::Inet6;
                message.header.prefix_len = kept.prefix;
                message.header.index = index;
                message.attributes.extend([AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())]);
                message
            }
        };
        let what = format!("give address {}/{} to link {index}", kept.ip, kept.prefix);
        self.push(what, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Veth;
    use std::os::fd::AsFd;

    #[test]
    fn a_link_moves_with_its_addresses_under_another_name() {
        let prepared = crate::netns::create(|| {
            let mut route = Route::open()?;
            let mut batch = Batch::new();
            batch.add_bridge("bridge0", [2, 0, 0, 0, 0, 1], 1500);
            route.apply(batch)?;
            let master = route.link("bridge0")?.map_or(0, |bridge| bridge.index);
            let own = crate::netns::current()?;
            let mut batch = Batch::new();
            let (name, peer_name, peer_hardware) = ("moving0", "peer0", [2, 0, 0, 0, 0, 2]);
            batch.add_veth(&Veth { name, master, mtu: 1500, peer_name, peer_hardware, peer_netns: own.as_fd() });
            route.apply(batch)?;
            let link = route.link("moving0")?.ok_or_else(|| io::Error::other("no link"))?;
            let mut batch = Batch::new();
            batch.add_address(link.index, [10, 9, 8, 7].into(), 24);
            batch.add_kept(link.index, Kept { ip: "fd00::7".parse().map_err(io::Error::other)?, prefix: 64 });
            batch.set_up(link.index);
            route.apply(batch)?;
            Ok(route)
        });
        let (_home, mut route) = match prepared {
            Ok(prepared) => prepared,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("skipped: no permission to make network namespaces");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let (target, mut there) = crate::netns::create(Route::open).unwrap();
        let error = route.move_link("absent", "x", target.as_fd()).unwrap_err();
        assert_eq!(error.errno(), libc::ENODEV, "{error}");
        route.move_link("moving0", "inner%d", target.as_fd()).unwrap();
        assert_eq!(route.link("moving0").unwrap(), None);
        let link = there.link("inner0").unwrap().expect("the link under its new name");
        assert!(link.up);
        assert_eq!(there.kept_addresses(link.index).unwrap().len(), 2);
        assert!(there.addresses().unwrap().iter().any(|a| a.ip.octets() == [10, 9, 8, 7] && a.prefix == 24));
    }
}
