//! Restore: taking up what an earlier daemon left, running or not.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use budu_runtime::protocol::{Event, Request};
use budu_spec::Id;
use tokio::net::UnixStream;

use super::record::{RECORD_FILE, Record, STATE_FILE, State, Status, load};
use super::remove::discard;
use super::shim::{self, Control, Frames};
use super::{Container, exit, restart};
use crate::{Engine, Error};

impl Engine {
    /// Loads all records, takes over what still runs, finishes what ended
    /// meanwhile, and removes what belongs to no container. Call once, before
    /// anything else.
    ///
    /// # Errors
    /// When records cannot be read at all; a single broken one is skipped
    /// with a warning.
    pub async fn restore(&self) -> Result<(), Error> {
        let containers = self.load_all()?;
        for container in &containers {
            self.insert(Arc::clone(container));
        }
        let mut ended = Vec::new();
        for container in &containers {
            let status = container.state().status;
            if !matches!(status, Status::Running | Status::Paused) {
                continue;
            }
            match self.take_over(container).await {
                Some(frames) => self.adopt(container, frames),
                None => ended.push(Arc::clone(container)),
            }
        }
        for container in ended {
            // What it was connected to is gone with its processes; reclaim frees it.
            self.ended(&container, None).await;
        }
        self.settle_others(&containers).await;
        self.networks().reclaim()?;
        self.sweep()
    }

    fn load_all(&self) -> Result<Vec<Arc<Container>>, Error> {
        let root = self.0.options.data_root.join("containers");
        let mut list = Vec::new();
        for entry in fs::read_dir(&root).map_err(Error::io("list", &root))? {
            let dir = entry.map_err(Error::io("list", &root))?.path();
            match load::<Record>(&dir, RECORD_FILE) {
                Ok(Some(record)) if dir.file_name().is_some_and(|n| n == record.id.as_str()) => {
                    let state: State = load(&dir, STATE_FILE)?.unwrap_or_default();
                    list.push(Arc::new(Container::new(record, state)));
                }
                Ok(None) if !dir.join(RECORD_FILE).exists() => {
                    // Its creation or removal was cut short.
                    let _ = fs::remove_dir_all(&dir);
                }
                Ok(_) => tracing::error!(dir = %dir.display(), "broken container record, skipped"),
                Err(error) => tracing::error!(%error, "container record skipped"),
            }
        }
        Ok(list)
    }

    /// Connects to the shim of a container that ran; `None` when it is gone.
    async fn take_over(&self, container: &Container) -> Option<Frames<UnixStream>> {
        let stream = shim::open(&self.run_dir(&container.id), &Request::Watch).await.ok()?;
        let mut frames = Frames::messages(stream);
        match frames.event().await {
            Ok(Some(Event::Created { pid } | Event::Started { pid })) => {
                container.state().pid = pid;
                Some(frames)
            }
            _ => None,
        }
    }

    fn adopt(&self, container: &Arc<Container>, frames: Frames<UnixStream>) {
        let endpoint = container.state().endpoint.clone();
        if let Some(endpoint) = endpoint
            && let Err(error) = self.networks().adopt(&endpoint)
        {
            tracing::warn!(container = %container.id, %error, "its network could not be taken over");
        }
        let (control, commands) = Control::pair();
        container.set_control(Some(control));
        container.progress.send_modify(|p| p.running = true);
        exit::watch(self.clone(), Arc::clone(container), frames, commands);
    }

    /// Containers that did not run: half-done removals are finished, restart
    /// policies applied.
    async fn settle_others(&self, containers: &[Arc<Container>]) {
        for container in containers {
            if container.control().is_some() || container.progress.borrow().removed {
                continue;
            }
            let record = container.record();
            let status = container.state().status;
            let half_removed = matches!(status, Status::Removing | Status::Dead);
            if half_removed || record.host_config.auto_remove {
                let _turn = container.turn.lock().await;
                if let Err(error) = self.remove_now(container) {
                    tracing::warn!(container = %container.id, %error, "could not finish a removal");
                }
                continue;
            }
            if status == Status::Restarting {
                // Its pause is over or never counted; the policy decides anew.
                container.state().status = Status::Exited;
                container.ended();
            }
            if restart::at_daemon_start(&record.host_config.restart_policy, &container.state()) {
                let engine = self.clone();
                let container = Arc::clone(container);
                tokio::spawn(async move {
                    if let Err(error) = engine.start(container.id.as_str()).await {
                        tracing::warn!(container = %container.id, %error, "restart by policy failed");
                    }
                });
            }
        }
    }

    /// Removes writable layers and run directories of no container.
    fn sweep(&self) -> Result<(), Error> {
        let trash = self.trash();
        let left = fs::read_dir(&trash).map_err(Error::io("list", &trash))?.flatten().map(|entry| entry.path());
        discard(left.collect());
        let known: HashSet<String> = self.all().into_iter().map(|c| c.id.to_string()).collect();
        for (owner, _) in self.images().leases()? {
            if owner.parse::<Id>().is_ok() && !known.contains(&owner) {
                self.images().release(&owner)?;
            }
        }
        let root = self.0.options.exec_root.join("containers");
        for entry in fs::read_dir(&root).map_err(Error::io("list", &root))?.flatten() {
            let name = entry.file_name();
            if !name.to_str().is_some_and(|n| known.contains(n)) {
                abandon(&entry.path());
            }
        }
        Ok(())
    }
}

/// Removes the run directory of a container nobody knows; its shim, if there
/// is one, has no record any more and is asked to kill what it holds.
fn abandon(dir: &Path) {
    use budu_runtime::protocol;
    if let Ok(path) = fs::canonicalize(dir.join(protocol::SOCKET))
        && let Ok(stream) = std::os::unix::net::UnixStream::connect(path)
    {
        let _ = protocol::send(&stream, &Request::Watch);
        let _ = protocol::send(&stream, &Request::Signal { signal: 9, all: true });
    }
    let _ = fs::remove_dir_all(dir);
}
