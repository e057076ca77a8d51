//! How records and states reach the disk, also a full one.
//!
//! A record is what somebody asked for: where it cannot be written, the request
//! fails and nothing changed. A state is what happened already: failing to write
//! it down undoes nothing, so it never fails a request. It is then written to the
//! run directory, which lies in memory, where the next daemon looks first, and
//! again to its place as soon as that has room.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Container;
use super::record::{RECORD_FILE, Record, STATE_FILE, State, load, save};
use crate::{Engine, Error};

/// Pause between attempts to write a state to a disk that took none.
const AGAIN: Duration = Duration::from_secs(1);

/// Held while a container's files are written, one at a time: the last write is of the newest state.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The state is not in its place yet.
    behind: bool,
    /// A task tries again.
    retried: bool,
}

impl Container {
    /// A container as it was found on disk.
    pub(super) fn with(self, written: Written) -> Container {
        Container { written: Mutex::new(written), ..self }
    }

    fn writing(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Replaces a container's record, on disk and then in memory. The caller holds its turn.
    pub(crate) fn save_record(&self, container: &Container, record: Record) -> Result<(), Error> {
        let _writing = container.writing();
        save(&self.data_dir(&container.id), RECORD_FILE, &record, record.durable())?;
        container.set_record(record);
        Ok(())
    }

    /// Takes a saved record back: what it asked for could not be done.
    pub(super) fn restore_record(&self, container: &Container, before: Arc<Record>) {
        if let Err(error) = self.save_record(container, Record::clone(&before)) {
            tracing::warn!(container = %container.id, %error, "what could not be done stays in the record until it is written again");
            container.set_record(Record::clone(&before));
        }
    }

    /// Writes a container's state. `durable` syncs it, but never for containers that are removed when they end.
    pub(crate) fn keep_state(&self, container: &Arc<Container>, durable: bool) {
        let mut written = container.writing();
        let Err(error) = self.write_state(container, durable, &mut written) else { return };
        tracing::warn!(container = %container.id, %error, "its state could not be written and is tried again");
        if !std::mem::replace(&mut written.retried, true) {
            let (engine, container) = (self.clone(), Arc::downgrade(container));
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(AGAIN).await;
                    let Some(container) = container.upgrade() else { return };
                    let mut written = container.writing();
                    let removed = container.progress.borrow().removed;
                    if removed || !written.behind || engine.write_state(&container, true, &mut written).is_ok() {
                        written.retried = false;
                        return;
                    }
                }
            });
        }
    }

    fn write_state(&self, container: &Container, durable: bool, written: &mut Written) -> Result<(), Error> {
        let state = container.state().clone();
        let durable = durable && container.record().durable();
        let aside = self.run_dir(&container.id);
        if let Err(error) = save(&self.data_dir(&container.id), STATE_FILE, &state, durable) {
            // Without a run directory nothing runs, and memory has to do.
            let _ = save(&aside, STATE_FILE, &state, false);
            written.behind = true;
            return Err(error);
        }
        if std::mem::take(&mut written.behind) {
            let _ = std::fs::remove_file(aside.join(STATE_FILE));
        }
        Ok(())
    }

    /// Reads the state an earlier daemon left in `dir`, or aside because it could not be written there.
    pub(super) fn load_state(&self, dir: &Path, record: &Record) -> Result<(State, Written), Error> {
        let aside = load(&self.run_dir(&record.id), STATE_FILE).ok().flatten();
        let behind = aside.is_some();
        let state = match aside {
            Some(state) => state,
            None => load(dir, STATE_FILE)?.unwrap_or_default(),
        };
        Ok((state, Written { behind, retried: false }))
    }

    /// Brings a state to its place that an earlier daemon could only write aside.
    pub(super) fn catch_up(&self, container: &Arc<Container>) {
        let behind = container.writing().behind;
        if behind {
            self.keep_state(container, true);
        }
    }

    /// Makes a state that was written survive a power cut, in the background.
    pub(crate) fn sync_state_later(&self, container: &Container) {
        if !container.record().durable() {
            return;
        }
        let dir = self.data_dir(&container.id);
        tokio::task::spawn_blocking(move || {
            // A container that was removed meanwhile has nothing to keep.
            let sync = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all());
            let _ = sync(&dir.join(STATE_FILE)).and_then(|()| sync(&dir));
        });
    }
}
