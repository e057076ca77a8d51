//! Address management: which range, and who has which address of it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::Error;

/// The local pools, in the order in which they are tried.
fn pools() -> impl Iterator<Item = Ipv4Net> {
    let sixteens = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let twenties = (0..16).map(|third| (Ipv4Addr::new(192, 168, third * 16, 0), 20));
    sixteens.chain(twenties).map(|(ip, prefix)| Ipv4Net::new_assert(ip, prefix))
}

/// Chooses the first local pool that overlaps nothing in `taken`, and returns
/// the bridge's address in it: the first one.
pub(crate) fn choose(taken: &[Ipv4Net]) -> Result<Ipv4Net, Error> {
    let overlaps = |pool: &Ipv4Net| taken.iter().any(|net| net.contains(pool) || pool.contains(&net.trunc()));
    let pool = pools().find(|pool| !overlaps(pool)).ok_or(Error::NoPool)?;
    let first = Ipv4Addr::from_bits(pool.network().to_bits() + 1);
    Ok(Ipv4Net::new_assert(first, pool.prefix_len()))
}

/// Checks an address given for the bridge: a host address with room for at
/// least one container.
pub(crate) fn check_bridge_address(bip: Ipv4Net) -> Result<Ipv4Net, Error> {
    let is_host = bip.addr() != bip.network() && bip.addr() != bip.broadcast();
    if is_host && bip.prefix_len() <= 30 { Ok(bip) } else { Err(Error::BridgeAddress { bip }) }
}

/// The addresses of one network. Hands out the one after the last, so that an
/// address rests as long as possible before somebody else gets it.
#[derive(Debug)]
pub(crate) struct Addresses {
    network: &'static str,
    /// Bridge address and prefix.
    bridge: Ipv4Net,
    used: BTreeSet<Ipv4Addr>,
    last: Ipv4Addr,
}

impl Addresses {
    pub(crate) fn new(network: &'static str, bridge: Ipv4Net) -> Addresses {
        Addresses { network, bridge, used: BTreeSet::new(), last: bridge.network() }
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr, Error> {
        let (first, end) = (self.bridge.network().to_bits() + 1, self.bridge.broadcast().to_bits());
        let size = end - first;
        // `last` starts one before `first`.
        let start = self.last.to_bits() + 1 - first;
        // After a whole turn every address was seen once.
        let free = (start..size)
            .chain(0..start)
            .map(|offset| Ipv4Addr::from_bits(first + offset))
            .find(|ip| *ip != self.bridge.addr() && !self.used.contains(ip));
        let Some(ip) = free else {
            let subnet = self.bridge.trunc();
            return Err(Error::Exhausted { network: self.network.into(), subnet });
        };
        self.used.insert(ip);
        self.last = ip;
        Ok(ip)
    }

    /// Takes a given address.
    pub(crate) fn take_given(&mut self, ip: Ipv4Addr) -> Result<(), Error> {
        let (bridge, network) = (self.bridge, self.network.to_owned());
        let inside = bridge.contains(&ip) && ip != bridge.network() && ip != bridge.broadcast();
        if !inside {
            return Err(Error::AddressOutside { ip, network, subnet: bridge.trunc() });
        }
        if ip == bridge.addr() || !self.used.insert(ip) {
            return Err(Error::AddressInUse { ip, network });
        }
        Ok(())
    }

    /// Returns an address; unknown ones are ignored.
    pub(crate) fn release(&mut self, ip: Ipv4Addr) {
        self.used.remove(&ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_pool_that_overlaps_nothing_is_chosen() {
        assert_eq!(choose(&[]).unwrap(), net("172.17.0.1/16"));
        assert_eq!(choose(&[net("172.17.4.0/24")]).unwrap(), net("172.18.0.1/16"));
        // An address with host bits, and a route wider than the pool.
        assert_eq!(choose(&[net("172.17.0.1/16"), net("172.18.9.9/32")]).unwrap(), net("172.19.0.1/16"));
        assert_eq!(choose(&[net("172.16.0.0/12")]).unwrap(), net("192.168.0.1/20"));
        assert_eq!(choose(&[net("172.16.0.0/12"), net("192.168.1.0/24")]).unwrap(), net("192.168.16.1/20"));
        let all = [net("172.16.0.0/12"), net("192.168.0.0/16")];
        assert!(matches!(choose(&all), Err(Error::NoPool)));
    }

    #[test]
    fn addresses_go_round_and_a_freed_one_rests() {
        let mut addresses = Addresses::new("bridge", net("10.0.0.1/29"));
        let taken: Vec<u8> = (0..3).map(|_| addresses.take().unwrap().octets()[3]).collect();
        assert_eq!(taken, [2, 3, 4]);
        addresses.release(Ipv4Addr::new(10, 0, 0, 2));
        let taken: Vec<u8> = (0..3).map(|_| addresses.take().unwrap().octets()[3]).collect();
        assert_eq!(taken, [5, 6, 2]);
        assert!(matches!(addresses.take(), Err(Error::Exhausted { .. })));
        addresses.release(Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(addresses.take().unwrap(), Ipv4Addr::new(10, 0, 0, 4));
    }

    #[test]
    fn given_addresses_must_be_free_and_inside() {
        let mut addresses = Addresses::new("bridge", net("10.0.0.1/24"));
        addresses.take_given(Ipv4Addr::new(10, 0, 0, 2)).unwrap();
        assert_eq!(addresses.take().unwrap(), Ipv4Addr::new(10, 0, 0, 3));
        for (ip, outside) in [("10.0.0.2", false), ("10.0.0.1", false), ("10.0.1.2", true), ("10.0.0.255", true)] {
            let error = addresses.take_given(ip.parse().unwrap()).unwrap_err();
            assert_eq!(matches!(error, Error::AddressOutside { .. }), outside, "{ip}");
        }
    }

    #[test]
    fn a_bridge_address_leaves_room() {
        for bad in ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/31", "10.0.0.1/32"] {
            assert!(check_bridge_address(net(bad)).is_err(), "{bad}");
        }
        assert!(check_bridge_address(net("10.0.0.254/24")).is_ok());
    }
}
