//! What callers see of an image.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use budu_spec::image::{Descriptor, ImageConfig, Platform};
use budu_spec::{Digest, Reference};

/// An image's id: the digest of the manifest or index its names point at, as in Engine 29's
/// containerd store. Prints as `sha256:…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub Digest);

impl ImageId {
    /// The first 12 hexadecimal digits.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// One image in the store, seen for one platform.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Image {
    /// Digest of [`Image::target`].
    pub id: ImageId,
    /// The manifest or index that the names point at.
    pub target: Descriptor,
    /// The manifest of the platform shown here; the target itself unless that is an index.
    pub manifest_digest: Digest,
    /// Digest of the configuration: what older engines call the image id.
    pub config_digest: Digest,
    /// The configuration.
    pub config: Arc<ImageConfig>,
    /// The platform shown here.
    pub platform: Platform,
    /// Names with a tag, sorted.
    pub tags: Vec<Reference>,
    /// Familiar `repository@sha256:…`, sorted.
    pub digests: Vec<String>,
    /// Bytes on disk: compressed content and unpacked layers.
    pub size: u64,
    /// Bytes of compressed content alone.
    pub content_size: u64,
    /// Bytes of the unpacked layers alone.
    pub unpacked_size: u64,
    /// Bytes of each unpacked layer, base first.
    pub layer_sizes: Vec<u64>,
    /// When it was made, RFC 3339; year 1 when the configuration does not say.
    pub created: String,
    /// Diff ids, base first.
    pub layers: Vec<Digest>,
}

/// The directories of one root file system, for overlayfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// Read-only layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlayfs' scratch directory, beside `upper`.
    pub work: PathBuf,
}

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone; its familiar form.
    Untagged(String),
    /// An image is gone; its id.
    Deleted(String),
}

/// What a pull brought.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// False when the name already pointed at the same, complete image.
    pub newer: bool,
}
