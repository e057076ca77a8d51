//! The engine: its parts, and the table of containers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use budu_image::Store;
use budu_network::Networks;
use budu_runtime::Launcher;
use budu_spec::Id;

use crate::container::Container;
use crate::container::exec::Execs;
use crate::container::record::Status;
use crate::container::why::Senders;
use crate::log::Changes;
use crate::{Error, Events, PluginPlaces, Plugins, Volumes};

/// What the daemon decides about the engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// What survives a reboot; container records and logs lie below it.
    pub data_root: PathBuf,
    /// What need not survive a reboot; run directories lie below it.
    pub exec_root: PathBuf,
    /// First component of every container's cgroup path.
    pub cgroup_parent: String,
    /// Name servers of containers that ask for none.
    pub dns: Vec<String>,
    /// Resolver options of containers that ask for none.
    pub dns_options: Vec<String>,
    /// Search domains of containers that ask for none.
    pub dns_search: Vec<String>,
    /// Log driver of containers that ask for none.
    pub log_driver: String,
    /// Options of that driver where a container does not give them.
    pub log_options: std::collections::BTreeMap<String, String>,
    /// Run an init as pid 1 when the request does not say.
    pub init: bool,
    /// Size of /dev/shm when the request does not say, bytes.
    pub shm_size: i64,
    /// Where devices are described (CDI); later directories win.
    pub cdi_directories: Vec<PathBuf>,
    /// Where plugins are looked for.
    pub plugins: PluginPlaces,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            data_root: PathBuf::from("/var/lib/budu"),
            exec_root: PathBuf::from("/run/budu"),
            cgroup_parent: "budu".to_owned(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            log_driver: "json-file".to_owned(),
            log_options: std::collections::BTreeMap::new(),
            init: false,
            shm_size: 64 << 20,
            cdi_directories: crate::container::cdi::DIRECTORIES.map(PathBuf::from).to_vec(),
            plugins: PluginPlaces::default(),
        }
    }
}

/// The siblings the engine works with.
#[derive(Debug)]
pub struct Parts {
    /// Images and writable layers.
    pub images: Store,
    /// Networks.
    pub networks: Networks,
    /// Where shims come from.
    pub launcher: Launcher,
}

/// How many containers are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Running, not paused.
    pub running: usize,
    /// Paused.
    pub paused: usize,
    /// Anything else.
    pub stopped: usize,
}

/// Containers as users know them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(pub(crate) Arc<Shared>);

/// What all clones of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) parts: Parts,
    pub(crate) events: Events,
    pub(crate) execs: Execs,
    pub(crate) plugins: Plugins,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) senders: std::sync::OnceLock<Arc<Senders>>,
    changes: Mutex<Option<Arc<Changes>>>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Arc<Container>>,
    names: HashMap<String, String>,
}

impl Engine {
    /// Makes the directories and an engine without containers;
    /// [`Engine::restore`] brings back those of an earlier life.
    pub fn open(options: Options, parts: Parts) -> Result<Engine, Error> {
        let (data, exec) = (&options.data_root, &options.exec_root);
        for dir in [data.join("containers"), data.join("trash"), exec.join("containers")] {
            private_dir(&dir)?;
        }
        let plugins = Plugins::new(options.plugins.clone());
        let events = Events::default();
        let volumes = Arc::new(Volumes::open(data, events.clone(), plugins.clone())?);
        let shared = Shared {
            options,
            parts,
            events,
            execs: Execs::default(),
            plugins,
            volumes,
            senders: Default::default(),
            changes: Mutex::default(),
            table: Mutex::default(),
        };
        Ok(Engine(Arc::new(shared)))
    }

