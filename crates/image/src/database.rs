//! The durable copy of [`State`]: one redb file, three tables, JSON values.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use budu_spec::{Digest, Reference};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{FallocateFlags, fallocate};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::state::{Change, ImageRecord, LayerRecord, State};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const IMAGES: Table = TableDefinition::new("images");
const NAMES: Table = TableDefinition::new("names");
const LAYERS: Table = TableDefinition::new("layers");

/// The rows are small and read once; redb's default of a gigabyte would only cost memory.
const CACHE_BYTES: usize = 1 << 20;
/// Room kept for noting that something was removed, which is what people do on a full disk.
const RESERVE: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Database {
    /// Absent after an error of writing: redb then refuses everything until the file is opened again, which needs room
    /// on the disk, too, and so is done by the next who has something to write.
    file: Mutex<Option<redb::Database>>,
    path: PathBuf,
    /// The file beside it that takes [`RESERVE`] bytes is there.
    reserved: AtomicBool,
}

impl Database {
    /// Opens or creates the file. Fails when another process has it open.
    pub(crate) fn open(path: PathBuf) -> Result<Database, Error> {
        let file = Mutex::new(Some(create(&path)?));
        let database = Database { file, path, reserved: AtomicBool::new(false) };
        database.reserve();
        Ok(database)
    }

    /// Takes room for later, if there is any.
    fn reserve(&self) {
        if self.reserved.load(Ordering::Relaxed) {
            return;
        }
        let path = self.path.with_extension("reserve");
        let take = || {
            let file = File::options().write(true).create(true).truncate(true).open(&path)?;
            fallocate(&file, FallocateFlags::empty(), 0, RESERVE).map_err(std::io::Error::from)
        };
        match take() {
            Ok(()) => self.reserved.store(true, Ordering::Relaxed),
            Err(_) => _ = fs::remove_file(&path),
        }
    }

    /// Gives that room up. False when there was none.
    fn release_reserve(&self) -> bool {
        self.reserved.swap(false, Ordering::Relaxed) && fs::remove_file(self.path.with_extension("reserve")).is_ok()
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<State, Error> {
        self.with(|file| self.read(file))
    }

    /// Does `work` with the open file, and closes it when that fails.
    fn with<T>(&self, work: impl FnOnce(&redb::Database) -> Result<T, Error>) -> Result<T, Error> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match slot.take() {
            Some(file) => file,
            None => create(&self.path)?,
        };
        let done = work(&file)?;
        *slot = Some(file);
        Ok(done)
    }

    fn read(&self, file: &redb::Database) -> Result<State, Error> {
        let mut changes = Vec::new();
        self.each(file, IMAGES, |_, value| {
            changes.push(Change::PutImage(self.decode::<ImageRecord>(value)?));
            Ok(())
        })?;
        self.each(file, LAYERS, |_, value| {
            changes.push(Change::PutLayer(self.decode::<LayerRecord>(value)?));
            Ok(())
        })?;
        self.each(file, NAMES, |key, value| {
            let name = key.parse::<Reference>().map_err(|error| failed(&self.path, error))?;
            changes.push(Change::PutName(name, self.decode::<Digest>(value)?));
            Ok(())
        })?;
        let mut state = State::default();
        state.apply(&changes);
        Ok(state)
    }

    /// Writes all changes or none; durable when it returns.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let write = || self.with(|file| self.write(file, changes));
        let mut done = write();
        let removes = |change| matches!(change, &Change::DropImage(_) | Change::DropName(_) | Change::DropLayer(_));
        if done.is_err() && changes.iter().all(removes) && self.release_reserve() {
            done = write();
        }
        if done.is_ok() {
            self.reserve();
        }
        done
    }

    fn write(&self, file: &redb::Database, changes: &[Change]) -> Result<(), Error> {
        let failed = |error: redb::Error| failed(&self.path, error);
        let transaction = file.begin_write().map_err(|error| failed(error.into()))?;
        {
            let open = |table| transaction.open_table(table).map_err(|error| failed(error.into()));
            let (mut images, mut names, mut layers) = (open(IMAGES)?, open(NAMES)?, open(LAYERS)?);
            for change in changes {
                let (table, key, value) = match change {
                    Change::PutImage(record) => {
                        (&mut images, record.target.digest.to_string(), Some(self.encode(record)?))
                    }
                    Change::DropImage(digest) => (&mut images, digest.to_string(), None),
                    Change::PutName(name, digest) => (&mut names, name.to_string(), Some(self.encode(digest)?)),
                    Change::DropName(name) => (&mut names, name.to_string(), None),
                    Change::PutLayer(record) => (&mut layers, record.chain_id.to_string(), Some(self.encode(record)?)),
                    Change::DropLayer(chain_id) => (&mut layers, chain_id.to_string(), None),
                };
                match value {
                    Some(value) => table.insert(key.as_str(), value.as_slice()).map(drop),
                    None => table.remove(key.as_str()).map(drop),
                }
                .map_err(|error| failed(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    fn each(
        &self,
        file: &redb::Database,
        table: Table,
        mut row: impl FnMut(&str, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error: redb::Error| failed(&self.path, error);
        let transaction = file.begin_read().map_err(|error| failed(error.into()))?;
        let table = match transaction.open_table(table) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(failed(error.into())),
        };
        for entry in table.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = entry.map_err(|error| failed(error.into()))?;
            row(key.value(), value.value())?;
        }
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(value).map_err(|error| failed(&self.path, error))
    }

    fn encode<T: serde::Serialize>(&self, value: &T) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(value).map_err(|error| failed(&self.path, error))
    }
}

fn create(path: &Path) -> Result<redb::Database, Error> {
    redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Database { path: path.to_owned(), detail: error.to_string() }
}
