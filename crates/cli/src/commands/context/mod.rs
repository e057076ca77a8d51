//! `context`: daemons by name.

mod list;
mod transfer;
mod write;

pub(super) use list::{Inspect, List, Show};
pub(super) use transfer::{Export, Import};
pub(super) use write::{Create, Remove, Update, Use};

/// The context that is always there.
const DEFAULT: &str = "default";
