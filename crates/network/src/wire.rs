//! Makes a network namespace and wires it to the bridge.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use budu_sys::netlink::{Batch, Route, Veth};
use budu_sys::netns;
use ipnet::Ipv6Net;

use crate::bridge::{Bridge, open_route};
use crate::{Error, Mac};

/// Name of the link inside.
pub(crate) const INSIDE: &str = "eth0";
/// Index of loopback: the first link of every namespace.
const LOOPBACK: u32 = 1;

/// A namespace that is ready for a container. Dropped, it is gone: the kernel
/// deletes both ends of the link with it.
#[derive(Debug)]
pub(crate) struct Wired {
    pub(crate) netns: OwnedFd,
    pub(crate) ip: Ipv4Addr,
    pub(crate) mac: Mac,
    pub(crate) host_link: String,
}

/// Draws a name for the host side of a link.
pub(crate) fn link_name() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the kernel's random source never fails once booted");
    format!("veth{:07x}", u32::from_ne_bytes(bytes) >> 4)
}

/// Whether a name looks like one [`link_name`] drew.
pub(crate) fn is_link_name(name: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_prefix("veth").is_some_and(|rest| rest.len() == 7 && rest.bytes().all(hex))
}

/// Makes a namespace with nothing but loopback.
pub(crate) fn isolated() -> Result<OwnedFd, Error> {
    let (netns, mut route) = create()?;
    let mut batch = Batch::new();
    batch.set_up(LOOPBACK);
    route.apply(batch)?;
    Ok(netns)
}

/// A link into a namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plug<'a> {
    /// The bridge it joins.
    pub(crate) bridge: Bridge,
    /// Name of the bridge.
    pub(crate) bridge_name: &'a str,
    /// Maximum transmission unit, bytes.
    pub(crate) mtu: u32,
    /// Name on the host.
    pub(crate) host_link: &'a str,
    /// Name inside.
    pub(crate) inside: &'a str,
    /// Address inside.
    pub(crate) ip: Option<Ipv4Addr>,
    /// IPv6 address and prefix inside.
    pub(crate) ip6: Option<Ipv6Net>,
    /// Further link-local addresses.
    pub(crate) link_local: &'a [Ipv4Addr],
    /// Hardware address inside.
    pub(crate) mac: Mac,
    /// Keep it apart from the bridge's other ports.
    pub(crate) isolated: bool,
}

/// Makes a namespace with loopback and a link to the bridge, addressed, up and
/// with a default route.
pub(crate) fn wired(plug: &Plug<'_>) -> Result<Wired, Error> {
    let (netns, mut inside) = create()?;
    let ip = plug.ip.ok_or_else(|| Error::invalid("a network without address management keeps nothing ready"))?;
    let mut batch = Batch::new();
    batch.set_up(LOOPBACK);
    inside.apply(batch)?;
    self::plug(netns.as_fd(), &mut inside, plug)?;
    if let Some(gateway) = plug.bridge.address {
        set_gateway(&mut inside, Some(gateway.addr()))?;
    }
    Ok(Wired { netns, ip, mac: plug.mac, host_link: plug.host_link.to_owned() })
}

/// Puts a link into a namespace: addressed and up, without a default route.
/// `inside` is a socket in there. After an error the link may be half made.
pub(crate) fn plug(netns: BorrowedFd<'_>, inside: &mut Route, plug: &Plug<'_>) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.add_veth(&Veth {
        name: plug.host_link,
        master: plug.bridge.index,
        mtu: plug.mtu,
        peer_name: plug.inside,
        peer_hardware: plug.mac.0,
        peer_netns: netns,
    });
    if plug.isolated {
        batch.set_isolated(plug.host_link);
    }
    batch.set_port_up(plug.host_link);
    let mut outside = open_route()?;
    outside.apply(batch)?;
    let index = index_of(inside, plug.inside)?;
    let mut batch = Batch::new();
    if let Some(ip6) = plug.ip6 {
        let settings = [("disable_ipv6", "0"), ("ndisc_notify", "1")];
        let settings = settings.map(|(name, value)| (format!("net.ipv6.conf.IFNAME.{name}"), value.to_owned()));
        set_link_sysctls(netns, plug.inside, &settings)?;
        batch.add_address6(index, ip6.addr(), ip6.prefix_len());
    }
    if let (Some(ip), Some(address)) = (plug.ip, plug.bridge.address) {
        batch.add_address(index, ip, address.prefix_len());
    }
    for ip in plug.link_local {
        batch.add_address(index, *ip, 16);
    }
    batch.set_up(index);
    inside.apply(batch)?;
    wait_until_running(&mut outside, [plug.host_link, plug.bridge_name])?;
    if plug.ip6.is_some() {
        // Somebody else may have had the address: with `ndisc_notify` the
        // kernel tells the neighbours when the hardware address is set, also
        // to what it is. When the link came up nobody could hear it yet.
        let mut batch = Batch::new();
        batch.set_hardware(index, plug.mac.0);
        inside.apply(batch)?;
    }
    Ok(())
}

