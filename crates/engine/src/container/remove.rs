//! Remove: nothing of it is left.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use budu_spec::Filters;
use budu_spec::units::parse_time;

use super::record::Status;
use super::why::By;
use super::{Container, kill, quota};
use crate::{Engine, Error};

impl Engine {
    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it runs and `force` is not given.
    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<(), Error> {
        let container = self.find(name)?;
        let status = container.state().status;
        if status.is_running() && !force {
            let advice = match status {
                Status::Paused => "container is paused and must be unpaused first".to_owned(),
                status => format!("container is {}: stop the container before removing or force remove", status.word()),
            };
            return Err(Error::conflict(format!("cannot remove container \"{name}\": {advice}")));
        }
        loop {
            if force {
                self.end(&container).await.map_err(|error| {
                    error.prefixed(&format!("cannot remove container \"{name}\": could not kill container"))
                })?;
            }
            let _turn = container.turn.lock().await;
            if container.progress.borrow().removed {
                return if force { Ok(()) } else { Err(Error::NoSuchContainer { name: name.to_owned() }) };
            }
            if !container.state().status.is_running() {
                return self.remove_now(&container, volumes);
            }
            // Its restart was under way already. It will not be restarted again.
            if !force {
                let id = &container.id;
                return Err(Error::conflict(format!("container {id} was started again while it was removed")));
            }
        }
    }

    /// Ends a container for good: no policy starts it again.
    async fn end(&self, container: &Arc<Container>) -> Result<(), Error> {
        let status = {
            let mut state = container.state();
            if state.status.is_running() {
                state.stopped_by_hand = true;
            }
            state.status
        };
        let mut progress = container.progress.subscribe();
        let before = progress.borrow().exits;
        match status {
            Status::Restarting => {
                // It may just be started, and is looked at again.
                let _turn = container.turn.lock().await;
                container.give_up_restart();
            }
            status if status.is_running() => {
                container.intend(By::Remove, kill::KILL, None);
                // It may end by itself at this very moment.
                let _ = self.signal(container, kill::KILL).await;
                kill::killed(&mut progress, before).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes all containers that do not run and pass the filters `label`,
    /// `label!` and `until`. Returns their ids and the bytes they held.
    ///
    /// # Errors
    /// [`Error::Filter`]; a container that cannot be removed is left out.
    pub async fn prune(&self, filters: &Filters) -> Result<(Vec<String>, u64), Error> {
        filters.check_keys(&["label", "label!", "until"])?;
        let until = filters.values("until").first();
        let bad = |text: &String| Error::invalid(format!("failed to parse value as time or duration: \"{text}\""));
        let until = until.map(|t| parse_time(t, jiff::Timestamp::now()).map_err(|_| bad(t))).transpose()?;
        let until = until.map_or(i64::MAX, crate::clock::nanos);
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for container in self.all() {
            let record = container.record();
            let idle = matches!(container.state().status, Status::Created | Status::Exited | Status::Dead);
            if !idle || record.created > until || !filters.labels_match(&record.config.labels) {
                continue;
            }
            let (engine, counted) = (self.clone(), Arc::clone(&container));
            let sizes = tokio::task::spawn_blocking(move || engine.sizes(&counted)).await;
            let size = sizes.ok().and_then(Result::ok).and_then(|(rw, _)| rw).unwrap_or(0);
            if self.remove(container.id.as_str(), false, false).await.is_ok() {
                ids.push(container.id.to_string());
                bytes += u64::try_from(size).unwrap_or(0);
            }
        }
        self.events().publish("container", "prune", "", [("reclaimed".to_owned(), bytes.to_string())].into());
        Ok((ids, bytes))
    }

    /// Removes a container that does not run and whose turn the caller holds.
    /// Waiters are woken when it is done.
    pub(super) fn remove_now(&self, container: &Container, volumes: bool) -> Result<(), Error> {
        container.state().status = Status::Removing;
        let result = self.erase(container, volumes);
        if let Err(error) = &result {
            let mut state = container.state();
            state.status = Status::Dead;
            state.error = error.to_string();
            drop(state);
            container.ended(false);
            container.progress.send_modify(|p| p.stuck = true);
            return result;
        }
        self.forget(container);
        // Whoever attached to a container that never ran waits for nothing.
        container.take_waiting().clear();
        let code = i64::from(container.state().exit_code);
        container.progress.send_modify(|p| {
            p.running = false;
            p.exits += 1;
            p.exit_code = code;
            p.removed = true;
        });
        self.tell(container, "destroy", &[]);
        Ok(())
    }

    /// Takes everything away that makes it a container, in one rename. Deleting
    /// the files, which takes a disk its time, goes on in the background; what
    /// a crash leaves of it the next start of the daemon removes.
    fn erase(&self, container: &Container, volumes: bool) -> Result<(), Error> {
        self.drop_log(container);
        let (data, trash) = (self.data_dir(&container.id), self.trash().join(container.id.as_str()));
        gone(fs::rename(&data, &trash)).map_err(Error::io("remove", &data))?;
        if let Ok(layer) = self.images().rootfs(container.id.as_str()) {
            quota::forget(&container.record().host_config, &layer);
        }
        self.images().release(container.id.as_str())?;
        let record = container.record();
        self.disclaim_mounts(&record.points, &container.id, volumes || record.host_config.auto_remove);
        self.0.execs.forget_container(container.id.as_str());
        discard(vec![trash, self.run_dir(&container.id)]);
        Ok(())
    }
}

/// Deletes directories that nobody looks for any more, in the background.
pub(crate) fn discard(dirs: Vec<PathBuf>) {
    tokio::task::spawn_blocking(move || {
        for dir in dirs {
            if let Err(error) = budu_image::delete_tree(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "could not delete");
            }
        }
    });
}

/// What is not there is as good as removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
