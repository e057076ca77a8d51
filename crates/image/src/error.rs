//! Everything that can go wrong with images, in one list.

use std::io;
use std::path::{Path, PathBuf};

use budu_spec::digest::DigestError;
use budu_spec::reference::ReferenceError;
use budu_spec::{Classified, Digest, ErrorClass};

/// An error of the store or the registry client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No image has this name or id.
    #[error("No such image: {name}")]
    NotFound {
        /// The name, in its familiar form with the default tag.
        name: String,
    },
    /// An id prefix fits several images.
    #[error("image id prefix {prefix} fits several images: give more digits")]
    Ambiguous {
        /// The prefix given.
        prefix: String,
    },
    /// Not a reference.
    #[error(transparent)]
    Reference {
        /// What is wrong with it.
        #[from]
        source: ReferenceError,
    },
    /// Not a digest.
    #[error(transparent)]
    Digest {
        /// What is wrong with it.
        #[from]
        source: DigestError,
    },
    /// Something else uses the image.
    #[error("conflict: {reason}")]
    Conflict {
        /// Docker's text after `conflict: `.
        reason: String,
    },
    /// A snapshot of this name does not exist.
    #[error("no root file system of {container}: its snapshot does not exist")]
    NoSnapshot {
        /// The name the snapshot was asked under.
        container: String,
    },
    /// A snapshot name that is not one path component of letters, digits, `_`, `.` and `-`.
    #[error("invalid snapshot name {name:?}")]
    SnapshotName {
        /// The name given.
        name: String,
    },
    /// The snapshot exists for another image.
    #[error("the root file system of {container} already exists with image {image}")]
    SnapshotExists {
        /// The snapshot's name.
        container: String,
        /// The image it was made from.
        image: Digest,
    },
    /// The registry does not know the tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestUnknown {
        /// The familiar reference.
        reference: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry refuses access, or hides that the repository does not exist.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login': {detail}")]
    Denied {
        /// The familiar repository.
        name: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry does not accept the credentials.
    #[error("registry {host} refuses the credentials: {detail}")]
    Unauthorized {
        /// The registry.
        host: String,
        /// The registry's own words.
        detail: String,
    },
    /// Credentials would have left the registry's own domain.
    #[error(
        "registry {host} asks for its credentials to be sent to {realm}: refused, that is not the same site over https"
    )]
    ForeignRealm {
        /// The registry.
        host: String,
        /// Where it wants the credentials.
        realm: String,
    },
    /// No connection to the registry.
    #[error("cannot reach registry {host}: {cause}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened.
        cause: String,
    },
    /// The registry answered, but not with what was asked for.
    #[error("registry {host} answered {status} to {what}: {detail}")]
    Registry {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
        /// Its own words.
        detail: String,
    },
    /// The registry speaks something that is not the distribution protocol.
    #[error("registry {host}: {detail}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What was wrong.
        detail: String,
    },
    /// The index has nothing for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries of {reference}: it has {available}")]
    NoPlatform {
        /// The platform looked for.
        platform: String,
        /// The familiar reference.
        reference: String,
        /// What there is.
        available: String,
    },
    /// A manifest, index or configuration is not what it must be.
    #[error("{what} {digest} is not valid: {detail}")]
    Document {
        /// `manifest`, `index`, `configuration`.
        what: &'static str,
        /// Which one.
        digest: Digest,
        /// Why.
        detail: String,
    },
    /// A layer did not arrive whole, however often it was tried.
    #[error("layer {digest} did not arrive: {received} of {size} bytes: {cause}")]
    Transfer {
        /// Which one.
        digest: Digest,
        /// Bytes that arrived.
        received: u64,
        /// Bytes it has.
        size: u64,
        /// What happened last.
        cause: String,
    },
    /// An archive of files is malformed, or holds what is not acceptable.
    #[error("{detail}")]
    Archive {
        /// What is the matter with which entry.
        detail: String,
    },
    /// An entry of an archive of files could not be written.
    #[error("{path}: {source}")]
    Extract {
        /// Its name in the archive.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The image is for another platform than the one asked for.
    #[error(
        "image with reference {reference} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    PlatformMismatch {
        /// The familiar reference.
        reference: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Content does not have the digest it was asked for by.
    #[error("{what} verification failed: {digest} is corrupt: its content has digest {actual}")]
    DigestMismatch {
        /// `layer`, `manifest`, …
        what: &'static str,
        /// What was asked for.
        digest: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content is longer or shorter than announced.
    #[error("{what} verification failed: {digest} has the wrong size: {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// `layer`, `manifest`, …
        what: &'static str,
        /// Which one.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes received (at least).
        actual: u64,
    },
    /// The uncompressed archive is not the one the configuration names.
    #[error(
        "layer verification failed: {digest} is corrupt: uncompressed it has digest {actual}, the image says {expected}"
    )]
    DiffIdMismatch {
        /// The layer's blob.
        digest: Digest,
        /// The configuration's diff id.
        expected: Digest,
        /// What came out.
        actual: Digest,
    },
    /// A layer's archive is malformed or hostile.
    #[error("layer {digest} cannot be unpacked: {detail}")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// Which entry and why.
        detail: String,
    },
    /// The disk is full.
    #[error("cannot write {}: no space left on device", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// An image has more layers than overlayfs can stack.
    #[error("max depth exceeded: the image has {layers} layers, {limit} are possible")]
    TooDeep {
        /// Layers of the image.
        layers: usize,
        /// The limit.
        limit: usize,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The verb: `create`, `read`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database failed.
    #[error("image database {}: {detail}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The database's words.
        detail: String,
    },
    /// The pull was given up.
    #[error("pull of {what} was canceled")]
    Canceled {
        /// What was being transferred.
        what: String,
    },
}

impl Error {
    /// Wraps a file error, naming the action and the path; a full disk gets its own variant.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Error::NoSpace { path: path.to_owned() };
        }
        Error::Io { action, path: path.to_owned(), source }
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::NotFound { .. }
            | Error::NoSnapshot { .. }
            | Error::ManifestUnknown { .. }
            | Error::Denied { .. }
            | Error::NoPlatform { .. }
            | Error::PlatformMismatch { .. } => ErrorClass::NotFound,
            Error::Ambiguous { .. }
            | Error::Reference { .. }
            | Error::Digest { .. }
            | Error::SnapshotName { .. }
            | Error::Archive { .. }
            | Error::TooDeep { .. } => ErrorClass::InvalidArgument,
            Error::Conflict { .. } | Error::SnapshotExists { .. } => ErrorClass::Conflict,
            Error::Unauthorized { .. } => ErrorClass::Unauthorized,
            Error::ForeignRealm { .. } => ErrorClass::Forbidden,
            Error::Canceled { .. } => ErrorClass::Canceled,
            Error::Unreachable { .. }
            | Error::Registry { .. }
            | Error::Protocol { .. }
            | Error::Document { .. }
            | Error::DigestMismatch { .. }
            | Error::Transfer { .. }
            | Error::SizeMismatch { .. }
            | Error::DiffIdMismatch { .. }
            | Error::Layer { .. }
            | Error::Extract { .. }
            | Error::NoSpace { .. }
            | Error::Io { .. }
            | Error::Database { .. } => ErrorClass::Internal,
        }
    }
}
