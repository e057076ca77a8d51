//! Layers: from an archive somebody sent to a directory that overlayfs can stack.
//!
//! [`archive`] reads tar, [`decompress`] what it is wrapped in, [`tree`] holds the directory that
//! nothing may escape from, [`unpack`] joins them, and [`inherit`] fills in what a layer takes
//! from the layers below it. Extraction is ours, not a library's, because every known attack on
//! extraction is a matter of policy; reading is ours because readers must bound what an archive
//! can make them allocate.

pub(crate) mod archive;
pub(crate) mod attributes;
pub(crate) mod decompress;
pub(crate) mod differ;
pub(crate) mod extension;
pub(crate) mod inherit;
pub(crate) mod tree;
pub(crate) mod unpack;
pub(crate) mod write;

use std::io;

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The bytes are not a well formed archive.
    #[error("its archive is malformed: {reason}")]
    Malformed { reason: String },
    /// One entry is not acceptable.
    #[error("entry {path:?} is refused: {reason}")]
    Refused { path: String, reason: String },
    /// One entry could not be written.
    #[error("entry {path:?} cannot be written: {source}")]
    Write { path: String, source: io::Error },
    /// One entry would replace a directory, or something by a directory, and must not.
    #[error("{text}")]
    Overwrite { text: String },
    /// The archive could not be read any further.
    #[error("{source}")]
    Read { source: io::Error },
}

impl Fault {
    pub(crate) fn malformed(reason: impl Into<String>) -> Fault {
        Fault::Malformed { reason: reason.into() }
    }

    pub(crate) fn refused(path: &[u8], reason: impl Into<String>) -> Fault {
        Fault::Refused { path: printable(path), reason: reason.into() }
    }

    pub(crate) fn write(path: &[u8], source: impl Into<io::Error>) -> Fault {
        Fault::Write { path: printable(path), source: source.into() }
    }
}

/// A name for messages: whatever its bytes, and not endless.
fn printable(path: &[u8]) -> String {
    let cut = path.len().min(200);
    String::from_utf8_lossy(&path[..cut]).into_owned()
}
