//! The files of a container, to and from archives.
//!
//! The container may run and be hostile: it swaps directories for links while this works. So nothing is resolved
//! but inside the container's [`Root`](budu_sys::rooted::Root), what is found is held by descriptor, only regular
//! files are ever opened for reading, and files are only ever written that were made here.

mod extract;
mod pack;
mod plain;

pub use extract::{Extract, extract};
pub use pack::{Pack, pack};
pub use plain::decompress;

pub(crate) use pack::{attributes, describe, reopen};
