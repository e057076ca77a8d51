//! One container, and a file for each thing that can be done with it.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod cdi;
mod changes;
pub(crate) mod commit;
mod connect;
pub(crate) mod create;
mod detach_keys;
mod donor;
mod endpoints;
pub(crate) mod exec;
mod exit;
mod export;
mod health;
pub(crate) mod inspect;
mod keep;
mod kill;
mod links;
pub(crate) mod list;
pub(crate) mod logs;
mod merge;
mod mounts;
mod names_files;
mod pause;
mod ports;
mod pump;
mod quota;
pub(crate) mod record;
mod remove;
mod rename;
mod resources;
mod restart;
mod restore;
mod security;
mod shim;
mod spec;
mod start;
mod stats;
mod stop;
mod top;
mod update;
pub(crate) mod usage;
mod validate;
mod view;
pub(crate) mod wait;
pub(crate) mod why;

pub(crate) use mounts::{Kind, lease_holder};
pub use pump::{Peer, read_by_peer};
pub(crate) use remove::discard;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use budu_spec::Id;
use tokio::sync::watch;

use self::attach::Waiting;
use self::record::{Record, State, Status};
use self::shim::Control;

/// A container in memory.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id; never changes.
    pub(crate) id: Id,
    record: Mutex<Arc<Record>>,
    state: Mutex<State>,
    /// Held by whatever changes its status or its record, one at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// What waiters wait for.
    pub(crate) progress: watch::Sender<Progress>,
    /// The way to its shim, while it runs.
    pub(crate) control: Mutex<Option<Control>>,
    /// Clients that attached before it runs.
    pub(crate) waiting: Mutex<Vec<Waiting>>,
    /// Its log on its way to a receiver.
    pub(crate) forwarding: Mutex<Option<Arc<crate::log::Forwarding>>>,
    /// The task that probes its health, while it runs.
    pub(crate) prober: Mutex<Option<tokio::task::AbortHandle>>,
    /// Who wants it to end, from the signal to the end.
    pub(crate) intent: Mutex<Option<why::Intent>>,
    /// It is being restarted by hand: `AutoRemove` does not take it at the end between.
    pub(crate) comes_back: AtomicBool,
    /// Its files on disk.
    written: Mutex<keep::Written>,
}

/// How far a container's life is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// A process lives, or will again by restart policy.
    pub(crate) running: bool,
    /// How often it ended.
    pub(crate) exits: u64,
    /// Exit code of the last end.
    pub(crate) exit_code: i64,
    /// It exists no more.
    pub(crate) removed: bool,
    /// It was to be removed, and could not.
    pub(crate) stuck: bool,
}

impl Container {
    pub(crate) fn new(record: Record, state: State) -> Container {
        let progress = Progress {
            running: state.status.is_running(),
            exit_code: i64::from(state.exit_code),
            ..Progress::default()
        };
        Container {
            id: record.id.clone(),
            record: Mutex::new(Arc::new(record)),
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::new(()),
            progress: watch::Sender::new(progress),
            control: Mutex::default(),
            waiting: Mutex::default(),
            forwarding: Mutex::default(),
            prober: Mutex::default(),
            intent: Mutex::default(),
            comes_back: AtomicBool::new(false),
            written: Mutex::default(),
        }
    }

    /// What was asked for at create. The answer does not follow later renames.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the record, in memory only.
    pub(crate) fn set_record(&self, record: Record) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }

    /// What became of it. Hold the guard for a moment only.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to its shim, if it runs.
    pub(crate) fn control(&self) -> Option<Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The way to its shim, or the error that it does not run.
    pub(crate) fn running_control(&self) -> Result<Control, crate::Error> {
        self.control().ok_or_else(|| crate::Error::not_running(self.id.as_str()))
    }

    pub(crate) fn set_control(&self, control: Option<Control>) {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
    }

    /// Whether clients attached before it ran.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the clients that attached before it ran.
    pub(crate) fn take_waiting(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses anything but a running, unpaused container.
    pub(crate) fn require_running(&self, purpose: &str) -> Result<(), crate::Error> {
        match self.state().status {
            Status::Running => Ok(()),
            Status::Paused => Err(crate::Error::conflict(format!(
                "container {} is paused, unpause the container before {purpose}",
                self.id
            ))),
            Status::Restarting => Err(crate::Error::conflict(format!(
                "container {} is restarting, wait until the container is running",
                self.id
            ))),
            _ => Err(crate::Error::not_running(self.id.as_str())),
        }
    }

    /// Attributes of its events: labels, image and name.
    pub(crate) fn attributes(&self, more: &[(&str, String)]) -> BTreeMap<String, String> {
        let record = self.record();
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        attributes
    }
}

impl crate::Engine {
    /// Tells everybody what happened to a container.
    pub(crate) fn tell(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        self.events().publish("container", action, container.id.as_str(), container.attributes(more));
    }
}
