//! Where a container's output goes: log drivers, their options, and who sends
//! on what a shim wrote.
//!
//! A shim writes one of two files, whatever the driver: `json-file`'s own, or
//! one in the format of the driver `local`. For a driver that sends (syslog,
//! gelf, fluentd, journald) that file is what `docker logs` reads *and* the
//! queue a `Forwarder` sends from: see decision 14.
//!
//! - `options`: what Docker takes and refuses; `driver`: the table of drivers.
//! - `syslog`, `gelf`, `fluentd`, `journald`: how messages look; `wire`: how they
//!   travel; `sink`: both; `forward`: who sends, from where to where.
//! - `changes`: who waits for more of a log.
//! - `about`: tag, labels and variables of a container; `plan`: what the shim is told.

mod about;
mod changes;
mod driver;
mod fluentd;
mod forward;
mod gelf;
mod journald;
mod options;
mod plan;
mod sink;
mod syslog;
mod tag;
mod wire;

pub(crate) use changes::{Changes, Watched};
pub use driver::DRIVERS;
pub(crate) use forward::Forwarding;
pub use options::check;
pub(crate) use options::settle;
pub(crate) use plan::{LogFiles, files};

/// Makes the directory of a log, private, if it is not there.
pub(crate) fn make_directory(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
