//! What volumes and containers do together: a new name that containers follow, and copies while containers stand still.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;

use budu_spec::docker;

use super::create::check_name;
use super::record::{RECORD_FILE, Record};
use super::snapshot::Snapshot;
use super::{LOCAL, Volumes};
use crate::container::record::{Status, save};
use crate::container::{Container, Kind};
use crate::{Engine, Error};

impl Engine {
    /// Gives a volume another name; the containers that refer to it do so by the new one from now on.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`], [`Error::Invalid`], [`Error::Conflict`] when the name is taken.
    pub async fn rename_volume(&self, old: &str, new: &str) -> Result<(), Error> {
        let volumes = self.volumes();
        let users = volumes.rename(old, new).await?;
        for container in users.iter().filter_map(|id| self.find(id).ok()) {
            let _turn = container.turn.lock().await;
            self.follow(&container, old, new)?;
        }
        volumes.settled(new)
    }

    /// Writes the new name of a volume into a container's record.
    pub(crate) fn follow(&self, container: &Container, old: &str, new: &str) -> Result<(), Error> {
        let mut record = (*container.record()).clone();
        let source = self.volumes().data(new).to_string_lossy().into_owned();
        for point in record.points.iter_mut().filter(|p| p.kind == Kind::Volume && p.name == old) {
            new.clone_into(&mut point.name);
            point.source.clone_from(&source);
        }
        for bind in record.host_config.binds.iter_mut().flatten() {
            if let Some(rest) = bind.strip_prefix(old).filter(|rest| rest.starts_with(':')) {
                *bind = format!("{new}{rest}");
            }
        }
        for mount in record.host_config.mounts.iter_mut().flatten() {
            if mount.kind == "volume" && mount.source == old {
                new.clone_into(&mut mount.source);
            }
        }
        self.save_record(container, record)
    }

    /// [`Volumes::snapshot`], while the containers that run with the volume are paused unless `pause` is off.
    pub async fn snapshot_volume(&self, name: &str, wish: Option<&str>, pause: bool) -> Result<Snapshot, Error> {
        let paused = if pause { self.pause_users(name).await } else { Vec::new() };
        let made = self.volumes().snapshot(name, wish).await;
        self.go_on(paused).await;
        made
    }

    /// [`Volumes::clone_volume`], with the same pause.
    pub async fn clone_volume(
        &self,
        name: &str,
        new: &str,
        labels: Option<BTreeMap<String, String>>,
        snapshot: Option<&str>,
    ) -> Result<docker::Volume, Error> {
        let paused = if snapshot.is_none() { self.pause_users(name).await } else { Vec::new() };
        let made = self.volumes().clone_volume(name, new, labels, snapshot).await;
        self.go_on(paused).await;
        made
    }

    async fn pause_users(&self, volume: &str) -> Vec<Arc<Container>> {
        let mut paused = Vec::new();
        for id in self.volumes().live(volume) {
            let Ok(container) = self.find(&id) else { continue };
            let runs = container.state().status == Status::Running;
            if runs && self.pause(&id).await.is_ok() {
                paused.push(container);
            }
        }
        paused
    }

    async fn go_on(&self, paused: Vec<Arc<Container>>) {
        for container in paused {
            if let Err(error) = self.unpause(container.id.as_str()).await {
                tracing::warn!(container = %container.id, %error, "could not go on after a copy of its volume");
            }
        }
    }
}

impl Volumes {
    /// Moves a volume; returns the containers that refer to it. The record tells the old name until [`Volumes::settled`].
    async fn rename(&self, old: &str, new: &str) -> Result<Vec<String>, Error> {
        check_name(new)?;
        let (first, second) = if old < new { (old, new) } else { (new, old) };
        let _turns = (self.turn(first).await, if first == second { None } else { Some(self.turn(second).await) });
        let volume = self.found(old)?;
        self.check_free(new)?;
        let before = volume.record();
        if before.driver != LOCAL {
            return Err(Error::unsupported(format!("renaming volumes of the driver {}", before.driver)));
        }
        let mut labels = before.labels.clone();
        if let Some(labels) = &mut labels {
            labels.remove(docker::ANONYMOUS_LABEL);
        }
        let record = Record { name: new.to_owned(), was: Some(old.to_owned()), labels, ..Record::clone(&before) };
        let (dir, moved) = (self.dir(old), self.dir(new));
        save(&dir, RECORD_FILE, &record, true)?;
        fs::rename(&dir, &moved).map_err(Error::io("rename volume", &dir))?;
        File::open(&self.root).and_then(|root| root.sync_all()).map_err(Error::io("sync", &self.root))?;
        volume.set_record(record);
        let mut table = self.table();
        table.remove(old);
        table.insert(new.to_owned(), Arc::clone(&volume));
        drop(table);
        self.tell("rename", new, &[("driver", LOCAL), ("oldName", old)]);
        let users = volume.users().all.iter().cloned().collect();
        Ok(users)
    }

    /// Every container knows the new name.
    pub(crate) fn settled(&self, name: &str) -> Result<(), Error> {
        let volume = self.found(name)?;
        let record = Record { was: None, ..Record::clone(&volume.record()) };
        save(&self.dir(name), RECORD_FILE, &record, true)?;
        volume.set_record(record);
        Ok(())
    }

    /// Renames that were cut short: old and new name.
    pub(crate) fn unsettled(&self) -> Vec<(String, String)> {
        let records: Vec<_> = self.table().values().map(|volume| volume.record()).collect();
        records.iter().filter_map(|record| Some((record.was.clone()?, record.name.clone()))).collect()
    }

    fn live(&self, name: &str) -> Vec<String> {
        self.find(name).map(|volume| volume.users().live.iter().cloned().collect()).unwrap_or_default()
    }
}
