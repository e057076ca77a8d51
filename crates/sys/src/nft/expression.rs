//! The instructions a rule is made of, as the kernel knows them.

use crate::netlink::wire::Writer;

/// A register: 0 is the verdict, 1 to 4 hold 16 bytes each, 8 to 23 the same
/// bytes in fours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u32);

/// One instruction. Numbers are those of `linux/netfilter/nf_tables.h`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the kernel's own")]
pub enum Expression {
    /// Loads packet metadata.
    Meta { key: u32, to: Register },
    /// Loads bytes of a header (`base` 1: network, 2: transport).
    Payload { base: u32, offset: u32, length: u32, to: Register },
    /// Loads a property of the connection.
    Ct { key: u32, to: Register },
    /// Looks an address up in the routing table.
    Fib { result: u32, flags: u32, to: Register },
    /// `to = (from & mask) ^ 0`.
    Bitwise { from: Register, to: Register, mask: Vec<u8> },
    /// Goes on only if the register equals (or not) the value.
    Compare { from: Register, equal: bool, value: Vec<u8> },
    /// Looks a key up in a map or set; goes on only if it is there. A map's
    /// value is loaded.
    Lookup { map: String, from: Register, to: Option<Register> },
    /// Loads a constant.
    Load { to: Register, value: Vec<u8> },
    /// Sets the verdict: accept 1, drop 0, jump -3 (with a chain).
    Verdict { code: i32, chain: Option<String> },
    /// Counts packets and bytes.
    Counter,
    /// Rewrites the destination to address and port in registers.
    Dnat { family: u8, address: Register, port: Register },
    /// Rewrites the source to the address of the outgoing link.
    Masquerade,
}

impl Expression {
    /// The kernel's name of the expression type.
    pub fn name(&self) -> &'static str {
        match self {
            Expression::Meta { .. } => "meta",
            Expression::Payload { .. } => "payload",
            Expression::Ct { .. } => "ct",
            Expression::Fib { .. } => "fib",
            Expression::Bitwise { .. } => "bitwise",
            Expression::Compare { .. } => "cmp",
            Expression::Lookup { .. } => "lookup",
            Expression::Verdict { .. } | Expression::Load { .. } => "immediate",
            Expression::Counter => "counter",
            Expression::Dnat { .. } => "nat",
            Expression::Masquerade => "masq",
        }
    }

    /// Writes `NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA }`.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.nested(1, |writer| {
            writer.text(1, self.name());
            writer.nested(2, |writer| self.write_data(writer));
        });
    }

    fn write_data(&self, writer: &mut Writer) {
        match self {
            Expression::Meta { key, to } | Expression::Ct { key, to } => {
                writer.number(1, to.0);
                writer.number(2, *key);
            }
            Expression::Payload { base, offset, length, to } => {
                writer.number(1, to.0);
                writer.number(2, *base);
                writer.number(3, *offset);
                writer.number(4, *length);
            }
            Expression::Fib { result, flags, to } => {
                writer.number(1, to.0);
                writer.number(2, *result);
                writer.number(3, *flags);
            }
            Expression::Bitwise { from, to, mask } => {
                writer.number(1, from.0);
                writer.number(2, to.0);
                writer.number(3, mask.len() as u32);
                writer.nested(4, |writer| writer.bytes(1, mask));
                writer.nested(5, |writer| writer.bytes(1, &vec![0; mask.len()]));
            }
            Expression::Compare { from, equal, value } => {
                writer.number(1, from.0);
                writer.number(2, u32::from(!equal));
                writer.nested(3, |writer| writer.bytes(1, value));
            }
            Expression::Lookup { map, from, to } => {
                writer.text(1, map);
                writer.number(2, from.0);
                if let Some(to) = to {
                    writer.number(3, to.0);
                }
            }
            Expression::Load { to, value } => {
                writer.number(1, to.0);
                writer.nested(2, |writer| writer.bytes(1, value));
            }
            Expression::Verdict { code, chain } => {
                writer.number(1, 0);
                writer.nested(2, |writer| {
                    writer.nested(2, |writer| {
                        writer.number(1, code.cast_unsigned());
                        if let Some(chain) = chain {
                            writer.text(2, chain);
                        }
                    });
                });
            }
            Expression::Dnat { family, address, port } => {
                writer.number(1, 1);
                writer.number(2, u32::from(*family));
                writer.number(3, address.0);
                writer.number(5, port.0);
            }
            Expression::Counter | Expression::Masquerade => {}
        }
    }
}
