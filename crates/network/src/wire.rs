//! Makes a network namespace and wires it to the bridge.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use budu_sys::netlink::{Batch, Route, Veth};
use budu_sys::netns;

use crate::bridge::{Bridge, open_route};
use crate::{Config, Error, Mac};

/// Name of the link inside.
const INSIDE: &str = "eth0";
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

/// Makes a namespace with loopback and a link to the bridge, addressed and up.
pub(crate) fn wired(config: &Config, bridge: Bridge, ip: Ipv4Addr, mac: Mac, host_link: &str) -> Result<Wired, Error> {
    let (netns, mut inside) = create()?;
    let mut batch = Batch::new();
    batch.add_veth(&Veth {
        name: host_link,
        master: bridge.index,
        mtu: config.mtu,
        peer_name: INSIDE,
        peer_hardware: mac.0,
        peer_netns: netns.as_fd(),
    });
    batch.set_port_up(host_link);
    let mut outside = open_route()?;
    outside.apply(batch)?;

    let index = inside_index(&mut inside)?;
    let mut batch = Batch::new();
    batch.set_up(LOOPBACK);
    batch.add_address(index, ip, bridge.address.prefix_len());
    batch.set_up(index);
    batch.add_route(None, bridge.address.addr());
    inside.apply(batch)?;
    wait_until_running(&mut outside, [host_link, &config.bridge])?;
    Ok(Wired { netns, ip, mac, host_link: host_link.to_owned() })
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
        let index = inside_index(&mut route)?;
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

fn inside_index(route: &mut Route) -> Result<u32, Error> {
    let link = route.link(INSIDE)?;
    link.map(|link| link.index)
        .ok_or_else(|| Error::kernel("find eth0 in a new network namespace", io::ErrorKind::NotFound.into()))
}

/// Makes a namespace with the container's sysctls and an rtnetlink socket that
/// belongs to it.
fn create() -> Result<(OwnedFd, Route), Error> {
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

    /// Prints what each step costs; run with `--ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn steps_in_microseconds() {
        std::thread::spawn(|| {
            netns::unshare().unwrap();
            let config = Config { ip_forward: false, ..Config::default() };
            let bridge = crate::bridge::ensure(&config).unwrap();
            let mut steps: Vec<(&str, Vec<Duration>)> = Vec::new();
            let mut kept = Vec::new();
            for round in 0..40u8 {
                let ip = Ipv4Addr::new(172, 17, 1, round);
                let name = link_name();
                let mut number = 0;
                let mut start = Instant::now();
                let mut note = |what: &'static str| {
                    if steps.len() <= number {
                        steps.push((what, Vec::new()));
                    }
                    steps[number].1.push(start.elapsed());
                    number += 1;
                    start = Instant::now();
                };
                let bare = netns::create(|| Ok(())).unwrap();
                note("bare namespace on a new thread");
                let (netns, mut inside) = create().unwrap();
                note("namespace, three sysctls, socket");
                let mut route = open_route().unwrap();
                note("host socket");
                let mut batch = Batch::new();
                batch.add_veth(&Veth {
                    name: &name,
                    master: bridge.index,
                    mtu: 1500,
                    peer_name: INSIDE,
                    peer_hardware: Mac::of(ip).0,
                    peer_netns: netns.as_fd(),
                });
                route.apply(batch).unwrap();
                note("veth pair, enslaved");
                let mut batch = Batch::new();
                batch.set_port_up(&name);
                route.apply(batch).unwrap();
                note("port up");
                let index = inside_index(&mut inside).unwrap();
                note("index inside");
                let mut batch = Batch::new();
                batch.set_up(LOOPBACK);
                inside.apply(batch).unwrap();
                note("lo up");
                let mut batch = Batch::new();
                batch.add_address(index, ip, 16);
                inside.apply(batch).unwrap();
                note("address");
                let mut batch = Batch::new();
                batch.set_up(index);
                inside.apply(batch).unwrap();
                note("eth0 up");
                let mut batch = Batch::new();
                batch.add_route(None, bridge.address.addr());
                inside.apply(batch).unwrap();
                note("default route");
                wait_until_running(&mut route, [&name, &config.bridge]).unwrap();
                note("both running");
                let mut batch = Batch::new();
                batch.set_hairpin(&name);
                route.apply(batch).unwrap();
                note("hairpin");
                kept.push((netns, inside));
                drop(bare);
                note("drop a bare namespace's descriptor");
            }
            for (what, mut times) in steps {
                times.sort();
                let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
                println!("{:5} {:5} {:5}  {what}", at(10), at(50), at(90));
            }
        })
        .join()
        .unwrap();
    }
}
