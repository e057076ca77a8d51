//! A synchronous conversation with the kernel's network side.
//!
//! - [`Route`]: links, addresses and routes. A [`Batch`] of steps goes out in
//!   one message to the kernel and comes back as one answer.
//! - [`crate::nft`] speaks nf_tables over the same connection type.
//!
//! A socket belongs to the network namespace of the thread that opened it and
//! stays there: a `Route` opened inside a namespace configures that namespace
//! from any thread, without entering it again.

mod connection;
mod dump;
mod moving;
mod route;
pub(crate) mod wire;

pub use connection::Error;
pub(crate) use connection::{Connection, Reply};
pub use dump::{Address, Link};
pub use route::{Batch, Route, Veth};
