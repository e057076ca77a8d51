//! The bridge link of the default network.

use ipnet::Ipv4Net;

use budu_sys::netlink::{Batch, Link, Route};
use budu_sys::netns::{read_sysctl, write_sysctl};

use crate::addresses::{check_bridge_address, choose};
use crate::{Config, Error, Mac};

/// The bridge as it is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Index of the link.
    pub(crate) index: u32,
    /// Its address and prefix.
    pub(crate) address: Ipv4Net,
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

/// The address the bridge has, or will have when it is made now.
pub(crate) fn address(route: &mut Route, config: &Config, link: Option<&Link>) -> Result<Ipv4Net, Error> {
    if let Some(bip) = config.bip {
        return check_bridge_address(bip);
    }
    let addresses = route.addresses()?;
    if let Some(link) = link
        && let Some(own) = addresses.iter().find(|address| address.link == link.index)
    {
        return check_bridge_address(Ipv4Net::new_assert(own.ip, own.prefix.min(32)));
    }
    let mut taken: Vec<Ipv4Net> =
        addresses.iter().map(|address| Ipv4Net::new_assert(address.ip, address.prefix.min(32))).collect();
    let destinations = route.destinations()?;
    taken.extend(destinations.iter().map(|(ip, prefix)| Ipv4Net::new_assert(*ip, (*prefix).min(32))));
    choose(&taken)
}

/// Makes the bridge, or brings an existing one into shape.
pub(crate) fn ensure(config: &Config) -> Result<Bridge, Error> {
    let name = config.bridge.as_str();
    let mut route = open_route()?;
    let found = find(&mut route, name)?;
    let address = address(&mut route, config, found.as_ref())?;
    let link = match found {
        Some(link) => link,
        None => make(&mut route, config, address)?,
    };
    let mut batch = Batch::new();
    let own = route.addresses()?;
    let own = own.iter().filter(|present| present.link == link.index);
    for other in own.filter(|present| present.ip != address.addr() || present.prefix != address.prefix_len()) {
        if config.bip.is_some() {
            batch.delete_address(link.index, other.ip, other.prefix);
        }
    }
    batch.add_address(link.index, address.addr(), address.prefix_len());
    batch.set_up(link.index);
    route.apply(batch)?;
    if config.ip_forward {
        enable_forwarding()?;
    }
    Ok(Bridge { index: link.index, address })
}

fn make(route: &mut Route, config: &Config, address: Ipv4Net) -> Result<Link, Error> {
    let name = config.bridge.as_str();
    let mut batch = Batch::new();
    // An explicit hardware address stays: otherwise a bridge takes the lowest
    // of its ports', and containers would lose their gateway with each change.
    batch.add_bridge(name, Mac::of(address.addr()).0, config.mtu);
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

/// Forwarding for the whole host, as Docker does. Forwarding of traffic that
/// has nothing to do with containers is left to the host's own rules.
fn enable_forwarding() -> Result<(), Error> {
    const NAME: &str = "net.ipv4.ip_forward";
    if read_sysctl(NAME).is_ok_and(|value| value != "0") {
        return Ok(());
    }
    write_sysctl(NAME, "1").map_err(|error| Error::kernel(format!("switch on {NAME}"), error))
}

/// Opens an rtnetlink socket in the calling thread's namespace.
pub(crate) fn open_route() -> Result<Route, Error> {
    Route::open().map_err(|error| Error::kernel("open an rtnetlink socket", error))
}
