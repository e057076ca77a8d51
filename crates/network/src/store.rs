//! Definitions on disk: one file per network, replaced by rename.
//!
//! The file is written before the bridge is made and deleted after it is gone,
//! with a mark in between, so that whatever a crash leaves is found again and
//! undone: a client that got no answer has no network.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Definition, Error};

/// The directory of definitions.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    definition: Definition,
    /// Whether it is whole: neither just being made nor being removed.
    whole: bool,
}

/// What an earlier daemon left.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) whole: Vec<Definition>,
    /// To be undone.
    pub(crate) half: Vec<Definition>,
}

impl Store {
    /// Makes the directory.
    pub(crate) fn open(dir: Option<PathBuf>) -> Result<Store, Error> {
        if let Some(dir) = &dir {
            use std::os::unix::fs::DirBuilderExt;
            let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            make.map_err(failed("create directory", dir))?;
        }
        Ok(Store { dir })
    }

    /// Reads all definitions; broken files are reported and skipped.
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        let mut loaded = Loaded::default();
        let Some(dir) = &self.dir else { return Ok(loaded) };
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let path = entry.map_err(failed("list", dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                let _ = fs::remove_file(&path);
                continue;
            }
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice::<Entry>(&bytes) {
                Ok(Entry { definition, whole: true }) => loaded.whole.push(definition),
                Ok(Entry { definition, whole: false }) => loaded.half.push(definition),
                Err(error) => tracing::error!(path = %path.display(), %error, "broken network definition, skipped"),
            }
        }
        loaded.whole.sort_by_key(|definition| definition.created);
        Ok(loaded)
    }

    /// Writes a definition; durable when it returns.
    pub(crate) fn save(&self, definition: &Definition, whole: bool) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(format!("{}.json", definition.id));
        let entry = Entry { definition: definition.clone(), whole };
        let bytes = serde_json::to_vec(&entry).expect("definitions are plain data with string keys");
        replace(dir, &path, &bytes).map_err(failed("write", &path))
    }

    /// Forgets a definition.
    pub(crate) fn delete(&self, id: &str) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(format!("{id}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(failed("delete", &path)),
        }
    }
}

fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    drop(file);
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Store { action, path, source }
}
