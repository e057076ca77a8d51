//! Names of files below the store's root, and temporary ones that remove themselves.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use budu_spec::Digest;

use crate::error::Error;
use crate::trash::{delete_at, unique};

/// Paths below the root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing, all 0700.
    pub(crate) fn create(root: &Path) -> Result<Layout, Error> {
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| Error::io("create", path, source))
        };
        make(root)?;
        // Overlay paths must not depend on the working directory.
        let root = fs::canonicalize(root).map_err(|source| Error::io("open", root, source))?;
        let layout = Layout { root };
        for path in [layout.blobs(), layout.layers(), layout.snapshots(), layout.ingest(), layout.trash()] {
            make(&path)?;
        }
        Ok(layout)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("image.redb")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The directory of a layer: `fs` is inside.
    pub(crate) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.layers().join(chain_id.hex())
    }

    pub(crate) fn layer_fs(&self, chain_id: &Digest) -> PathBuf {
        self.layer(chain_id).join("fs")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// A fresh directory in `ingest`, removed with all it holds when dropped.
    pub(crate) fn temporary(&self) -> Result<Temporary, Error> {
        let path = self.ingest().join(unique());
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|source| Error::io("create", &path, source))?;
        Ok(Temporary { path })
    }

    /// Takes `path` out of sight in one step; the returned place is for [`delete`].
    /// `None` when there was nothing.
    pub(crate) fn discard(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let gone = self.trash().join(unique());
        match fs::rename(path, &gone) {
            Ok(()) => Ok(Some(gone)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("remove", path, source)),
        }
    }

    /// Empties a directory of the store (left-overs of an earlier life).
    pub(crate) fn purge(directory: &Path) -> Result<(), Error> {
        for entry in list(directory)? {
            delete(&entry)?;
        }
        Ok(())
    }
}

/// Deletes a file or a whole tree without following links, however deep it is; nothing there is fine.
///
/// # Errors
/// [`Error::Io`] when something cannot be removed.
pub fn delete(path: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::io("remove", path, source);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let parent = fs::File::open(parent).map_err(failed)?;
    delete_at(parent.as_fd(), name.as_bytes()).map_err(failed)
}

/// The paths in a directory, in no order.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|source| Error::io("read", directory, source))
}

/// Makes everything written so far to the file system of `path` durable. One call for a whole
/// pull is far cheaper than one fsync for each of its files.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), Error> {
    let directory = fs::File::open(path).map_err(|source| Error::io("open", path, source))?;
    rustix::fs::syncfs(&directory).map_err(|source| Error::io("sync", path, source))
}

/// A directory that goes away with its owner.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.path) {
            tracing::warn!(%error, "temporary directory stays until the next start");
        }
    }
}
