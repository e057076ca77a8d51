//! The socket: applies transactions, reads tables and maps back.

use std::io;
use std::ops::ControlFlow;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::message::{self, BATCH_BEGIN, BATCH_END, SUBSYSTEM};
use super::object::{Change, Element, Family, Map, Transaction};
use crate::netlink::wire::{self, Writer};
use crate::netlink::{Connection, Error, Reply};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// An nf_tables socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nftables(Connection);

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// The label it was made with ([`Change::AddTable`]).
    pub label: Vec<u8>,
}

impl Nftables {
    /// Opens a socket in the calling thread's network namespace. Fails with
    /// `EPROTONOSUPPORT` on a kernel without netfilter netlink.
    pub fn open() -> io::Result<Nftables> {
        Connection::open(NETLINK_NETFILTER).map(Nftables)
    }

    /// Applies a transaction whole, or not at all: the error names the first
    /// change that was refused.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), Error> {
        if transaction.changes.is_empty() {
            return Ok(());
        }
        let count = transaction.changes.len() as u32;
        // Begin, the changes, end.
        let first = self.0.reserve(count + 2);
        let bytes = encode(transaction, first);
        let talk = |error| Error::new("talk to nf_tables", error);
        self.0.send(&bytes).map_err(talk)?;
        let mut refusal: Option<Error> = None;
        self.0
            .receive(first, |reply| {
                let Reply::Ack { sequence, errno, detail } = reply else {
                    return Ok(ControlFlow::Continue(()));
                };
                if errno != 0 && refusal.is_none() {
                    let source = io::Error::from_raw_os_error(errno);
                    let step = describe(transaction, sequence.wrapping_sub(first + 1));
                    refusal = Some(Error { step: step.into(), source, detail });
                }
                // An answer to the opening message is about the whole batch.
                let end = sequence == first || sequence >= first + count;
                Ok(if end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })
            .map_err(talk)?;
        refusal.map_or(Ok(()), Err)
    }

    /// Finds a table by name.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let mut found = None;
        let outcome = self.request(
            family,
            message::GET_TABLE,
            0,
            format!("find table {name}"),
            |writer| writer.text(1, name),
            |payload| {
                let label = wire::find(payload, 6).unwrap_or_default().to_vec();
                found = Some(Table { name: name.to_owned(), label });
            },
        );
        match outcome {
            Err(error) if error.errno() == libc::ENOENT => Ok(None),
            outcome => outcome.map(|()| found),
        }
    }

    /// Lists the entries of a map.
    pub fn elements(&mut self, family: Family, table: &str, map: &Map) -> Result<Vec<Element>, Error> {
        let mut elements = Vec::new();
        self.request(
            family,
            message::GET_ELEMENT,
            DUMP,
            format!("list map {} of table {table}", map.name),
            |writer| {
                writer.text(1, table);
                writer.text(2, &map.name);
            },
            |payload| {
                let list = wire::find(payload, 3).unwrap_or_default();
                elements.extend(wire::attributes(list).filter_map(|(_, element)| parse(element)));
            },
        )?;
        Ok(elements)
    }

    fn request(
        &mut self,
        family: Family,
        kind: u8,
        flags: u16,
        step: String,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let first = self.0.reserve(1);
        let mut writer = Writer::default();
        writer.message(number(kind), REQUEST | ACK | flags, first, (family.number(), 0), body);
        let failed = |error| Error::new(step, error);
        if let Err(error) = self.0.send(&writer.bytes) {
            return Err(failed(error));
        }
        let outcome = self.0.receive(first, |reply| {
            match reply {
                // Behind the nfnetlink header.
                Reply::Object { payload } => each(payload.get(4..).unwrap_or_default()),
                Reply::Ack { errno: 0, .. } | Reply::Done { errno: 0 } => {
                    return Ok(ControlFlow::Break(()));
                }
                Reply::Ack { errno, .. } | Reply::Done { errno } => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        outcome.map_err(failed)
    }
}

fn encode(transaction: &Transaction, first: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    let frame = (0, u16::from(SUBSYSTEM));
    writer.message(BATCH_BEGIN, REQUEST, first, frame, |_| {});
    let last = transaction.changes.len() - 1;
    for (index, change) in transaction.changes.iter().enumerate() {
        let (kind, flags) = change.header();
        let acknowledge = if index == last { ACK } else { 0 };
        let sequence = first + 1 + index as u32;
        let flags = REQUEST | flags | acknowledge;
        writer.message(number(kind), flags, sequence, (transaction.family.number(), 0), |writer| {
            change.write(&transaction.table, index as u32 + 1, writer);
        });
    }
    writer.message(BATCH_END, REQUEST, first + last as u32 + 2, frame, |_| {});
    writer.bytes
}

fn number(kind: u8) -> u16 {
    u16::from_be_bytes([SUBSYSTEM, kind])
}

fn describe(transaction: &Transaction, index: u32) -> String {
    match transaction.changes.get(index as usize) {
        Some(change) => {
            let one = Transaction { changes: vec![change.clone()], ..transaction.clone() };
            one.to_string().trim_end().replace('\n', ", ")
        }
        None => format!("change firewall table {}", transaction.table),
    }
}

fn parse(element: &[u8]) -> Option<Element> {
    let value = |kind| wire::find(element, kind).and_then(|value| wire::find(value, 1));
    Some(Element { key: value(1)?.to_vec(), data: value(2).unwrap_or_default().to_vec() })
}

impl Change {
    /// Whether a refusal of this change with `errno` means that the kernel
    /// lacks something, rather than that the change is wrong.
    pub fn needs_feature(&self, errno: i32) -> bool {
        matches!(self, Change::AddRule(..) | Change::AddChain(_) | Change::AddTable(_))
            && [libc::ENOENT, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT].contains(&errno)
    }
}
