//! The firewall of one daemon as data: one table, fixed chains, two maps.
//!
//! `docs/decisions/0005-firewall-as-data.md` explains the choice; this file is
//! the plan, `firewall.rs` applies it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use budu_sys::nft::{
    Chain, Change, CtState, CtStatus, Element, Family, Field, Hook, HookKind, HookPoint, Map, Statement, Transaction,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use crate::PublishedPort;

/// What the fixed part depends on: it is replaced as a whole when a network
/// comes or goes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Name of the table.
    pub(crate) table: String,
    /// Networks that are in place.
    pub(crate) networks: Vec<Guarded>,
}

/// One network.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    /// Name of the bridge link.
    pub(crate) bridge: String,
    /// The gateway's address and prefix.
    pub(crate) address: Option<Ipv4Net>,
    /// The gateway's IPv6 address and prefix.
    pub(crate) address6: Option<Ipv6Net>,
    /// Masquerade what leaves the host.
    pub(crate) masquerade: bool,
    /// Its containers may talk to each other.
    pub(crate) talks: bool,
    /// Nothing goes in or out.
    pub(crate) internal: bool,
    /// All ports can be reached from outside.
    pub(crate) open: bool,
    /// The same over IPv6.
    pub(crate) open6: bool,
}

impl Guarded {
    fn address_of(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::Ip => self.address.map(IpNet::V4),
            Family::Ip6 => self.address6.map(IpNet::V6),
        }
    }

    fn is_open(&self, family: Family) -> bool {
        match family {
            Family::Ip => self.open,
            Family::Ip6 => self.open6,
        }
    }
}

/// Addresses of one link (RFC 4291, 2.5.6), with 10 bits.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// The host's own.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0));

/// Ports published on one host address.
pub(crate) fn by_address(family: Family) -> Map {
    let ip = address_field(family);
    Map { name: "ports".into(), key: vec![Field::Protocol, ip, Field::Port], data: vec![ip, Field::Port] }
}

/// Ports published on every host address.
pub(crate) fn by_port(family: Family) -> Map {
    let data = vec![address_field(family), Field::Port];
    Map { name: "ports-any".into(), key: vec![Field::Protocol, Field::Port], data }
}

