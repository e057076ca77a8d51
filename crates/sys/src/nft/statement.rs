//! The parts of a rule, in `nft`'s words.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::expression::{Expression, Register};
use super::object::Family;

const FIRST: Register = Register(1);
const SECOND: Register = Register(2);

/// State of a connection (`ct state`), combinable with `|` on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtState {
    /// Part of, or related to, a connection that is known.
    EstablishedOrRelated,
    /// Fits no known connection and opens none.
    Invalid,
}

/// History of a connection (`ct status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtStatus {
    /// Its destination was rewritten.
    Dnat,
}

/// One part of a rule: a condition or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statement {
    /// Came in by this link (or not).
    InLink(bool, String),
    /// Leaves by this link (or not).
    OutLink(bool, String),
    /// Came in by a link of this set.
    InLinkIn(String),
    /// Leaves by a link of this set.
    OutLinkIn(String),
    /// The pair of both links is in this set.
    LinksIn(String),
    /// Source lies in a network (or not).
    Source(bool, IpAddr, u8),
    /// Destination lies in a network (or not).
    Destination(bool, IpAddr, u8),
    /// Destination is an address of this host.
    DestinationIsLocal,
    /// Transport protocol (by number) and destination port.
    DestinationPort(u8, u16),
    /// State of the connection.
    CtState(CtState),
    /// History of the connection.
    CtStatus(CtStatus),
    /// Counts.
    Counter,
    /// Rewrites the destination to what the map holds for protocol,
    /// destination address and port; goes on if it holds nothing.
    DnatByAddress(Family, String),
    /// The same for protocol and port alone.
    DnatByPort(Family, String),
    /// Rewrites the destination to this address and port.
    DnatTo(Ipv4Addr, u16),
    /// Rewrites the source to the address of the outgoing link.
    Masquerade,
    /// Ends this chain's hook: pass.
    Accept,
    /// Ends everything: drop.
    Drop,
    /// Continues in another chain of the table.
    Jump(String),
}

impl Statement {
    /// Compiles to the kernel's instructions.
    pub fn compile(&self) -> Vec<Expression> {
        match self {
            Statement::InLink(equal, name) => link(6, *equal, name),
            Statement::OutLink(equal, name) => link(7, *equal, name),
            Statement::InLinkIn(set) => links(set, &[6]),
            Statement::OutLinkIn(set) => links(set, &[7]),
            Statement::LinksIn(set) => links(set, &[6, 7]),
            Statement::Source(equal, ip, prefix) => network([12, 8], *equal, *ip, *prefix),
            Statement::Destination(equal, ip, prefix) => network([16, 24], *equal, *ip, *prefix),
            // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR, RTN_LOCAL.
            Statement::DestinationIsLocal => vec![
                Expression::Fib { result: 3, flags: 2, to: FIRST },
                Expression::Compare { from: FIRST, equal: true, value: 2u32.to_ne_bytes().into() },
            ],
            Statement::DestinationPort(protocol, port) => vec![
                Expression::Meta { key: 16, to: FIRST },
                Expression::Compare { from: FIRST, equal: true, value: vec![*protocol] },
                Expression::Payload { base: 2, offset: 2, length: 2, to: FIRST },
                Expression::Compare { from: FIRST, equal: true, value: port.to_be_bytes().into() },
            ],
            Statement::CtState(state) => any_bit(0, state.mask()),
            Statement::CtStatus(CtStatus::Dnat) => any_bit(2, 0x20),
            Statement::Counter => vec![Expression::Counter],
            Statement::DnatByAddress(family, map) => dnat(*family, map, true),
            Statement::DnatByPort(family, map) => dnat(*family, map, false),
            Statement::DnatTo(ip, port) => vec![
                Expression::Load { to: FIRST, value: ip.octets().into() },
                Expression::Load { to: SECOND, value: port.to_be_bytes().into() },
                Expression::Dnat { family: Family::Ip.number(), address: FIRST, port: SECOND },
            ],
            Statement::Masquerade => vec![Expression::Masquerade],
            Statement::Accept => vec![Expression::Verdict { code: 1, chain: None }],
            Statement::Drop => vec![Expression::Verdict { code: 0, chain: None }],
            Statement::Jump(chain) => {
                vec![Expression::Verdict { code: -3, chain: Some(chain.clone()) }]
            }
        }
    }
}

impl CtState {
    /// Bits as nf_tables counts them: invalid 1, established 2, related 4.
    fn mask(self) -> u32 {
        match self {
            CtState::Invalid => 1,
            CtState::EstablishedOrRelated => 2 | 4,
        }
    }
}

fn link(key: u32, equal: bool, name: &str) -> Vec<Expression> {
    // Names are compared whole, with their padding to IFNAMSIZ.
    let mut value = name.as_bytes().to_vec();
    value.resize(16, 0);
    vec![Expression::Meta { key, to: FIRST }, Expression::Compare { from: FIRST, equal, value }]
}

