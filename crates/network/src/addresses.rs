//! Address management: which range, and who has which address of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use crate::Error;

/// The local pools, in the order in which they are tried: ranges to cut
/// networks of a prefix length from.
pub(crate) fn default_pools() -> Vec<(Ipv4Net, u8)> {
    let sixteens = (17..=31).map(|second| (Ipv4Net::new_assert(Ipv4Addr::new(172, second, 0, 0), 16), 16));
    sixteens.chain([(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16), 20)]).collect()
}

/// Chooses the first network of the pools that overlaps nothing in `taken`,
/// and returns the bridge's address in it: the first one.
pub(crate) fn choose(pools: &[(Ipv4Net, u8)], taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let overlaps = |pool: &Ipv4Net| taken.iter().any(|net| net.contains(pool) || pool.contains(&net.trunc()));
    // A part of a range that is taken as a whole need not be looked at piece by piece.
    let free = |(base, _): &&(Ipv4Net, u8)| !taken.iter().any(|net| net.contains(base));
    let mut cuts = pools.iter().filter(free).flat_map(|(base, size)| base.subnets(*size).into_iter().flatten());
    let pool = cuts.find(|pool| !overlaps(pool))?;
    let first = Ipv4Addr::from_bits(pool.network().to_bits() + 1);
    Some(Ipv4Net::new_assert(first, pool.prefix_len()))
}

/// The first address of `range` that may be given out in `subnet`.
pub(crate) fn first_free(range: Ipv4Net, subnet: Ipv4Net, taken: &BTreeMap<String, IpAddr>) -> Option<Ipv4Addr> {
    let free = |ip: &Ipv4Addr| assignable(*ip, subnet) && !taken.values().any(|other| *other == IpAddr::V4(*ip));
    range_of(range).map(Ipv4Addr::from_bits).find(free)
}

fn range_of(range: Ipv4Net) -> std::ops::RangeInclusive<u32> {
    range.network().to_bits()..=range.broadcast().to_bits()
}

/// Whether a host may have the address: not that of the network itself, nor
/// its broadcast address.
fn assignable(ip: Ipv4Addr, subnet: Ipv4Net) -> bool {
    subnet.prefix_len() >= 31 || ip != subnet.network() && ip != subnet.broadcast()
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
    network: String,
    subnet: Ipv4Net,
    /// Addresses are handed out of this part of the subnet.
    range: Ipv4Net,
    /// The bridge's own, and those of hosts that are no containers.
    reserved: BTreeSet<Ipv4Addr>,
    used: BTreeSet<Ipv4Addr>,
    /// Bits of the address to try first.
    next: u32,
}

impl Addresses {
    pub(crate) fn new(network: &str, subnet: Ipv4Net, range: Option<Ipv4Net>) -> Addresses {
        let range = range.unwrap_or(subnet.trunc());
        Addresses {
            network: network.to_owned(),
            subnet: subnet.trunc(),
            range,
            reserved: BTreeSet::new(),
            used: BTreeSet::new(),
            next: range.network().to_bits(),
        }
    }

    /// Never hands this address out.
    pub(crate) fn reserve(&mut self, ip: Ipv4Addr) {
        self.reserved.insert(ip);
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr, Error> {
        let whole = range_of(self.range);
        // After a whole turn every address was seen once.
        let turn = (self.next..=*whole.end()).chain(*whole.start()..self.next);
        let mut turn = turn.map(Ipv4Addr::from_bits);
        let Some(ip) = turn.find(|ip| self.is_free(*ip)) else {
            return Err(Error::Exhausted { network: self.network.clone(), subnet: self.subnet.into() });
        };
        self.used.insert(ip);
        self.next = if ip.to_bits() == *whole.end() { *whole.start() } else { ip.to_bits() + 1 };
        Ok(ip)
    }

    fn is_free(&self, ip: Ipv4Addr) -> bool {
        assignable(ip, self.subnet) && !self.reserved.contains(&ip) && !self.used.contains(&ip)
    }

    /// Takes a given address.
    pub(crate) fn take_given(&mut self, ip: Ipv4Addr) -> Result<(), Error> {
        if !self.subnet.contains(&ip) || !assignable(ip, self.subnet) {
            return Err(Error::AddressOutside {
                ip: ip.into(),
                network: self.network.clone(),
                subnet: self.subnet.into(),
            });
        }
        if !self.is_free(ip) {
            return Err(Error::AddressInUse { ip: ip.into(), network: self.network.clone() });
        }
        self.used.insert(ip);
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
        let choose = |taken: &[Ipv4Net]| choose(&default_pools(), taken);
        assert_eq!(choose(&[]).unwrap(), net("172.17.0.1/16"));
        assert_eq!(choose(&[net("172.17.4.0/24")]).unwrap(), net("172.18.0.1/16"));
        // An address with host bits, and a route wider than the pool.
        assert_eq!(choose(&[net("172.17.0.1/16"), net("172.18.9.9/32")]).unwrap(), net("172.19.0.1/16"));
        assert_eq!(choose(&[net("172.16.0.0/12")]).unwrap(), net("192.168.0.1/20"));
        assert_eq!(choose(&[net("172.16.0.0/12"), net("192.168.1.0/24")]).unwrap(), net("192.168.16.1/20"));
        let all = [net("172.16.0.0/12"), net("192.168.0.0/16")];
        assert_eq!(choose(&all), None);
    }

    #[test]
    fn addresses_go_round_and_a_freed_one_rests() {
        let mut addresses = Addresses::new("bridge", net("10.0.0.0/29"), None);
        addresses.reserve(Ipv4Addr::new(10, 0, 0, 1));
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
        let mut addresses = Addresses::new("bridge", net("10.0.0.0/24"), None);
        addresses.reserve(Ipv4Addr::new(10, 0, 0, 1));
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
