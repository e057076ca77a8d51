//! Export: all files of a container as one archive, without what is mounted in it.

use std::path::Path;

use super::archive::Download;
use super::view::Wish;
use crate::{Engine, Error};

impl Engine {
    /// The files of a container's root file system.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Io`] when they cannot be looked at.
    pub fn export(&self, name: &str) -> Result<Download, Error> {
        let container = self.find(name)?;
        let view = self.view(&container, Wish { mounts: false, write: false })?;
        self.tell(&container, "export", &[]);
        Ok(Download::new(view, Path::new("/"), b"", false))
    }
}
