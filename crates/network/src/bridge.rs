//! The bridge link of a network.

use std::net::Ipv6Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use budu_sys::netlink::{Batch, Link, Route};
use budu_sys::netns::{read_sysctl, write_sysctl};

use crate::addresses::{check_bridge_address, choose};
use crate::{Config, Error, Mac};

/// Address of every bridge that has IPv6, on its own link; Docker's.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The bridge as it is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Index of the link.
    pub(crate) index: u32,
    /// The gateway's address and prefix; `None` without address management.
    pub(crate) address: Option<Ipv4Net>,
}

/// What a bridge is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// Name of the link.
    pub(crate) name: &'a str,
    /// The gateway's address and prefix.
    pub(crate) address: Option<Ipv4Net>,
    /// The gateway's IPv6 address and prefix.
    pub(crate) address6: Option<Ipv6Net>,
    /// Whether the link itself gets the IPv4 address.
    pub(crate) addressed: bool,
    /// Whether it gets the IPv6 address.
    pub(crate) addressed6: bool,
    /// Whether other addresses it has are taken away.
    pub(crate) alone: bool,
    /// Maximum transmission unit, bytes.
    pub(crate) mtu: u32,
    /// Switch on forwarding for the whole host.
    pub(crate) ip_forward: bool,
}

/// Refuses names the kernel or a sysctl path would misread.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let good = (1..=15).contains(&name.len()) && name.bytes().all(allowed);
    if good && name != "." && name != ".." { Ok(()) } else { Err(Error::BridgeName { name: name.into() }) }
}

/// Finds the bridge, if the host has it.
pub(crate) fn find(route: &mut Route, name: &str) -> Result<Option<Link>, Error> {
    match route.link(name)? {
        Some(link) if link.kind == "bridge" => Ok(Some(link)),
        Some(_) => Err(Error::NotABridge { name: name.into() }),
        None => Ok(None),
    }
}

/// Whether the bridge is still the one we know; if in doubt, it is.
pub(crate) fn is_there(bridge: Bridge, name: &str) -> bool {
    let found = open_route().and_then(|mut route| find(&mut route, name));
    found.map_or(true, |found| found.is_some_and(|link| link.index == bridge.index))
}

/// The address the default bridge has, or will have when it is made now.
/// `networks`: ranges of this daemon's other networks.
pub(crate) fn default_address(
    route: &mut Route,
    config: &Config,
    link: Option<&Link>,
    networks: &[Ipv4Net],
) -> Result<Ipv4Net, Error> {
    if let Some(bip) = config.bip {
        return check_bridge_address(bip);
    }
    if let Some(link) = link
        && let Some(own) = route.addresses()?.iter().find(|address| address.link == link.index)
    {
        return check_bridge_address(Ipv4Net::new_assert(own.ip, own.prefix.min(32)));
    }
    let mut taken = host_ranges(route)?;
    taken.extend(networks);
    choose(&config.pools, &taken).ok_or(Error::NoPool)
}

/// Addresses and routes of the host.
pub(crate) fn host_ranges(route: &mut Route) -> Result<Vec<Ipv4Net>, Error> {
    let addresses = route.addresses()?;
    let mut taken: Vec<Ipv4Net> =
        addresses.iter().map(|address| Ipv4Net::new_assert(address.ip, address.prefix.min(32))).collect();
    let destinations = route.destinations()?;
    taken.extend(destinations.iter().map(|(ip, prefix)| Ipv4Net::new_assert(*ip, (*prefix).min(32))));
    Ok(taken)
}

/// Makes the bridge, or brings an existing one into shape.
pub(crate) fn ensure(wish: &Wish<'_>) -> Result<Bridge, Error> {
    let name = wish.name;
    let mut route = open_route()?;
    let found = find(&mut route, name)?;
    let link = match found {
        Some(link) => link,
        None => make(&mut route, wish)?,
    };
    let mut batch = Batch::new();
    let wanted = wish.address.filter(|_| wish.addressed);
    let own = route.addresses()?;
    let own = own.iter().filter(|present| present.link == link.index);
    for other in own.filter(|present| wanted.is_none_or(|w| present.ip != w.addr() || present.prefix != w.prefix_len()))
    {
        if wish.alone {
            batch.delete_address(link.index, other.ip, other.prefix);
        }
    }
    if let Some(wanted) = wanted {
        batch.add_address(link.index, wanted.addr(), wanted.prefix_len());
    }
    if let Some(address) = wish.address6 {
        let dotted = name.replace('.', "/");
        // It is a router there, and believes no other one.
        for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
            write_sysctl(&format!("net.ipv6.conf.{dotted}.{setting}"), value)
                .map_err(|error| Error::kernel(format!("switch on IPv6 on bridge {name}"), error))?;
        }
        if wish.addressed6 {
            batch.add_address6(link.index, address.addr(), address.prefix_len());
            // The kernel asks for the containers it forwards to from a
            // link-local address. Its own comes some time after the first
            // container; a question not asked until then costs a second.
            batch.add_address6(link.index, LINK_LOCAL, 64);
        }
    }
    batch.set_up(link.index);
    route.apply(batch)?;
    if wish.ip_forward {
        enable_forwarding("net.ipv4.ip_forward")?;
        if wish.address6.is_some() {
            enable_forwarding("net.ipv6.conf.all.forwarding")?;
        }
    }
    Ok(Bridge { index: link.index, address: wish.address })
}

fn make(route: &mut Route, wish: &Wish<'_>) -> Result<Link, Error> {
    let name = wish.name;
    let mut batch = Batch::new();
    // An explicit hardware address stays: otherwise a bridge takes the lowest
    // of its ports', and containers would lose their gateway with each change.
    let mac = wish.address.map_or_else(Mac::random, |address| Mac::of(address.addr()));
    batch.add_bridge(name, mac.0, wish.mtu);
    route.apply(batch)?;
    let dotted = name.replace('.', "/");
    // Published ports are reachable through the host's own 127.0.0.1.
    let localnet = format!("net.ipv4.conf.{dotted}.route_localnet");
    if let Err(error) = write_sysctl(&localnet, "1") {
        tracing::warn!(%error, bridge = name, "published ports will not answer on 127.0.0.1");
    }
    // An IPv4 network has no IPv6 side door, and takes no router's word.
    if let Err(error) = write_sysctl(&format!("net.ipv6.conf.{dotted}.disable_ipv6"), "1") {
        tracing::debug!(%error, bridge = name, "IPv6 is not switched off on the bridge");
    }
    find(route, name)?.ok_or_else(|| {
        let gone = std::io::ErrorKind::NotFound.into();
        Error::kernel(format!("find bridge {name} after making it"), gone)
    })
}

/// Deletes the link of a bridge; it may be gone already.
pub(crate) fn delete(name: &str) -> Result<(), Error> {
    let mut route = open_route()?;
    if find(&mut route, name)?.is_none() {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.delete_link(name);
    Ok(route.apply(batch)?)
}

/// Forwarding for the whole host, as Docker does. Forwarding of traffic that
/// has nothing to do with containers is left to the host's own rules.
fn enable_forwarding(name: &str) -> Result<(), Error> {
    if read_sysctl(name).is_ok_and(|value| value != "0") {
        return Ok(());
    }
    write_sysctl(name, "1").map_err(|error| Error::kernel(format!("switch on {name}"), error))
}

/// Opens an rtnetlink socket in the calling thread's namespace.
pub(crate) fn open_route() -> Result<Route, Error> {
    Route::open().map_err(|error| Error::kernel("open an rtnetlink socket", error))
}
