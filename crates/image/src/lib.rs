//! Bytes to root file systems and back: the image store and the registry client.
//!
//! A [`Store`] owns one directory. It keeps every blob verbatim under its digest, unpacks every
//! layer once into a directory of its own, and hands out root file systems as lists of
//! directories for overlayfs ([`RootFs`]). It never mounts, never starts a process, and has not
//! heard of containers beyond the opaque name that a snapshot is kept under: that name is the
//! lease which keeps an image alive.
//!
//! ```no_run
//! # async fn example() -> Result<(), budu_image::Error> {
//! use budu_image::{Options, Store};
//! let store = Store::open("/var/lib/budu/image".as_ref(), Options::default())?;
//! let (progress, _lines) = tokio::sync::mpsc::channel(64);
//! let reference = "nginx".parse::<budu_spec::Reference>()?;
//! let pulled = store.pull(&reference, None, None, progress).await?;
//! let rootfs = store.prepare("a-container", &pulled.image.id)?;
//! # Ok(()) }
//! ```
//!
//! Where things are: `store` (the door), `pull` (registry to store), `registry` (HTTP client),
//! `layer` (archives to directories), `remove` and `collect` (what may go), `snapshot`
//! (writable layers). Layout and durability: `docs/decisions/0004-image-store.md`.
#![forbid(unsafe_code)]

mod changes;
mod collect;
mod commit;
mod compose;
mod database;
mod document;
mod error;
mod image;
mod import;
mod ingest;
mod layer;
mod layout;
mod load;
mod login;
mod progress;
mod pull;
mod registry;
mod remove;
mod save;
mod snapshot;
mod state;
mod store;
pub mod transfer;
mod trash;
mod usage;

pub use changes::Change;
pub use commit::CommitWish;
pub use error::Error;
pub use image::{Image, ImageId, Pulled, Removed, RootFs};
pub use layer::differ::ChangeKind;
pub use layout::delete as delete_tree;
pub use load::Loaded;
pub use progress::{LayerStep, Progress};
pub use registry::RegistryAuth;
pub use save::Save;
pub use store::{Options, Store};
pub use usage::Usage;