fn address_field(family: Family) -> Field {
    match family {
        Family::Ip => Field::Ipv4,
        Family::Ip6 => Field::Ipv6,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// The element of a published port; the flag tells whether it belongs into
/// [`by_address`] (or else [`by_port`]).
fn element(port: &PublishedPort, container: IpAddr) -> (bool, Element) {
    let specific = !port.host_ip.is_unspecified();
    let mut key = vec![port.protocol.number(), 0, 0, 0];
    if specific {
        key.extend(octets(port.host_ip));
    }
    key.extend(port.host_port.to_be_bytes());
    key.extend([0; 2]);
    let mut data = octets(container);
    data.extend(port.container_port.to_be_bytes());
    data.extend([0; 2]);
    (specific, Element { key, data })
}

/// The elements of both tables.
#[derive(Debug, Default, Clone)]
pub(crate) struct Elements {
    pub(crate) ip: Maps,
    pub(crate) ip6: Maps,
}

impl Elements {
    /// The elements of a container's ports; `addresses` are those its ports
    /// are reached at, one of a family.
    pub(crate) fn of(ports: &[PublishedPort], addresses: &[IpAddr]) -> Elements {
        let mut elements = Elements::default();
        elements.extend(ports, addresses);
        elements
    }

    pub(crate) fn extend(&mut self, ports: &[PublishedPort], addresses: &[IpAddr]) {
        for port in ports {
            let six = port.host_ip.is_ipv6();
            let Some(address) = addresses.iter().find(|ip| ip.is_ipv6() == six) else { continue };
            let (specific, element) = element(port, *address);
            let maps = if six { &mut self.ip6 } else { &mut self.ip };
            if specific { maps.by_address.push(element) } else { maps.by_port.push(element) }
        }
    }

    /// What is in `self` and not in `other`.
    pub(crate) fn without(&self, other: &Elements) -> Elements {
        Elements { ip: self.ip.without(&other.ip), ip6: self.ip6.without(&other.ip6) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        [&self.ip, &self.ip6].iter().all(|maps| maps.by_address.is_empty() && maps.by_port.is_empty())
    }

    pub(crate) fn table(&self, family: Family) -> &Maps {
        match family {
            Family::Ip => &self.ip,
            Family::Ip6 => &self.ip6,
        }
    }
}

/// The elements of one table, sorted into its two maps.
#[derive(Debug, Default, Clone)]
pub(crate) struct Maps {
    pub(crate) by_address: Vec<Element>,
    pub(crate) by_port: Vec<Element>,
}

impl Maps {
    /// Adds those of `other` whose key is new.
    pub(crate) fn merge(&mut self, other: Maps) {
        let merge = |mine: &mut Vec<Element>, theirs: Vec<Element>| {
            for element in theirs {
                if mine.iter().all(|held| held.key != element.key) {
                    mine.push(element);
                }
            }
        };
        merge(&mut self.by_address, other.by_address);
        merge(&mut self.by_port, other.by_port);
    }

    /// What is in `self` and not in `other`.
    pub(crate) fn without(&self, other: &Maps) -> Maps {
        let rest = |mine: &[Element], theirs: &[Element]| {
            mine.iter().filter(|element| !theirs.contains(element)).cloned().collect()
        };
        Maps { by_address: rest(&self.by_address, &other.by_address), by_port: rest(&self.by_port, &other.by_port) }
    }

    pub(crate) fn add(&self, family: Family) -> Vec<Change> {
        self.changes(family, Change::AddElements)
    }

    pub(crate) fn delete(&self, family: Family) -> Vec<Change> {
        self.changes(family, Change::DeleteElements)
    }

    fn changes(&self, family: Family, change: fn(Map, Vec<Element>) -> Change) -> Vec<Change> {
        // One attribute holds at most 64 KiB: some hundred elements a step.
        const STEP: usize = 512;
        let steps = |map: Map, elements: &[Element]| {
            let chunks: Vec<Change> = elements.chunks(STEP).map(|chunk| change(map.clone(), chunk.to_vec())).collect();
            chunks
        };
        let mut changes = steps(by_address(family), &self.by_address);
        changes.extend(steps(by_port(family), &self.by_port));
        changes
    }
}

impl Plan {
    /// Identifies the fixed part: a table with another label was made by
    /// another version or for other networks and is replaced.
    pub(crate) fn label(&self, family: Family) -> Vec<u8> {
        let text = Transaction { family, table: self.table.clone(), changes: self.fixed(family) }.to_string();
        let mut label = b"budu:".to_vec();
        label.extend_from_slice(&Sha256::digest(text.as_bytes())[..16]);
        label
    }

    /// The whole table, to be made from nothing.
    pub(crate) fn make(&self, family: Family, elements: &Maps) -> Vec<Change> {
        let mut changes = vec![Change::AddTable(self.label(family))];
        changes.extend(self.fixed(family));
        changes.extend(elements.add(family));
        changes
    }

    /// Whether there is anything to guard.
    pub(crate) fn has(&self, family: Family) -> bool {
        family == Family::Ip || self.networks.iter().any(|network| network.address6.is_some())
    }

    fn fixed(&self, family: Family) -> Vec<Change> {
        let mut changes = vec![Change::AddMap(by_address(family)), Change::AddMap(by_port(family))];
        changes.extend(self.sets(family));
        changes.extend(self.raw(family));
        changes.extend(self.forward());
        changes.extend(publish(family));
        changes.extend(self.postrouting(family));
        changes
    }

    /// Sets of links, so that a packet is looked up once whatever the number
    /// of networks.
    fn sets(&self, family: Family) -> Vec<Change> {
        let padded = |network: &Guarded| {
            let mut name = network.bridge.as_bytes().to_vec();
            name.resize(16, 0);
            name
        };
        let set = |name: &str, width: usize, belongs: &dyn Fn(&Guarded) -> bool| {
            let set = Map { name: name.into(), key: vec![Field::Link; width], data: Vec::new() };
            let members = self.networks.iter().filter(|network| belongs(network));
            let elements = members.map(|network| Element { key: padded(network).repeat(width), data: Vec::new() });
            let elements: Vec<Element> = elements.collect();
            let fill = (!elements.is_empty()).then(|| Change::AddElements(set.clone(), elements));
            [Some(Change::AddMap(set)), fill].into_iter().flatten()
        };
        let sets = [
            set("bridges", 1, &|_| true),
            set("internal", 1, &|network| network.internal),
            set("open", 1, &|network| network.is_open(family) && !network.internal),
            set("within", 2, &|network| network.talks),
        ];
        sets.into_iter().flatten().collect()
    }

    /// What must never get in, before connection tracking sees it.
    fn raw(&self, family: Family) -> Vec<Change> {
        let chain = "raw-prerouting";
        let mut changes = vec![base(chain, HookKind::Filter, HookPoint::Prerouting, -300)];
        // The bridges accept 127.0.0.0/8 (route_localnet), for the sake of
        // ports published there; nobody but the host itself may use that.
        if family == Family::Ip {
            changes.push(rule(
                chain,
                [
                    Statement::InLink(false, "lo".into()),
                    Statement::Destination(true, LOOPBACK, 8),
                    Statement::Counter,
                    Statement::Drop,
                ],
            ));
        }
        // Container addresses are nobody's business outside. Without
        // masquerade they are, for the answers; then the forward chain decides.
        for network in self.networks.iter().filter(|network| network.masquerade && !network.is_open(family)) {
            let Some(address) = network.address_of(family) else { continue };
            let subnet = address.trunc();
            changes.push(rule(
                chain,
                [
                    Statement::Destination(true, subnet.addr(), subnet.prefix_len()),
                    Statement::InLink(false, network.bridge.clone()),
                    Statement::Destination(false, address.addr(), address.max_prefix_len()),
                    Statement::Counter,
                    Statement::Drop,
                ],
            ));
        }
        changes
    }

    fn forward(&self) -> Vec<Change> {
        let chain = "forward";
        let to_bridge = || Statement::OutLinkIn("bridges".into());
        vec![
            base(chain, HookKind::Filter, HookPoint::Forward, 0),
            rule(chain, [Statement::LinksIn("within".into()), Statement::Accept]),
            rule(chain, [Statement::InLinkIn("internal".into()), Statement::Counter, Statement::Drop]),
            rule(chain, [Statement::OutLinkIn("internal".into()), Statement::Counter, Statement::Drop]),
            rule(chain, [to_bridge(), Statement::CtState(CtState::EstablishedOrRelated), Statement::Accept]),
            rule(chain, [to_bridge(), Statement::CtStatus(CtStatus::Dnat), Statement::Accept]),
            rule(chain, [Statement::OutLinkIn("open".into()), Statement::Accept]),
            rule(chain, [to_bridge(), Statement::Counter, Statement::Drop]),
            rule(chain, [Statement::InLinkIn("bridges".into()), Statement::Accept]),
        ]
    }

    fn postrouting(&self, family: Family) -> Vec<Change> {
        let chain = "nat-postrouting";
        let mut changes = vec![base(chain, HookKind::Nat, HookPoint::Postrouting, 100)];
        // The host talking to a published port through its own loopback.
        if family == Family::Ip {
            let loopback = Statement::Source(true, LOOPBACK, 8);
            changes.push(rule(chain, [Statement::OutLinkIn("bridges".into()), loopback, Statement::Masquerade]));
        }
        // Only the first packet of a connection comes here.
        for network in &self.networks {
            let Some(address) = network.address_of(family) else { continue };
            let subnet = address.trunc();
            let from_containers = || Statement::Source(true, subnet.addr(), subnet.prefix_len());
            let outward = |equal| Statement::OutLink(equal, network.bridge.clone());
            if network.masquerade {
                changes.push(rule(chain, [from_containers(), outward(false), Statement::Masquerade]));
            }
            // A container talking to a published port of a container, maybe its
            // own: the answer must come back through the host.
            changes.push(rule(
                chain,
                [from_containers(), outward(true), Statement::CtStatus(CtStatus::Dnat), Statement::Masquerade],
            ));
        }
        changes
    }
}

/// Destination rewriting, for what comes in and for what the host sends.
///
/// Over IPv6, a packet from the host's loopback cannot leave it (there is no
/// `route_localnet`), and one from a link-local address is not answered from
/// behind the host: these are left to who listens on the host, which is nobody.
fn publish(family: Family) -> Vec<Change> {
    let mut changes = vec![
        Change::AddChain(Chain { name: "publish".into(), hook: None }),
        rule("publish", [Statement::DnatByAddress(family, by_address(family).name)]),
        rule("publish", [Statement::DnatByPort(family, by_port(family).name)]),
    ];
    let hooks = [("nat-prerouting", HookPoint::Prerouting), ("nat-output", HookPoint::Output)];
    for (chain, point) in hooks {
        changes.push(base(chain, HookKind::Nat, point, -100));
        let mut statements = vec![Statement::DestinationIsLocal];
        if family == Family::Ip6 {
            statements.push(Statement::Source(false, IpAddr::V6(LINK_LOCAL), 10));
            statements.push(Statement::Destination(false, IpAddr::V6(Ipv6Addr::LOCALHOST), 128));
        }
        statements.push(Statement::Jump("publish".into()));
        changes.push(Change::AddRule(chain.into(), statements));
    }
    changes
}

fn base(name: &str, kind: HookKind, point: HookPoint, priority: i32) -> Change {
    Change::AddChain(Chain { name: name.into(), hook: Some(Hook { kind, point, priority }) })
}

fn rule<const N: usize>(chain: &str, statements: [Statement; N]) -> Change {
    Change::AddRule(chain.into(), statements.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;
    use crate::firewall::Firewall;

    const SNAPSHOT: &str = include_str!("../tests/ruleset.nft");

    fn network(bridge: &str, address: &str) -> Guarded {
        Guarded {
            bridge: bridge.into(),
            address: Some(address.parse().unwrap()),
            address6: None,
            masquerade: true,
            talks: true,
            internal: false,
            open: false,
            open6: false,
        }
    }

    fn plan() -> Plan {
        let both = |bridge, address, address6: &str| Guarded {
            address6: Some(address6.parse().unwrap()),
            ..network(bridge, address)
        };
        let inner = Guarded { masquerade: false, internal: true, ..both("br-inner", "172.18.0.1/16", "fd00:9::1/64") };
        let apart = Guarded { talks: false, open: true, ..network("br-apart", "10.9.0.1/24") };
        let networks = vec![apart, inner, both("budu0", "172.17.0.1/16", "fd00:17::1/64")];
        Plan { table: "budu-budu0".into(), networks }
    }

    fn elements() -> Elements {
        let port = |host_ip: &str, host_port, protocol| PublishedPort {
            host_ip: host_ip.parse().unwrap(),
            host_port,
            container_port: 80,
            protocol,
        };
        let ports = [
            port("0.0.0.0", 8080, Protocol::Tcp),
            port("127.0.0.1", 8081, Protocol::Tcp),
            port("192.0.2.1", 5353, Protocol::Udp),
            port("::", 8080, Protocol::Tcp),
            port("2001:db8::1", 5353, Protocol::Udp),
        ];
        Elements::of(&ports, &["172.17.0.2".parse().unwrap(), "fd00:17::2".parse().unwrap()])
    }

    #[test]
    fn the_ruleset_reads_as_reviewed() {
        let text = |family| {
            let changes = plan().make(family, elements().table(family));
            Transaction { family, table: plan().table, changes }.to_string()
        };
        let text = text(Family::Ip) + &text(Family::Ip6);
        assert_eq!(text, SNAPSHOT, "review and update tests/ruleset.nft");
    }

    #[test]
    fn the_label_changes_with_the_fixed_part_only() {
        let fewer = Plan { networks: vec![network("budu0", "172.17.0.1/16")], ..plan() };
        assert_ne!(plan().label(Family::Ip), fewer.label(Family::Ip));
        let moved = Plan { networks: vec![network("budu0", "172.18.0.1/16")], ..plan() };
        assert_ne!(fewer.label(Family::Ip), moved.label(Family::Ip));
    }

    /// What the kernel holds after our netlink batch is what it holds after
    /// the `nft` program read the snapshot.
    #[test]
    fn nft_reads_back_what_it_would_have_made_itself() {
        use std::process::{Command, Output};
        fn listing(fill: impl FnOnce() + Send + 'static) -> Option<String> {
            let work = || -> Option<Output> {
                budu_sys::netns::unshare().ok()?;
                fill();
                Command::new("nft").args(["-s", "list", "ruleset"]).output().ok()
            };
            let output = std::thread::spawn(work).join().unwrap()?;
            assert!(output.status.success());
            Some(String::from_utf8(output.stdout).unwrap())
        }
        let ours = listing(|| {
            let mut firewall = Firewall::open(plan()).unwrap();
            firewall.reconcile(&elements()).unwrap();
            // A second time changes nothing.
            firewall.reconcile(&elements()).unwrap();
        });
        let Some(ours) = ours else {
            println!("skipped: no nft program, or no permission to make a network namespace");
            return;
        };
        let theirs = listing(|| {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ruleset.nft");
            assert!(Command::new("nft").args(["-f", file]).status().unwrap().success());
        });
        assert!(ours.contains("tcp . 127.0.0.1 . 8081 : 172.17.0.2 . 80"), "{ours}");
        assert!(ours.contains("udp . 2001:db8::1 . 5353 : fd00:17::2 . 80"), "{ours}");
        assert_eq!(Some(ours), theirs);
    }
}
