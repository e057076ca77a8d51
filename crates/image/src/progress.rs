//! The steps of a pull, one value per line Docker's clients show.

use budu_spec::Digest;

/// One progress message. [`Progress::id`], [`Progress::status`] and [`Progress::bytes`] give
/// the three fields of Docker's JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The first line.
    Pulling {
        /// Tag or digest asked for.
        tag: String,
        /// Path of the repository, `library/nginx`.
        repository: String,
    },
    /// Something happened to one layer.
    Layer {
        /// First 12 digits of the blob's digest.
        id: String,
        /// What.
        step: LayerStep,
    },
    /// What the name points at.
    Digest(Digest),
    /// The last line.
    Done {
        /// The familiar reference.
        reference: String,
        /// Whether anything was downloaded or moved.
        newer: bool,
    },
}

/// What can happen to a layer, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerStep {
    /// It is needed and not here.
    PullingFsLayer,
    /// Other layers are being transferred first.
    Waiting,
    /// Bytes of the blob received, of its size.
    Downloading {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The transfer failed and is tried again after this many seconds.
    Retrying {
        /// Seconds until the next attempt.
        seconds: u64,
    },
    /// All bytes are here.
    VerifyingChecksum,
    /// The blob is complete and verified.
    DownloadComplete,
    /// Bytes of the blob unpacked, of its size.
    Extracting {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The layer is in the store.
    PullComplete,
    /// The layer was in the store.
    AlreadyExists,
}

impl Progress {
    /// The `id` field.
    pub fn id(&self) -> Option<&str> {
        match self {
            Progress::Pulling { tag, .. } => Some(tag),
            Progress::Layer { id, .. } => Some(id),
            Progress::Digest(_) | Progress::Done { .. } => None,
        }
    }

    /// The `status` field.
    pub fn status(&self) -> String {
        match self {
            Progress::Pulling { repository, .. } => format!("Pulling from {repository}"),
            Progress::Layer { step, .. } => step.status(),
            Progress::Digest(digest) => format!("Digest: {digest}"),
            Progress::Done { reference, newer: true } => {
                format!("Status: Downloaded newer image for {reference}")
            }
            Progress::Done { reference, newer: false } => {
                format!("Status: Image is up to date for {reference}")
            }
        }
    }

    /// `progressDetail`: bytes so far and in all.
    pub fn bytes(&self) -> Option<(u64, u64)> {
        match self {
            Progress::Layer {
                step: LayerStep::Downloading { current, total } | LayerStep::Extracting { current, total },
                ..
            } => Some((*current, *total)),
            _ => None,
        }
    }
}

impl LayerStep {
    fn status(self) -> String {
        match self {
            LayerStep::PullingFsLayer => "Pulling fs layer".into(),
            LayerStep::Waiting => "Waiting".into(),
            LayerStep::Downloading { .. } => "Downloading".into(),
            LayerStep::Retrying { seconds: 1 } => "Retrying in 1 second".into(),
            LayerStep::Retrying { seconds } => format!("Retrying in {seconds} seconds"),
            LayerStep::VerifyingChecksum => "Verifying Checksum".into(),
            LayerStep::DownloadComplete => "Download complete".into(),
            LayerStep::Extracting { .. } => "Extracting".into(),
            LayerStep::PullComplete => "Pull complete".into(),
            LayerStep::AlreadyExists => "Already exists".into(),
        }
    }
}
