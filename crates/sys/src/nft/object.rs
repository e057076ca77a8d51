//! Tables, chains, maps and the changes made to them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::message;
use super::statement::Statement;
use crate::netlink::wire::Writer;

const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const APPEND: u16 = 0x800;

/// Where a base chain hooks into the path of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own words")]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's own words")]
pub enum HookKind {
    Filter,
    Nat,
}

/// A base chain's place. Its policy is always accept: what is to be dropped
/// is said by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Kind.
    pub kind: HookKind,
    /// Place.
    pub point: HookPoint,
    /// Order among chains at the same place, lower first.
    pub priority: i32,
}

/// A chain; without a hook it is only jumped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Place, for a base chain.
    pub hook: Option<Hook>,
}

/// Type of one field of a map's key or data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the types' own names")]
pub enum Field {
    Protocol,
    Ipv4,
    /// 16 bytes.
    Ipv6,
    Port,
    /// Name of a link, 16 bytes.
    Link,
}

/// A map from concatenated fields to concatenated fields; a set without data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Name.
    pub name: String,
    /// Fields of the key.
    pub key: Vec<Field>,
    /// Fields of the data; none in a set.
    pub data: Vec<Field>,
}

/// One entry of a map or set: each field in four bytes ([`Field::Ipv6`] and
/// [`Field::Link`] in 16),
/// network byte order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// Key.
    pub key: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes the table with these bytes as its label, unless it exists.
    AddTable(Vec<u8>),
    /// Deletes the table with everything in it; it must exist.
    DeleteTable,
    /// Makes a map.
    AddMap(Map),
    /// Makes a chain.
    AddChain(Chain),
    /// Appends a rule to a chain.
    AddRule(String, Vec<Statement>),
    /// Adds entries to a map; an equal entry may exist, one with another value
    /// is refused.
    AddElements(Map, Vec<Element>),
    /// Removes entries from a map; each must exist.
    DeleteElements(Map, Vec<Element>),
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// IPv4.
    #[default]
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    /// Number in `linux/netfilter.h`.
    pub(super) fn number(self) -> u8 {
        match self {
            Family::Ip => 2,
            Family::Ip6 => 10,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }
}

/// Changes to one table, taken whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Family of the table.
    pub family: Family,
    /// Name of the table.
    pub table: String,
    /// Steps, in order.
    pub changes: Vec<Change>,
}

impl Field {
    /// Number of the type in `nft`'s register of types.
    fn number(self) -> u32 {
        match self {
            Field::Ipv4 => 7,
            Field::Ipv6 => 8,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Link => 41,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Field::Ipv4 => "ipv4_addr",
            Field::Ipv6 => "ipv6_addr",
            Field::Protocol => "inet_proto",
            Field::Port => "inet_service",
            Field::Link => "ifname",
        }
    }

    /// Bytes of the field in keys and data.
    fn width(self) -> usize {
        match self {
            Field::Ipv6 | Field::Link => 16,
            _ => 4,
        }
    }

    fn render(self, bytes: &[u8]) -> String {
        let byte = |index: usize| bytes.get(index).copied().unwrap_or_default();
        match self {
            Field::Ipv4 => Ipv4Addr::new(byte(0), byte(1), byte(2), byte(3)).to_string(),
            Field::Ipv6 => <[u8; 16]>::try_from(bytes).map(|ip| Ipv6Addr::from(ip).to_string()).unwrap_or_default(),
            Field::Port => u16::from_be_bytes([byte(0), byte(1)]).to_string(),
            Field::Protocol => protocol(byte(0)),
            Field::Link => {
                let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                format!("\"{}\"", String::from_utf8_lossy(name))
            }
        }
    }
}

/// A protocol of the IP header in `nft`'s words.
pub(super) fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

fn width(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.width() as u32).sum()
}

/// The number `nft` gives a concatenation: six bits per type.
fn concatenation(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | field.number())
}

impl Change {
    /// Type, flags and attributes of the change's message.
    pub(super) fn header(&self) -> (u8, u16) {
        match self {
            Change::AddTable(_) => (message::NEW_TABLE, CREATE),
            Change::DeleteTable => (message::DELETE_TABLE, 0),
            Change::AddMap(_) => (message::NEW_SET, CREATE | EXCLUSIVE),
            Change::AddChain(_) => (message::NEW_CHAIN, CREATE | EXCLUSIVE),
            Change::AddRule(..) => (message::NEW_RULE, CREATE | APPEND),
            Change::AddElements(..) => (message::NEW_ELEMENT, CREATE),
            Change::DeleteElements(..) => (message::DELETE_ELEMENT, 0),
        }
    }

