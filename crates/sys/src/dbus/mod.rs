//! The D-Bus protocol, as much of it as a client needs that calls methods and awaits signals (D-Bus specification 0.43).
//!
//! [`Connection`] is synchronous: [`Connection::call`] sends a message and waits for its answer; signals that arrive
//! meanwhile are kept for [`Connection::signal`]. [`Value`] is what messages are made of. What arrives is not trusted:
//! lengths, nesting and text are checked.

mod address;
mod connection;
mod message;
mod read;
mod value;

pub use address::{system_bus, user_bus};
pub use connection::Connection;
pub use message::{Kind, Message};
pub use value::Value;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such socket, or nobody behind it.
    #[error("cannot connect to D-Bus at {address}: {source}")]
    Connect {
        /// As configured.
        address: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("D-Bus connection: {0}")]
    Io(#[from] std::io::Error),
    /// The bus did not believe who we are.
    #[error("D-Bus authentication refused: {0}")]
    Refused(String),
    /// What came is no D-Bus.
    #[error("malformed D-Bus message: {0}")]
    Malformed(&'static str),
    /// No answer in time.
    #[error("D-Bus: no answer from {0} in time")]
    Timeout(String),
    /// The service answered with an error.
    #[error("{name}: {text}")]
    Answer {
        /// Such as `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// For people.
        text: String,
    },
}

impl Error {
    /// Whether the service answered with this error.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Error::Answer { name: answered, .. } if answered == name)
    }
}

#[cfg(test)]
mod tests;
