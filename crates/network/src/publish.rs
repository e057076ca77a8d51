//! Published ports of a container: which host ports are held for it, and that
//! they lead to the addresses it has now.

use std::net::{IpAddr, Ipv6Addr};

use budu_sys::netlink::{Batch, Route};

use crate::bridge::open_route;
use crate::flows::forget_flows;
use crate::reserve::{self, Reservation};
use crate::ruleset::Elements;
use crate::{Error, HostPort, Networks, PortRequest, PublishedPort, Sandbox, wire};

/// A host port of a container that is, or will be, held.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It has it already.
    Kept(PublishedPort),
    Fresh(Reservation),
}

/// How a container can be reached from outside.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    /// Host address for wishes that name none, if it is reached over IPv4.
    ip: Option<IpAddr>,
    /// The same over IPv6.
    ip6: Option<IpAddr>,
    /// Whether it is reached over IPv6 where a wish says so.
    six: bool,
}

impl Networks {
    /// Reserves the host ports, holds the sandbox and makes the ports work.
    pub(crate) fn publish(&self, sandbox: &mut Sandbox) -> Result<(), Error> {
        let claims = self.claims(sandbox, &[])?;
        sandbox.ports = claims.iter().map(Claim::port).collect();
        let fresh = claims.into_iter().filter_map(|claim| match claim {
            Claim::Fresh(reservation) => Some(reservation),
            Claim::Kept(_) => None,
        });
        // Held before published: a concurrent clean-up sees the owner.
        self.hold(sandbox.clone(), fresh.collect())?;
        self.open_ports(sandbox).map_err(|source| not_published(sandbox, source))
    }

    /// After a network came or went: the default routes and the published
    /// ports follow the gateways. The sandbox is held as it is afterwards.
    pub(crate) fn move_gateway(&self, before: &Sandbox, after: &mut Sandbox, inside: &mut Route) -> Result<(), Error> {
        let place = |sandbox: &Sandbox| sandbox.gateway().map(|endpoint| endpoint.endpoint_id.clone());
        let place6 = |sandbox: &Sandbox| sandbox.gateway6().map(|endpoint| endpoint.endpoint_id.clone());
        let (moved, moved6) = (place(before) != place(after), place6(before) != place6(after));
        if !moved && !moved6 {
            return self.replace(after, None).map(drop);
        }
        let claims = self.claims(after, &before.ports)?;
        after.ports = claims.iter().map(Claim::port).collect();
        // Not ours any more before they are taken away; and only after that
        // may somebody else take the host ports.
        let given_up = self.replace(after, Some(claims))?;
        let stale = elements(before).without(&elements(after));
        if !stale.is_empty() {
            self.core.withdraw(&stale)?;
        }
        drop(given_up);
        if moved {
            wire::set_gateway(inside, after.gateway().and_then(|endpoint| endpoint.gateway))?;
        }
        // Without a new one the route went with its link.
        if let Some(gateway) = after.gateway6().and_then(|endpoint| endpoint.gateway6).filter(|_| moved6) {
            wire::set_gateway6(inside, gateway)?;
        }
        self.open_ports(after)
    }

    /// Holds a sandbox in place of the one that is held. Returns reservations
    /// that are not needed any more.
    pub(crate) fn replace(&self, sandbox: &Sandbox, claims: Option<Vec<Claim>>) -> Result<Vec<Reservation>, Error> {
        let mut state = self.core.state();
        state.admit(sandbox)?;
        let Some(held) = state.sandboxes.get_mut(&sandbox.container) else { return Ok(Vec::new()) };
        held.sandbox = sandbox.clone();
        let Some(claims) = claims else { return Ok(Vec::new()) };
        let mut old = std::mem::take(&mut held.reservations);
        for claim in claims {
            let reservation = match claim {
                Claim::Fresh(reservation) => Some(reservation),
                Claim::Kept(port) => old.iter().position(|held| held.port == port).map(|index| old.swap_remove(index)),
            };
            held.reservations.extend(reservation);
        }
        Ok(old)
    }

