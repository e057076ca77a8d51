//! Changes: what a container did to its image's files.

use budu_image::ChangeKind;
use budu_spec::docker::FilesystemChange;

use crate::{Engine, Error};

impl Engine {
    /// Lists the changes. Blocks while the writable layer is gone through.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Image`] when a layer cannot be read.
    pub fn changes(&self, name: &str) -> Result<Vec<FilesystemChange>, Error> {
        let container = self.find(name)?;
        let list = self.images().changes(container.id.as_str())?;
        let kind = |kind| match kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        Ok(list.into_iter().map(|one| FilesystemChange { path: one.path, kind: kind(one.kind) }).collect())
    }
}
