//! Volumes: directories that outlive containers.
//!
//! Each is a directory below `volumes` of the data root: `volume.json` (what
//! was asked for), `_data` (the files). A volume is in use as long as a
//! container refers to it, and mounted as long as one that refers to it runs;
//! both are known from the containers' records, nothing else is counted.
//!
//! - `create.rs`, `list.rs`, `remove.rs`: what users ask for.
//! - `options.rs`, `mount.rs`: the `local` driver's `type`, `o`, `device`.
//! - `populate.rs`, `copy.rs`: an empty volume takes what the image has at its place.
//! - `size.rs`: limits. `snapshot.rs`, `rename.rs`: what Docker has not. `plugin.rs`: volumes that others keep.

mod copy;
mod create;
mod list;
mod mount;
mod options;
mod plugin;
mod populate;
mod record;
mod remove;
mod rename;
mod size;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use self::record::{RECORD_FILE, Record};
use crate::container::record::load;
use crate::engine::private_dir;
use crate::{Error, Events, Plugins};

pub(crate) use self::create::Wish;
pub(crate) use self::populate::Place;
pub use self::snapshot::Snapshot;

/// The driver that keeps volumes in directories.
pub(crate) const LOCAL: &str = "local";
/// Directory of a volume's files, as Docker calls it.
const DATA: &str = "_data";

/// All volumes.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    trash: PathBuf,
    events: Events,
    plugins: Plugins,
    table: Mutex<BTreeMap<String, Arc<Volume>>>,
    /// One change of a volume at a time, also of one that is about to be.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    pruning: tokio::sync::Mutex<()>,
}

/// One volume in memory.
#[derive(Debug)]
pub(crate) struct Volume {
    record: Mutex<Arc<Record>>,
    users: Mutex<Users>,
}

/// Ids of containers.
#[derive(Debug, Default)]
struct Users {
    /// Those that refer to it.
    all: BTreeSet<String>,
    /// Those that run with it.
    live: BTreeSet<String>,
}

impl Volume {
    fn new(record: Record) -> Volume {
        Volume { record: Mutex::new(Arc::new(record)), users: Mutex::default() }
    }

    /// What was asked for.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_record(&self, record: Record) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Volumes {
    /// Loads the volumes of an earlier life; what was half made or half removed goes.
    pub(crate) fn open(data_root: &Path, events: Events, plugins: Plugins) -> Result<Volumes, Error> {
        let (root, trash) = (data_root.join("volumes"), data_root.join("trash"));
        private_dir(&root)?;
        let mut table = BTreeMap::new();
        for entry in fs::read_dir(&root).map_err(Error::io("list", &root))? {
            let path = entry.map_err(Error::io("list", &root))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                budu_image::delete_tree(&path)?;
                continue;
            }
            match load::<Record>(&path, RECORD_FILE) {
                Ok(Some(record)) => {
                    let record = Record { name: name.to_owned(), ..record };
                    table.insert(name.to_owned(), Arc::new(Volume::new(record)));
                }
                Ok(None) => tracing::error!(dir = %path.display(), "left alone: not a volume"),
                Err(error) => tracing::error!(%error, "volume skipped"),
            }
        }
        Ok(Volumes {
            root,
            trash,
            events,
            plugins,
            table: Mutex::new(table),
            turns: Mutex::default(),
            pruning: tokio::sync::Mutex::default(),
        })
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Volume>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else changes the volume called `name`.
    async fn turn(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.lock_of(name).lock_owned().await
    }

    fn try_turn(&self, name: &str) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        self.lock_of(name).try_lock_owned().ok()
    }

    fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = turns.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    fn find(&self, name: &str) -> Option<Arc<Volume>> {
        self.table().get(name).cloned()
    }

    fn found(&self, name: &str) -> Result<Arc<Volume>, Error> {
        self.find(name).ok_or_else(|| Error::NoSuchVolume { name: name.to_owned() })
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the files of a volume are, once it is mounted.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir(name).join(DATA)
    }

    /// Notes that a container refers to a volume, and whether it runs with it. For containers of an earlier life.
    pub(crate) fn adopt(&self, name: &str, container: &str, runs: bool) {
        let Some(volume) = self.find(name) else {
            tracing::warn!(container, volume = name, "a container refers to a volume that is gone");
            return;
        };
        let mut users = volume.users();
        users.all.insert(container.to_owned());
        if runs {
            users.live.insert(container.to_owned());
        }
    }

    /// A container does not refer to a volume any more.
    pub(crate) fn release(&self, name: &str, container: &str) {
        if let Some(volume) = self.find(name) {
            volume.users().all.remove(container);
        }
    }

    pub(crate) fn tell(&self, action: &str, name: &str, attributes: &[(&str, &str)]) {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.events.publish("volume", action, name, attributes);
    }
}
