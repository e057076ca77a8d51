//! The closed list of error classes.

/// Why a request was refused. Every library error maps to one of these; the
/// daemon alone turns a class into an HTTP status, the command line alone into
/// an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request itself is wrong: bad value, missing field (400).
    InvalidArgument,
    /// Credentials are missing or wrong (401).
    Unauthorized,
    /// Understood, but not allowed (403).
    Forbidden,
    /// The named thing does not exist (404).
    NotFound,
    /// The thing exists but is in a state that forbids the request (409).
    Conflict,
    /// Nothing to do: already in the wished state (304).
    NotModified,
    /// The body or a field is larger than allowed (413).
    TooLarge,
    /// A feature Budu does not have yet (501).
    NotImplemented,
    /// Somebody we depend on did not answer (503).
    Unavailable,
    /// The client went away.
    Canceled,
    /// Anything else (500).
    Internal,
}

/// An error that knows its class.
pub trait Classified: std::error::Error {
    /// Returns the class that decides HTTP status and exit status.
    fn class(&self) -> ErrorClass;
}
