//! Remove and prune.

use std::fs;
use std::sync::Arc;

use budu_spec::docker::{ANONYMOUS_LABEL, VolumesPruned};
use budu_spec::{Filters, Id};

use super::Volumes;
use crate::Error;
use crate::container::discard;

impl Volumes {
    /// Removes a volume with all its files. With `force` one that is not there is as good as removed.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`], or [`Error::Conflict`] naming the containers that refer to it.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        match self.erase(name, force).await {
            Err(Error::NoSuchVolume { .. }) if force => Ok(()),
            other => other,
        }
    }

    /// Removes an anonymous volume that its container gives up, unless another one has it too.
    pub(crate) fn drop_unused(self: &Arc<Self>, name: &str) {
        let Some(volume) = self.find(name) else { return };
        if !volume.users().all.is_empty() {
            return;
        }
        // Whoever is at work on it just now looks for users first, and so does what comes after.
        let turn = self.try_turn(name);
        match turn {
            Some(_turn) if volume.record().driver == super::LOCAL => report(name, self.erase_now(name)),
            _ => {
                let (volumes, name) = (Arc::clone(self), name.to_owned());
                tokio::spawn(async move { report(&name, volumes.erase(&name, false).await) });
            }
        }
    }

    async fn erase(&self, name: &str, force: bool) -> Result<(), Error> {
        let _turn = self.turn(name).await;
        let volume = match self.find(name) {
            Some(volume) => volume,
            None => {
                let wish = super::Wish { name: name.to_owned(), ..super::Wish::default() };
                self.probe(&wish).await.ok_or_else(|| Error::NoSuchVolume { name: name.to_owned() })?
            }
        };
        let driver = volume.record().driver.clone();
        if driver != super::LOCAL && volume.users().all.is_empty() {
            let removed = match self.driver(&driver).await {
                Ok(driver) => driver.remove(name).await,
                Err(error) => Err(error),
            };
            match removed {
                Err(error) if !force => return Err(error.about(&format!("remove {name}"))),
                Err(error) => tracing::warn!(volume = name, %error, "forgotten, though its driver did not remove it"),
                Ok(()) => {}
            }
        }
        self.erase_now(name)
    }

    /// For whoever has the turn.
    fn erase_now(&self, name: &str) -> Result<(), Error> {
        let volume = self.found(name)?;
        let users: Vec<String> = volume.users().all.iter().cloned().collect();
        if !users.is_empty() {
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        let record = volume.record();
        self.unmount_now(&record)?;
        super::size::forget(record.limit, &self.data(name));
        let (dir, gone) = (self.dir(name), self.trash.join(Id::random().as_str()));
        fs::rename(&dir, &gone).map_err(Error::io("remove", &dir))?;
        self.table().remove(name);
        discard(vec![gone]);
        self.tell("destroy", name, &[("driver", &record.driver)]);
        Ok(())
    }

    /// Removes local volumes without options that no container refers to: the anonymous ones, or all of them with the
    /// filter `all`. Takes `label` and `label!` too.
    ///
    /// # Errors
    /// [`Error::Filter`], [`Error::Conflict`] while another prune is at work; a volume that cannot be removed is left out.
    pub async fn prune(&self, filters: &Filters) -> Result<VolumesPruned, Error> {
        let Ok(_alone) = self.pruning.try_lock() else {
            return Err(Error::conflict("a prune operation is already running"));
        };
        let all = everything(filters)?;
        filters.check_keys(&["all", "label", "label!"])?;
        let mut pruned = VolumesPruned::default();
        let names: Vec<String> = self.table().keys().cloned().collect();
        for name in names {
            let Some(volume) = self.find(&name) else { continue };
            let record = volume.record();
            let labels = record.labels.clone().unwrap_or_default();
            let wanted = record.driver == super::LOCAL
                && record.options.is_none()
                && volume.users().all.is_empty()
                && (all || labels.contains_key(ANONYMOUS_LABEL))
                && filters.labels_match(&labels);
            if !wanted {
                continue;
            }
            let data = self.data(&name);
            let size = tokio::task::spawn_blocking(move || super::copy::size(&data)).await;
            match self.erase(&name, false).await {
                Ok(()) => {
                    pruned.space_reclaimed += size.ok().and_then(Result::ok).unwrap_or(0);
                    pruned.volumes_deleted.push(name);
                }
                Err(error) => tracing::warn!(volume = name, %error, "could not remove"),
            }
        }
        self.tell("prune", "", &[("reclaimed", &pruned.space_reclaimed.to_string())]);
        Ok(pruned)
    }
}

fn report(name: &str, result: Result<(), Error>) {
    match result {
        Ok(()) | Err(Error::Conflict { .. } | Error::NoSuchVolume { .. }) => {}
        Err(error) => tracing::warn!(volume = name, %error, "could not remove"),
    }
}

/// Whether volumes with names are meant too.
fn everything(filters: &Filters) -> Result<bool, Error> {
    match filters.values("all") {
        [] => Ok(false),
        [_] => filters.flag("all").map(|on| on == Some(true)).map_err(|_| {
            let value = &filters.values("all")[0];
            Error::invalid(format!("invalid filter 'all': strconv.ParseBool: parsing \"{value}\": invalid syntax"))
        }),
        values => {
            Err(Error::invalid(format!("invalid filter 'all=[{}]': only one value is expected", values.join(" "))))
        }
    }
}
