//! Structs of the Docker Engine API (`engine-api.yaml`, v1.55), by resource.
//!
//! Field names on the wire are the API's own. A Go `nil` slice or map travels
//! as `null`; fields that must do so are `Option`. Requests accept `null`
//! wherever a value may be missing.

pub mod container;
pub mod disk;
pub mod event;
pub mod exec;
pub mod files;
pub mod health;
pub mod host_config;
pub mod image;
pub mod network;
pub mod progress;
pub mod stats;
pub mod system;
pub mod version;
pub mod volume;
pub mod why;

pub use container::*;
pub use disk::*;
pub use event::*;
pub use exec::*;
pub use files::*;
pub use health::*;
pub use host_config::*;
pub use image::*;
pub use network::*;
pub use progress::*;
pub use stats::*;
pub use system::*;
pub use version::ApiVersion;
pub use volume::*;
pub use why::Why;

use serde::{Deserialize, Deserializer};

/// Reads `null` as the type's default, as Go's decoder does.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A JSON object without members, as Go's `struct{}` values travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Empty {}