/// Looks up the names of links, each in a register of 16 bytes.
fn links(set: &str, keys: &[u32]) -> Vec<Expression> {
    let loads = keys.iter().zip([FIRST, SECOND]).map(|(key, to)| Expression::Meta { key: *key, to });
    let lookup = Expression::Lookup { map: set.to_owned(), from: FIRST, to: None };
    loads.chain([lookup]).collect()
}

/// Compares an address of the network header, at one of two offsets: those of
/// IPv4 and IPv6.
fn network(offsets: [u32; 2], equal: bool, ip: IpAddr, prefix: u8) -> Vec<Expression> {
    let (offset, bytes): (u32, Vec<u8>) = match ip {
        IpAddr::V4(ip) => (offsets[0], ip.octets().into()),
        IpAddr::V6(ip) => (offsets[1], ip.octets().into()),
    };
    let bits = |index: usize| u32::from(prefix).saturating_sub(8 * index as u32).min(8);
    let mask: Vec<u8> = (0..bytes.len()).map(|index| (0xff00_u32 >> bits(index)) as u8).collect();
    let value = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    let mut code = vec![Expression::Payload { base: 1, offset, length: bytes.len() as u32, to: FIRST }];
    if mask.iter().any(|byte| *byte != 0xff) {
        code.push(Expression::Bitwise { from: FIRST, to: FIRST, mask });
    }
    code.push(Expression::Compare { from: FIRST, equal, value });
    code
}

fn any_bit(key: u32, mask: u32) -> Vec<Expression> {
    vec![
        Expression::Ct { key, to: FIRST },
        Expression::Bitwise { from: FIRST, to: FIRST, mask: mask.to_ne_bytes().into() },
        Expression::Compare { from: FIRST, equal: false, value: vec![0; 4] },
    ]
}

/// Builds the key in consecutive four-byte registers, from 8 on.
fn dnat(family: Family, map: &str, by_address: bool) -> Vec<Expression> {
    let (offset, registers) = match family {
        Family::Ip => (16, 1),
        Family::Ip6 => (24, 4),
    };
    let mut code = vec![Expression::Meta { key: 16, to: Register(8) }];
    let mut next = 9;
    if by_address {
        code.push(Expression::Payload { base: 1, offset, length: 4 * registers, to: Register(next) });
        next += registers;
    }
    code.push(Expression::Payload { base: 2, offset: 2, length: 2, to: Register(next) });
    code.push(Expression::Lookup { map: map.to_owned(), from: Register(8), to: Some(FIRST) });
    // The data: an address, then a port.
    code.push(Expression::Dnat { family: family.number(), address: Register(8), port: Register(8 + registers) });
    code
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |equal: &bool| if *equal { "" } else { "!= " };
        let net = |ip: &IpAddr, prefix: &u8| match (ip, prefix) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => ip.to_string(),
            (ip, prefix) => format!("{ip}/{prefix}"),
        };
        let kind = |ip: &IpAddr| if ip.is_ipv4() { "ip" } else { "ip6" };
        match self {
            Statement::InLink(equal, name) => write!(f, "iifname {}\"{name}\"", not(equal)),
            Statement::OutLink(equal, name) => write!(f, "oifname {}\"{name}\"", not(equal)),
            Statement::InLinkIn(set) => write!(f, "iifname @{set}"),
            Statement::OutLinkIn(set) => write!(f, "oifname @{set}"),
            Statement::LinksIn(set) => write!(f, "iifname . oifname @{set}"),
            Statement::Source(equal, ip, prefix) => {
                write!(f, "{} saddr {}{}", kind(ip), not(equal), net(ip, prefix))
            }
            Statement::Destination(equal, ip, prefix) => {
                write!(f, "{} daddr {}{}", kind(ip), not(equal), net(ip, prefix))
            }
            Statement::DestinationIsLocal => f.write_str("fib daddr type local"),
            Statement::DestinationPort(protocol, port) => {
                write!(f, "{} dport {port}", super::object::protocol(*protocol))
            }
            Statement::DnatTo(ip, port) => write!(f, "dnat to {ip}:{port}"),
            Statement::CtState(CtState::EstablishedOrRelated) => f.write_str("ct state established,related"),
            Statement::CtState(CtState::Invalid) => f.write_str("ct state invalid"),
            Statement::CtStatus(CtStatus::Dnat) => f.write_str("ct status dnat"),
            Statement::Counter => f.write_str("counter"),
            Statement::DnatByAddress(family, map) => {
                let ip = family.name();
                write!(f, "dnat {ip} to meta l4proto . {ip} daddr . th dport map @{map}")
            }
            Statement::DnatByPort(family, map) => {
                write!(f, "dnat {} to meta l4proto . th dport map @{map}", family.name())
            }
            Statement::Masquerade => f.write_str("masquerade"),
            Statement::Accept => f.write_str("accept"),
            Statement::Drop => f.write_str("drop"),
            Statement::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}
