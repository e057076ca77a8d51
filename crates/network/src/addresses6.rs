//! Address management of IPv6 networks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;
use sha2::{Digest, Sha256};

use crate::Error;

/// Chooses the first /64 of this daemon's own local range (RFC 4193) that
/// overlaps nothing in `taken`. `instance` tells daemons apart.
pub(crate) fn choose(instance: &str, taken: &[Ipv6Net]) -> Option<Ipv6Net> {
    let hash = Sha256::digest(format!("budu {instance}").as_bytes());
    let [a, b, c, d, e] = [hash[0], hash[1], hash[2], hash[3], hash[4]];
    let base = u128::from_be_bytes([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let cuts =
        (0..=u128::from(u16::MAX)).map(|number| Ipv6Net::new_assert(Ipv6Addr::from_bits(base | number << 64), 64));
    let free = |cut: &Ipv6Net| !taken.iter().any(|net| net.contains(cut) || cut.contains(&net.trunc()));
    cuts.into_iter().find(free)
}

/// The first address of a range.
pub(crate) fn first(range: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(range.network().to_bits() | 1)
}

/// The addresses of one network. Hands out the one after the last.
#[derive(Debug)]
pub(crate) struct Addresses6 {
    network: String,
    subnet: Ipv6Net,
    range: Ipv6Net,
    reserved: BTreeSet<Ipv6Addr>,
    used: BTreeSet<Ipv6Addr>,
    next: u128,
}

impl Addresses6 {
    pub(crate) fn new(network: &str, subnet: Ipv6Net, range: Option<Ipv6Net>) -> Addresses6 {
        let range = range.unwrap_or(subnet);
        let next = range.network().to_bits();
        let (reserved, used) = (BTreeSet::new(), BTreeSet::new());
        Addresses6 { network: network.to_owned(), subnet, range, reserved, used, next }
    }

    /// Never hands this address out.
    pub(crate) fn reserve(&mut self, ip: IpAddr) {
        if let IpAddr::V6(ip) = ip {
            self.reserved.insert(ip);
        }
    }

    /// Takes the next free address.
    pub(crate) fn take(&mut self) -> Result<Ipv6Addr, Error> {
        let (first, last) = (self.range.network().to_bits(), self.range.broadcast().to_bits());
        let mut turn = (self.next..=last).chain(first..self.next).map(Ipv6Addr::from_bits);
        let Some(ip) = turn.find(|ip| self.is_free(*ip)) else {
            return Err(Error::Exhausted { network: self.network.clone(), subnet: self.subnet.into() });
        };
        self.used.insert(ip);
        self.next = if ip.to_bits() == last { first } else { ip.to_bits() + 1 };
        Ok(ip)
    }

    /// The first address of the subnet means all its routers (RFC 4291, 2.6.1).
    fn is_free(&self, ip: Ipv6Addr) -> bool {
        ip != self.subnet.network() && !self.reserved.contains(&ip) && !self.used.contains(&ip)
    }

    /// Takes a given address.
    pub(crate) fn take_given(&mut self, ip: Ipv6Addr) -> Result<(), Error> {
        if !self.subnet.contains(&ip) {
            let (network, subnet) = (self.network.clone(), self.subnet.into());
            return Err(Error::AddressOutside { ip: ip.into(), network, subnet });
        }
        if !self.is_free(ip) {
            return Err(Error::AddressInUse { ip: ip.into(), network: self.network.clone() });
        }
        self.used.insert(ip);
        Ok(())
    }

    /// Returns an address; unknown ones are ignored.
    pub(crate) fn release(&mut self, ip: Ipv6Addr) {
        self.used.remove(&ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ranges_are_ones_own_and_apart() {
        let first = choose("budu0", &[]).unwrap();
        assert_eq!((first.prefix_len(), first.addr().octets()[0]), (64, 0xfd));
        let second = choose("budu0", &[first]).unwrap();
        assert_ne!(first, second);
        assert_ne!(choose("other", &[]), Some(first));
        let mut addresses = Addresses6::new("n", first, None);
        addresses.reserve(super::first(first).into());
        assert_eq!(addresses.take().unwrap().to_bits() - first.addr().to_bits(), 2);
        assert!(addresses.take_given(super::first(first)).is_err());
        assert!(addresses.take_given(super::first(second)).is_err());
    }
}
