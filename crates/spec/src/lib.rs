//! The words of Budu: what is said on a wire or written to disk.
//!
//! This crate parses, prints and validates. It never does IO, never looks at a
//! clock it was not given, and depends on nothing of ours. A type is admitted
//! when it is on a wire (Docker Engine API, OCI image or runtime
//! specification) or when two crates need the same word.
//!
//! - [`docker`]: the structs of the Docker Engine API, by resource.
//! - [`oci`]: the runtime specification's `config.json`.
//! - [`image`]: the image specification's manifests and configurations.
//! - [`Reference`], [`Digest`], [`Id`]: names of images, content, containers.
//! - [`Filters`]: the `filters` query parameter.
//! - [`kernel`]: resource limits and kernel parameters of namespaces.
//! - [`ErrorClass`]: the closed list of reasons why something was refused; the
//!   daemon maps a class to an HTTP status in one place.
//!
//! ```
//! use budu_spec::units;
//! assert_eq!(units::parse_bytes("64m").unwrap(), 64 * 1024 * 1024);
//! ```
#![forbid(unsafe_code)]

pub mod digest;
pub mod docker;
pub mod error;
pub mod filter;
pub mod id;
pub mod image;
pub mod kernel;
pub mod names;
pub mod oci;
pub mod reference;
pub mod signal;
pub mod units;

pub use digest::Digest;
pub use error::{Classified, ErrorClass};
pub use filter::Filters;
pub use id::Id;
pub use reference::Reference;
