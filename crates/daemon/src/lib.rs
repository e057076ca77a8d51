//! The daemon: one process that listens and speaks the Docker Engine API.
//!
//! [`main`] is the whole life of the process: read flags and `daemon.json`,
//! start the launcher while there is one thread, open image store, networks
//! and engine, take up what an earlier daemon left, listen, and on a signal
//! stop. Nothing here decides anything about containers: a handler decodes,
//! calls the owner of the data, encodes.
//!
//! - `config/`: what the user wants, and what a reload changes.
//! - `listen`, `serve`: sockets and connections; `notify`: the service manager.
//! - `authz`: plugins that are asked about each request.
//! - `gate/`: what older API versions looked like.
//! - `http/`: bodies, errors, streams, hijacking; the one table from error
//!   classes to HTTP statuses.
//! - `route`: which handler answers which path; `version`: for which versions.
//! - `routes/`: the handlers, by resource.
#![forbid(unsafe_code)]

mod authz;
mod built_in;
mod config;
mod gate;
mod host;
mod http;
mod life;
mod listen;
mod log;
mod metrics;
mod notify;
mod route;
mod routes;
mod serve;
#[cfg(test)]
mod tests;
mod version;

use std::ffi::OsString;
use std::sync::Arc;

use budu_engine::Engine;

pub use config::Config;

/// What every handler may use.
#[derive(Debug)]
pub(crate) struct App {
    /// What is configured.
    pub(crate) config: config::live::Live,
    /// Containers, and the way to images and networks.
    pub(crate) engine: Engine,
    /// Id of this daemon, stable over restarts.
    pub(crate) id: String,
    /// What does not change while it runs.
    pub(crate) host: host::Facts,
    /// The image that is part of the binary.
    pub(crate) built_in: built_in::BuiltIn,
    /// What was counted since the start.
    pub(crate) metrics: metrics::Counters,
}

/// What handlers share.
pub(crate) type Shared = Arc<App>;

/// Runs the daemon until a signal ends it. `hello` is the static program of
/// the embedded image. Returns the exit status.
///
/// Must be called while the process has one thread.
pub fn main(args: Vec<OsString>, hello: &'static [u8]) -> i32 {
    life::main(args, hello)
}

/// Version of the product.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
