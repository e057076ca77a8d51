//! Who is called what.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::{Dns, Endpoint, Sandbox};

/// The names of all containers, by network.
#[derive(Debug, Default)]
pub(crate) struct Book {
    zones: HashMap<String, Zone>,
}

/// The names of one network, in lower case.
#[derive(Debug, Default)]
struct Zone {
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
}

/// What one container sees of the book, and whom its name server asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Its networks, in the order in which they are searched.
    networks: Vec<Seen>,
    /// Whom to ask for other names.
    pub(crate) dns: Dns,
    /// Whether it has a way out. Without one, servers on the host's loopback
    /// would be a way around.
    pub(crate) external: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: String,
    name: String,
    links: BTreeMap<String, String>,
}

impl View {
    pub(crate) fn of(sandbox: &Sandbox) -> View {
        let mut endpoints: Vec<&Endpoint> = sandbox.endpoints.iter().filter(|endpoint| endpoint.resolves).collect();
        endpoints.sort_by(|a, b| b.gw_priority.cmp(&a.gw_priority).then_with(|| a.network_name.cmp(&b.network_name)));
        let lower = |(alias, name): (&String, &String)| (alias.to_lowercase(), name.to_lowercase());
        let seen = |endpoint: &Endpoint| Seen {
            id: endpoint.network_id.clone(),
            name: endpoint.network_name.to_lowercase(),
            links: endpoint.links.iter().map(lower).collect(),
        };
        View {
            networks: endpoints.into_iter().map(seen).collect(),
            dns: sandbox.dns.clone(),
            external: sandbox.gateway().is_some(),
        }
    }
}

impl Book {
    /// Enters the names of an endpoint.
    pub(crate) fn add(&mut self, endpoint: &Endpoint) {
        if !endpoint.resolves {
            return;
        }
        let zone = self.zones.entry(endpoint.network_id.clone()).or_default();
        for ip in endpoint.addresses() {
            for name in &endpoint.names {
                let addresses = zone.addresses.entry(name.to_lowercase()).or_default();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
            if let Some(first) = endpoint.names.first() {
                zone.names.insert(ip, format!("{first}.{}", endpoint.network_name));
            }
        }
    }

    /// Removes the names of an endpoint.
    pub(crate) fn remove(&mut self, endpoint: &Endpoint) {
        let Some(zone) = self.zones.get_mut(&endpoint.network_id) else { return };
        let own: Vec<IpAddr> = endpoint.addresses().collect();
        for name in &endpoint.names {
            let name = name.to_lowercase();
            if let Some(addresses) = zone.addresses.get_mut(&name) {
                addresses.retain(|other| !own.contains(other));
                if addresses.is_empty() {
                    zone.addresses.remove(&name);
                }
            }
        }
        zone.names.retain(|ip, _| !own.contains(ip));
        if zone.addresses.is_empty() {
            self.zones.remove(&endpoint.network_id);
        }
    }

    /// The addresses a name has for a container. A name `a.b.c` is looked for
    /// as it is, then as `a.b` in network `c`, then as `a` in network `b.c`.
    pub(crate) fn addresses(&self, view: &View, name: &str) -> Option<&[IpAddr]> {
        let name = name.to_lowercase();
        let dots = name.char_indices().rev().filter(|(_, letter)| *letter == '.').map(|(index, _)| index);
        let splits = dots.map(|index| (&name[..index], Some(&name[index + 1..])));
        std::iter::once((name.as_str(), None)).chain(splits).find_map(|(name, network)| self.find(view, name, network))
    }

    fn find(&self, view: &View, name: &str, network: Option<&str>) -> Option<&[IpAddr]> {
        let seen = || view.networks.iter().filter(|seen| network.is_none_or(|network| seen.name == network));
        let linked = seen().find_map(|seen| self.within(seen, seen.links.get(name)?));
        linked.or_else(|| seen().find_map(|seen| self.within(seen, name)))
    }

    fn within(&self, seen: &Seen, name: &str) -> Option<&[IpAddr]> {
        self.zones.get(&seen.id)?.addresses.get(name).map(Vec::as_slice)
    }

    /// What an address is called for a container.
    pub(crate) fn name(&self, view: &View, ip: IpAddr) -> Option<&str> {
        let mut zones = view.networks.iter().filter_map(|seen| self.zones.get(&seen.id));
        zones.find_map(|zone| zone.names.get(&ip)).map(String::as_str)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn endpoint(network: &str, ip: [u8; 4], names: &[&str]) -> Endpoint {
        Endpoint {
            network_id: format!("id-{network}"),
            network_name: network.into(),
            ip: Some(ip.into()),
            gateway: Some([10, 0, 0, 1].into()),
            names: names.iter().map(ToString::to_string).collect(),
            resolves: true,
            ..Endpoint::default()
        }
    }

    pub(crate) fn view(endpoints: Vec<Endpoint>) -> View {
        View::of(&Sandbox { endpoints, ..Sandbox::default() })
    }

    fn found(book: &Book, view: &View, name: &str) -> Vec<u8> {
        let addresses = book.addresses(view, name).unwrap_or_default();
        addresses.iter().map(|ip| if let IpAddr::V4(ip) = ip { ip.octets()[3] } else { 0 }).collect()
    }

    #[test]
    fn names_are_seen_on_shared_networks_only() {
        let mut book = Book::default();
        let db = endpoint("back", [10, 0, 0, 2], &["db-1", "db", "0123456789ab"]);
        book.add(&db);
        book.add(&endpoint("back", [10, 0, 0, 3], &["db-2", "db"]));
        book.add(&endpoint("a.b", [10, 0, 1, 2], &["x.y"]));
        let mine = view(vec![endpoint("back", [10, 0, 0, 9], &["me"]), endpoint("a.b", [10, 0, 1, 9], &["me"])]);
        assert_eq!(found(&book, &mine, "DB"), [2, 3]);
        assert_eq!(found(&book, &mine, "0123456789ab"), [2]);
        assert_eq!(found(&book, &mine, "db-2.back"), [3]);
        assert_eq!(found(&book, &mine, "x.y.a.b"), [2]);
        assert_eq!(found(&book, &mine, "db.front"), [0; 0]);
        assert_eq!(book.name(&mine, [10, 0, 0, 3].into()), Some("db-2.back"));
        let stranger = view(vec![endpoint("front", [10, 0, 2, 2], &["me"])]);
        assert_eq!(found(&book, &stranger, "db"), [0; 0]);
        book.remove(&db);
        assert_eq!(found(&book, &mine, "db"), [3]);
        assert_eq!(book.name(&mine, [10, 0, 0, 2].into()), None);
    }

    #[test]
    fn links_are_names_of_ones_own() {
        let mut book = Book::default();
        book.add(&endpoint("back", [10, 0, 0, 2], &["db-1"]));
        let mut own = endpoint("back", [10, 0, 0, 9], &["me"]);
        own.links.insert("Store".into(), "db-1".into());
        let mine = view(vec![own]);
        assert_eq!(found(&book, &mine, "store"), [2]);
        assert_eq!(found(&book, &mine, "store.back"), [2]);
        assert_eq!(found(&book, &view(vec![endpoint("back", [10, 0, 0, 8], &["other"])]), "store"), [0; 0]);
    }
}