/// Points the default route at a gateway; without one there is no way out.
pub(crate) fn set_gateway(inside: &mut Route, gateway: Option<Ipv4Addr>) -> Result<(), Error> {
    let mut batch = Batch::new();
    match gateway {
        Some(gateway) => batch.add_route(None, gateway),
        None => batch.delete_default_route(),
    }
    const NO_SUCH_PROCESS: i32 = 3;
    match inside.apply(batch) {
        Err(error) if gateway.is_none() && error.errno() == NO_SUCH_PROCESS => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Points the IPv6 default route at a gateway.
pub(crate) fn set_gateway6(inside: &mut Route, gateway: Ipv6Addr) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.add_default_route6(gateway);
    Ok(inside.apply(batch)?)
}

/// The first free name of the form `eth0` in a namespace.
pub(crate) fn free_name(inside: &mut Route, prefix: &str) -> Result<String, Error> {
    let links = inside.links()?;
    let mut names = (0..).map(|number| format!("{prefix}{number}"));
    Ok(names.find(|name| links.iter().all(|link| link.name != *name)).expect("there are more numbers than links"))
}

/// Waits until links carry packets. The kernel activates them from a queue
/// after they came up; a first packet sent earlier is lost, and a lost SYN
/// costs a program a second. Asking makes the kernel (6.8 and later) do it at
/// once. Gives up silently: somebody may hold the link down on purpose.
fn wait_until_running(route: &mut Route, names: [&str; 2]) -> Result<(), Error> {
    const PATIENCE: Duration = Duration::from_millis(50);
    const PAUSE: Duration = Duration::from_micros(200);
    let start = Instant::now();
    for name in names {
        while route.link(name)?.is_some_and(|link| !link.running) && start.elapsed() < PATIENCE {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Gives the link inside another hardware address.
pub(crate) fn set_mac(wired: &mut Wired, mac: Mac) -> Result<(), Error> {
    let change = || {
        let mut route = open_route()?;
        let index = index_of(&mut route, INSIDE)?;
        let mut batch = Batch::new();
        batch.set_hardware(index, mac.0);
        route.apply(batch).map_err(Error::from)
    };
    netns::inside(wired.netns.as_fd(), change)
        .map_err(|error| Error::kernel("enter a container's network namespace", error))??;
    wired.mac = mac;
    Ok(())
}

/// Writes sysctls inside a namespace.
pub(crate) fn set_sysctls(netns: &OwnedFd, sysctls: &[(String, String)]) -> Result<(), Error> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let write = || {
        sysctls.iter().try_for_each(|(name, value)| {
            netns::write_sysctl(name, value)
                .map_err(|error| Error::Sysctl { name: name.clone(), why: error.to_string() })
        })
    };
    netns::inside(netns.as_fd(), write)
        .map_err(|error| Error::kernel("enter a container's network namespace", error))?
}

/// Writes sysctls of one link inside a namespace; `IFNAME` stands for it.
pub(crate) fn set_link_sysctls(netns: BorrowedFd<'_>, link: &str, sysctls: &[(String, String)]) -> Result<(), Error> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let escaped = link.replace('.', "/");
    let write = || {
        sysctls.iter().try_for_each(|(name, value)| {
            let own = name.replace("IFNAME", &escaped).replace("ifname", &escaped);
            netns::write_sysctl(&own, value)
                .map_err(|error| Error::Sysctl { name: name.clone(), why: error.to_string() })
        })
    };
    netns::inside(netns, write).map_err(|error| Error::kernel("enter a container's network namespace", error))?
}

fn index_of(route: &mut Route, name: &str) -> Result<u32, Error> {
    let link = route.link(name)?;
    link.map(|link| link.index).ok_or_else(|| {
        Error::kernel(format!("find {name} in a container's network namespace"), io::ErrorKind::NotFound.into())
    })
}

/// Opens an rtnetlink socket inside a namespace.
pub(crate) fn route_inside(netns: BorrowedFd<'_>) -> Result<Route, Error> {
    let opened = netns::inside(netns, Route::open).and_then(|route| route);
    opened.map_err(|error| Error::kernel("enter a container's network namespace", error))
}

/// Makes a namespace with the container's sysctls and an rtnetlink socket that
/// belongs to it.
pub(crate) fn create() -> Result<(OwnedFd, Route), Error> {
    netns::create(|| {
        for (name, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
            // For links that come later: loopback keeps ::1.
            ("net.ipv6.conf.default.disable_ipv6", "1"),
        ] {
            if let Err(error) = netns::write_sysctl(name, value) {
                tracing::debug!(%error, name, "a container's sysctl was not set");
            }
        }
        Route::open()
    })
    .map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::Feature {
            feature: "network namespaces (CONFIG_NET_NS)",
            hint: "containers can only use --network host",
        },
        _ => Error::kernel("make a network namespace", error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_link_names_are_recognised() {
        assert!(is_link_name(&link_name()));
        for other in ["veth0", "veth12345678", "vethABCDEF0", "eth0", "veth12345g7"] {
            assert!(!is_link_name(other), "{other}");
        }
    }
}
