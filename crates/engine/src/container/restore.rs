//! Restore: taking up what an earlier daemon left, running or not.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use budu_runtime::protocol::{self, Event, Request};
use budu_spec::Id;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::record::{RECORD_FILE, Record, Status, load};
use super::remove::discard;
use super::shim::{self, Control, Frames};
use super::why::Senders;
use super::{Container, exit, health, kill, mounts, restart};
use crate::{Engine, Error};

/// How long a shim may take to end a container that is killed.
const STRAY_TIMEOUT: Duration = Duration::from_secs(5);

impl Engine {
    /// Loads all records, takes over what still runs, finishes what ended
    /// meanwhile, and removes what belongs to no container. Call once, before
    /// anything else.
    ///
    /// # Errors
    /// When records cannot be read at all; a single broken one is skipped
    /// with a warning.
    pub async fn restore(&self) -> Result<(), Error> {
        let engine = self.clone();
        // Nobody waits for it: the kernel takes its time.
        tokio::task::spawn_blocking(move || {
            engine.0.senders.get_or_init(Senders::start);
        });
        let containers = self.load_all()?;
        let renamed = self.volumes().unsettled();
        for container in &containers {
            self.insert(Arc::clone(container));
            for (old, new) in &renamed {
                if mounts::volumes(&container.record().points).contains(old.as_str()) {
                    self.follow(container, old, new)?;
                }
            }
            let live = matches!(container.state().status, Status::Running | Status::Paused);
            for name in mounts::volumes(&container.record().points) {
                self.volumes().adopt(name, container.id.as_str(), live);
            }
        }
        for (_, new) in renamed {
            self.volumes().settled(&new)?;
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
        self.end_strays(&containers).await;
        for container in &containers {
            self.catch_up(container);
        }
        // Together: each may wait for its log's receiver.
        let ended = ended.iter().map(|container| {
            self.resume_log(container, false);
            // What it was connected to is gone with its processes; reclaim frees it.
            self.ended(container, None)
        });
        futures_util::future::join_all(ended).await;
        self.volumes().unmount_idle().await;
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
                    match self.load_state(&dir, &record) {
                        Ok((state, written)) => list.push(Arc::new(Container::new(record, state).with(written))),
                        Err(error) => tracing::error!(%error, "container state skipped"),
                    }
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
        self.adopt_networks(container);
        let (control, commands) = Control::pair();
        container.set_control(Some(control));
        container.progress.send_modify(|p| p.running = true);
        health::start(self, container);
        exit::watch(self.clone(), Arc::clone(container), frames, commands);
        self.resume_log(container, true);
    }

    /// Ends what runs without anybody having been told so: the daemon was
    /// killed between a program's start and the note of it. The client was
    /// never answered, so the start did not happen.
    async fn end_strays(&self, containers: &[Arc<Container>]) {
        let root = self.0.options.exec_root.join("containers");
        let adopted: HashSet<&str> =
            containers.iter().filter(|c| c.control().is_some()).map(|c| c.id.as_str()).collect();
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| adopted.contains(name)) {
                continue;
            }
            let dir = entry.path();
            if tokio::time::timeout(STRAY_TIMEOUT, end_stray(&dir)).await.is_err() {
                tracing::warn!(dir = %dir.display(), "a shim nobody owns does not end");
            }
        }
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
                if let Err(error) = self.remove_now(container, record.host_config.auto_remove) {
                    tracing::warn!(container = %container.id, %error, "could not finish a removal");
                }
                continue;
            }
            if status == Status::Restarting {
                // Its pause is over or never counted; the policy decides anew.
                container.state().status = Status::Exited;
                container.ended(false);
            }
            if !record.host_config.auto_remove && status != Status::Created {
                self.resume_log(container, false);
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
            let holder = mounts::lease_holder(&owner);
            if holder.parse::<Id>().is_ok() && !known.contains(holder) {
                self.images().release(&owner)?;
            }
        }
        let root = self.0.options.exec_root.join("containers");
        for entry in fs::read_dir(&root).map_err(Error::io("list", &root))?.flatten() {
            let name = entry.file_name();
            if !name.to_str().is_some_and(|n| known.contains(n)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

/// Kills the container of the shim that listens in `run_dir`, if one does, and
/// waits for its end.
async fn end_stray(run_dir: &Path) {
    let Ok(stream) = shim::open(run_dir, &Request::Watch).await else { return };
    let mut frames = Frames::messages(stream);
    let kill = protocol::encode(&Request::Signal { signal: kill::KILL, all: true });
    if frames.connection().write_all(&kill).await.is_ok() {
        while let Ok(Some(event)) = frames.event().await {
            if matches!(event, Event::Exited(_)) {
                tracing::warn!(dir = %run_dir.display(), "ended a container whose start was never acknowledged");
                break;
            }
        }
    }
}