    /// Reserves what is wished and not among the ports it has. A port wished
    /// for both versions of IP is the same number in both.
    fn claims(&self, sandbox: &Sandbox, has: &[PublishedPort]) -> Result<Vec<Claim>, Error> {
        let reach = self.reach(sandbox)?;
        let mut has = has.to_vec();
        let mut claims: Vec<Claim> = Vec::new();
        let mut state = self.core.state();
        let mut ephemeral = state.ephemeral;
        for wish in &sandbox.wishes {
            let mut missing = reach.hosts(wish).map_err(|source| not_published(sandbox, source))?;
            let mut kept = None;
            missing.retain(|ip| match has.iter().position(|port| grants(port, wish, *ip)) {
                None => true,
                Some(index) => {
                    let port = has.remove(index);
                    kept = Some(port.host_port);
                    claims.push(Claim::Kept(port));
                    false
                }
            });
            let ours = |ip, port, protocol| {
                let same = |held: PublishedPort| held.host_port == port && held.protocol == protocol;
                claims.iter().any(|claim| same(claim.port())) || state.publishes(ip, port, protocol)
            };
            let same = kept.map(|port| PortRequest { host_port: HostPort::Fixed(port), ..wish.clone() });
            let reserved = same.and_then(|same| reserve::reserve(&same, &missing, &ours, &mut ephemeral).ok());
            let reserved = match reserved {
                Some(reserved) => reserved,
                None => reserve::reserve(wish, &missing, &ours, &mut ephemeral)
                    .map_err(|source| not_published(sandbox, source))?,
            };
            claims.extend(reserved.into_iter().map(Claim::Fresh));
        }
        state.ephemeral = ephemeral;
        Ok(claims)
    }

    fn reach(&self, sandbox: &Sandbox) -> Result<Reach, Error> {
        let mut state = self.core.state();
        let default = self.core.config.default_bind_ip;
        let mut bind = |network: &str| {
            let wished = state.place(network)?.definition.bind_ip();
            Ok::<_, Error>(wished.unwrap_or(default))
        };
        let mut reach = Reach::default();
        if let Some(gateway) = sandbox.gateway() {
            reach.ip = Some(bind(&gateway.network_id)?.into());
        }
        if let Some(gateway) = sandbox.gateway6().filter(|endpoint| endpoint.ip6.is_some()) {
            reach.six = true;
            // Who says where on IPv4 does not mean everywhere on IPv6.
            reach.ip6 = bind(&gateway.network_id)?.is_unspecified().then_some(Ipv6Addr::UNSPECIFIED.into());
        }
        Ok(reach)
    }

    fn open_ports(&self, sandbox: &Sandbox) -> Result<(), Error> {
        if sandbox.ports.is_empty() {
            return Ok(());
        }
        // A container that calls its own published port gets its frames back
        // through the port of the bridge they came from.
        let mut batch = Batch::new();
        let gateways = [sandbox.gateway(), sandbox.gateway6()];
        for gateway in gateways.iter().flatten() {
            batch.set_hairpin(&gateway.host_link);
        }
        open_route()?.apply(batch)?;
        self.core.publish(&elements(sandbox))?;
        forget_flows(&sandbox.ports);
        Ok(())
    }
}

impl Claim {
    fn port(&self) -> PublishedPort {
        match self {
            Claim::Kept(port) => *port,
            Claim::Fresh(reservation) => reservation.port,
        }
    }
}

