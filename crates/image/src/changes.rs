//! What a container changed in its image's files.

use std::path::Path;

use crate::error::Error;
use crate::layer::differ::{ChangeKind, Found, changes};
use crate::store::Store;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path in the container; bytes that are no text are replaced.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
}

impl Store {
    /// Lists what a container changed, directories before what is in them. What the engine itself puts into
    /// containers is left out.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or [`Error::Io`] when a layer cannot be read.
    pub fn changes(&self, container: &str) -> Result<Vec<Change>, Error> {
        let rootfs = self.rootfs(container)?;
        let below: Vec<&Path> = rootfs.lower.iter().map(AsRef::as_ref).collect();
        let mut list = Vec::new();
        let tell = |found: &Found<'_>| {
            if !found.path.is_empty() {
                list.push(Change { path: format!("/{}", String::from_utf8_lossy(found.path)), kind: found.kind });
            }
            Ok(())
        };
        changes(&rootfs.upper, &below, tell).map_err(|source| Error::io("read", &rootfs.upper, source))?;
        Ok(list)
    }
}