    pub(super) fn write(&self, table: &str, id: u32, writer: &mut Writer) {
        writer.text(1, table);
        match self {
            Change::AddTable(label) => {
                writer.number(2, 0);
                writer.bytes(6, label);
            }
            Change::DeleteTable => {}
            Change::AddMap(map) => map.write(id, writer),
            Change::AddChain(chain) => chain.write(writer),
            Change::AddRule(chain, statements) => {
                writer.text(2, chain);
                writer.nested(4, |writer| {
                    for expression in statements.iter().flat_map(Statement::compile) {
                        expression.write(writer);
                    }
                });
            }
            Change::AddElements(map, elements) => write_elements(map, elements, !map.data.is_empty(), writer),
            Change::DeleteElements(map, elements) => write_elements(map, elements, false, writer),
        }
    }
}

impl Map {
    fn write(&self, id: u32, writer: &mut Writer) {
        /// `NFT_SET_MAP`.
        const IS_MAP: u32 = 8;
        writer.text(2, &self.name);
        writer.number(3, if self.data.is_empty() { 0 } else { IS_MAP });
        writer.number(4, concatenation(&self.key));
        writer.number(5, width(&self.key));
        if !self.data.is_empty() {
            writer.number(6, concatenation(&self.data));
            writer.number(7, width(&self.data));
        }
        writer.number(10, id);
        if self.key == [Field::Link] {
            // For nft alone: without it names are shown backwards. Type 0 (byte
            // order of the key), 4 bytes, 1 (the host's).
            let order = 1u32.to_ne_bytes();
            writer.bytes(13, &[&[0, 4], order.as_slice()].concat());
        }
    }
}

impl Chain {
    fn write(&self, writer: &mut Writer) {
        writer.text(3, &self.name);
        let Some(hook) = self.hook else { return };
        writer.text(7, hook.kind.name());
        writer.number(5, 1);
        writer.nested(4, |writer| {
            writer.number(1, hook.point as u32);
            writer.number(2, hook.priority.cast_unsigned());
        });
    }
}

fn write_elements(map: &Map, elements: &[Element], with_data: bool, writer: &mut Writer) {
    writer.text(2, &map.name);
    writer.nested(3, |writer| {
        for element in elements {
            writer.nested(1, |writer| {
                writer.nested(1, |writer| writer.bytes(1, &element.key));
                if with_data {
                    writer.nested(2, |writer| writer.bytes(1, &element.data));
                }
            });
        }
    });
}

impl HookKind {
    fn name(self) -> &'static str {
        match self {
            HookKind::Filter => "filter",
            HookKind::Nat => "nat",
        }
    }
}

impl HookPoint {
    fn name(self) -> &'static str {
        match self {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        }
    }
}

fn render_fields(fields: &[Field], bytes: &[u8]) -> String {
    let mut rest = bytes;
    let parts: Vec<String> = fields
        .iter()
        .map(|field| {
            let (own, later) = rest.split_at(field.width().min(rest.len()));
            rest = later;
            field.render(own)
        })
        .collect();
    parts.join(" . ")
}

fn render_types(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(" . ")
}

/// `nft -f` syntax, one line per change (and per element).
impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = format!("{} {}", self.family.name(), self.table);
        for change in &self.changes {
            match change {
                Change::AddTable(_) => writeln!(f, "add table {table}")?,
                Change::DeleteTable => writeln!(f, "delete table {table}")?,
                Change::AddMap(map) if map.data.is_empty() => {
                    writeln!(f, "add set {table} {} {{ type {} ; }}", map.name, render_types(&map.key))?;
                }
                Change::AddMap(map) => {
                    let (key, data) = (render_types(&map.key), render_types(&map.data));
                    writeln!(f, "add map {table} {} {{ type {key} : {data} ; }}", map.name)?;
                }
                Change::AddChain(Chain { name, hook: None }) => {
                    writeln!(f, "add chain {table} {name}")?;
                }
                Change::AddChain(Chain { name, hook: Some(hook) }) => {
                    let (kind, point) = (hook.kind.name(), hook.point.name());
                    let priority = hook.priority;
                    writeln!(
                        f,
                        "add chain {table} {name} {{ type {kind} hook {point} priority {priority} ; policy accept ; }}"
                    )?;
                }
                Change::AddRule(chain, statements) => {
                    let words: Vec<String> = statements.iter().map(Statement::to_string).collect();
                    writeln!(f, "add rule {table} {chain} {}", words.join(" "))?;
                }
                Change::AddElements(map, elements) => {
                    for element in elements {
                        let key = render_fields(&map.key, &element.key);
                        let data = match map.data.as_slice() {
                            [] => String::new(),
                            fields => format!(" : {}", render_fields(fields, &element.data)),
                        };
                        writeln!(f, "add element {table} {} {{ {key}{data} }}", map.name)?;
                    }
                }
                Change::DeleteElements(map, elements) => {
                    for element in elements {
                        let key = render_fields(&map.key, &element.key);
                        writeln!(f, "delete element {table} {} {{ {key} }}", map.name)?;
                    }
                }
            }
        }
        Ok(())
    }
}