impl Reach {
    /// The host addresses a wish is about.
    fn hosts(&self, wish: &PortRequest) -> Result<Vec<IpAddr>, Error> {
        match wish.host_ip {
            None => Ok(self.ip.into_iter().chain(self.ip6).collect()),
            Some(ip) if ip.is_ipv4() => Ok(self.ip.map(|_| ip).into_iter().collect()),
            // Packets of the host's own ::1 cannot be led elsewhere.
            Some(ip) if self.six && !ip.is_loopback() => Ok(vec![ip]),
            Some(_) if self.ip.is_none() && !self.six => Ok(Vec::new()),
            Some(ip) => Err(Error::Ipv6Publish { ip }),
        }
    }
}

/// Whether a port that is held is what a wish asks for on a host address.
fn grants(port: &PublishedPort, wish: &PortRequest, ip: IpAddr) -> bool {
    let number = match wish.host_port {
        HostPort::Fixed(0) | HostPort::Ephemeral => true,
        HostPort::Fixed(number) => number == port.host_port,
        HostPort::Range(first, last) => (first..=last).contains(&port.host_port),
    };
    // Where a wish names no address, the one it got once is as good.
    let host = match wish.host_ip {
        Some(_) => port.host_ip == ip,
        None => port.host_ip.is_ipv4() == ip.is_ipv4(),
    };
    number && host && port.container_port == wish.container_port && port.protocol == wish.protocol
}

/// The firewall elements of a sandbox.
pub(crate) fn elements(sandbox: &Sandbox) -> Elements {
    Elements::of(&sandbox.ports, &sandbox.reached_at())
}

fn not_published(sandbox: &Sandbox, source: Error) -> Error {
    let endpoint_id = sandbox.gateway().map(|endpoint| endpoint.endpoint_id.clone()).unwrap_or_default();
    Error::Publish { name: sandbox.name.clone(), endpoint_id, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    fn wish(host_ip: Option<&str>, host_port: HostPort) -> PortRequest {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortRequest { host_ip, host_port, container_port: 80, protocol: Protocol::Tcp }
    }

    #[test]
    fn a_wish_is_about_the_versions_of_ip_it_can_be_reached_by() {
        let ip = |text: &str| Some(text.parse().unwrap());
        let both = Reach { ip: ip("0.0.0.0"), ip6: ip("::"), six: true };
        let careful = Reach { ip: ip("192.0.2.1"), ip6: None, six: true };
        let four = Reach { ip: ip("0.0.0.0"), ip6: None, six: false };
        for (reach, host_ip, expected) in [
            (both, None, Some(vec!["0.0.0.0", "::"])),
            (both, Some("0.0.0.0"), Some(vec!["0.0.0.0"])),
            (both, Some("::"), Some(vec!["::"])),
            (both, Some("::1"), None),
            (careful, None, Some(vec!["192.0.2.1"])),
            (careful, Some("2001:db8::1"), Some(vec!["2001:db8::1"])),
            (four, None, Some(vec!["0.0.0.0"])),
            (four, Some("::"), None),
            (Reach::default(), Some("::"), Some(vec![])),
        ] {
            let hosts = reach.hosts(&wish(host_ip, HostPort::Ephemeral)).ok();
            let hosts = hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(
                hosts,
                expected.map(|list| list.into_iter().map(str::to_owned).collect()),
                "{reach:?} {host_ip:?}"
            );
        }
    }

    #[test]
    fn a_port_is_kept_for_the_wish_that_got_it() {
        let port = PublishedPort {
            host_ip: "127.0.0.1".parse().unwrap(),
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let (any, any6): (IpAddr, IpAddr) = ("0.0.0.0".parse().unwrap(), "::".parse().unwrap());
        assert!(grants(&port, &wish(None, HostPort::Ephemeral), any));
        assert!(grants(&port, &wish(None, HostPort::Range(8000, 8080)), any));
        assert!(!grants(&port, &wish(None, HostPort::Ephemeral), any6));
        assert!(!grants(&port, &wish(None, HostPort::Fixed(81)), any));
        assert!(!grants(&port, &wish(Some("0.0.0.0"), HostPort::Fixed(8080)), any));
    }
}
