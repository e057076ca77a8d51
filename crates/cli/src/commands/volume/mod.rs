//! `volume`: Docker's commands, and what they lack.

mod beyond;
mod create;
mod list;
mod prune;
mod remove;

pub(super) use beyond::{Clone, Rename, Restore, Snapshot, Update};
pub(super) use create::Create;
pub(super) use list::List;
pub(super) use prune::Prune;
pub(super) use remove::Remove;

use crate::client::escape;

/// The address of one volume.
fn path_of(name: &str) -> String {
    format!("/volumes/{}", escape(name))
}
