//! nf_tables over netlink: tables, chains, rules and maps as plain data.
//!
//! A [`Transaction`] is a list of changes that the kernel takes whole or not
//! at all, without a moment in between. Its [`Display`](std::fmt::Display)
//! is the same list in the syntax of `nft -f`, which makes plans readable,
//! snapshots reviewable, and `nft` an oracle for the encoding.
//!
//! - [`Change`]: one step; [`Chain`], [`Map`], [`Element`]: what it is about.
//! - [`Statement`]: the parts of a rule. Each knows the kernel expressions it
//!   compiles to ([`Expression`]).
//! - [`Nftables`]: the socket; applies transactions and reads back.
//!
//! Values in keys and data of maps are in network byte order, each field
//! padded to four bytes as the kernel's registers are.

mod expression;
mod message;
mod object;
mod socket;
mod statement;

pub use expression::{Expression, Register};
pub use object::{Chain, Change, Element, Family, Field, Hook, HookKind, HookPoint, Map, Transaction};
pub use socket::{Nftables, Table};
pub use statement::{CtState, CtStatus, Statement};