    /// The channel all happenings go through.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// Who tells of changes in logs.
    pub(crate) fn log_changes(&self) -> std::io::Result<Arc<Changes>> {
        let mut changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changes) = &*changes {
            return Ok(Arc::clone(changes));
        }
        Ok(Arc::clone(changes.insert(Changes::start()?)))
    }

    /// The decisions it was opened with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The image store.
    pub fn images(&self) -> &Store {
        &self.0.parts.images
    }

    /// The plugins of this machine.
    pub fn plugins(&self) -> &Plugins {
        &self.0.plugins
    }

    /// The volumes.
    pub fn volumes(&self) -> &Arc<Volumes> {
        &self.0.volumes
    }

    /// The networks.
    pub fn networks(&self) -> &Networks {
        &self.0.parts.networks
    }

    /// Counts containers by state.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for container in self.all() {
            match container.state().status {
                Status::Running | Status::Restarting => tally.running += 1,
                Status::Paused => tally.paused += 1,
                _ => tally.stopped += 1,
            }
        }
        tally
    }

    /// Whether a container runs; for images that it keeps from being removed.
    pub fn is_running(&self, id: &str) -> bool {
        self.find(crate::container::lease_holder(id)).is_ok_and(|container| container.state().status.is_running())
    }

    /// The name of a container, without slash, if it exists.
    pub fn name_of(&self, id: &str) -> Option<String> {
        self.find(id).ok().map(|c| c.record().name.clone())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All containers, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.table().by_id.values().cloned().collect()
    }

    /// Finds a container by id, name or unique id prefix, in this order.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Container>, Error> {
        let table = self.table();
        let plain = name.strip_prefix('/').unwrap_or(name);
        if let Some(found) = table.by_id.get(plain).or_else(|| table.by_id.get(table.names.get(plain)?)) {
            return Ok(Arc::clone(found));
        }
        let missing = || Error::NoSuchContainer { name: name.to_owned() };
        if plain.is_empty() {
            return Err(Error::invalid(format!("invalid name or ID supplied: \"{name}\"")));
        }
        let mut matches = table.by_id.values().filter(|c| c.id.as_str().starts_with(plain));
        let found = matches.next().ok_or_else(missing)?;
        match matches.next() {
            Some(_) => Err(Error::Ambiguous { name: plain.to_owned() }),
            None => Ok(Arc::clone(found)),
        }
    }

    /// Reserves a name for a container to be; a random one without `wish`.
    pub(crate) fn reserve_name(&self, wish: Option<&str>, id: &Id) -> Result<String, Error> {
        let mut table = self.table();
        if let Some(wish) = wish {
            return match table.names.get(wish) {
                Some(holder) => Err(Error::NameInUse { name: wish.to_owned(), holder: holder.clone() }),
                None => {
                    table.names.insert(wish.to_owned(), id.to_string());
                    Ok(wish.to_owned())
                }
            };
        }
        for retry in 0..8 {
            let name = budu_spec::names::random(retry);
            if !table.names.contains_key(&name) {
                table.names.insert(name.clone(), id.to_string());
                return Ok(name);
            }
        }
        table.names.insert(id.short().to_owned(), id.to_string());
        Ok(id.short().to_owned())
    }

    /// Gives a reserved name back.
    pub(crate) fn free_name(&self, name: &str, id: &Id) {
        let mut table = self.table();
        if table.names.get(name).is_some_and(|holder| holder == id.as_str()) {
            table.names.remove(name);
        }
    }

    /// Makes a container known. Its name is taken over from the reservation.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        let name = container.record().name.clone();
        let mut table = self.table();
        table.names.insert(name, container.id.to_string());
        table.by_id.insert(container.id.to_string(), container);
    }

    /// Makes a container unknown.
    pub(crate) fn forget(&self, container: &Container) {
        let name = container.record().name.clone();
        self.table().by_id.remove(container.id.as_str());
        self.free_name(&name, &container.id);
    }

    /// Directory of a container's records and logs.
    pub(crate) fn data_dir(&self, id: &Id) -> PathBuf {
        self.0.options.data_root.join("containers").join(id.as_str())
    }

    /// Where removed containers' files wait for their deletion.
    pub(crate) fn trash(&self) -> PathBuf {
        self.0.options.data_root.join("trash")
    }

    /// Directory of a running container's sockets and files.
    pub(crate) fn run_dir(&self, id: &Id) -> PathBuf {
        self.0.options.exec_root.join("containers").join(id.as_str())
    }
}

/// Makes a directory that only root reads, with its parents.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create directory", dir))
}
