//! Looking at volumes.

use std::sync::Arc;

use budu_spec::Filters;
use budu_spec::docker::{self, VolumeList, VolumeUsage};

use super::create::check_name;
use super::plugin::{Driver, Known};
use super::record::Record;
use super::{LOCAL, Volume, Volumes, Wish};
use crate::{Error, clock};

impl Volumes {
    /// Describes the volumes that pass the filters `dangling`, `driver`, `label`, `label!` and `name`.
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub async fn list(&self, filters: &Filters) -> Result<VolumeList, Error> {
        filters.check_keys(&["dangling", "driver", "label", "label!", "name"])?;
        let dangling = filters.flag("dangling")?;
        let warnings = self.learn().await;
        let all: Vec<Arc<Volume>> = self.table().values().cloned().collect();
        let wanted = |volume: &&Arc<Volume>| {
            let record = volume.record();
            filters.allows("driver", &record.driver)
                && filters.matches("name", &record.name)
                && filters.labels_match(&record.labels.clone().unwrap_or_default())
                && dangling.is_none_or(|wish| wish == volume.users().all.is_empty())
        };
        let volumes = all.iter().filter(wanted).map(|volume| self.shape(volume)).collect();
        Ok(VolumeList { volumes, warnings: Some(warnings).filter(|list| !list.is_empty()) })
    }

    /// Describes one volume.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub async fn inspect(&self, name: &str) -> Result<docker::Volume, Error> {
        let volume = match self.find(name) {
            Some(volume) => volume,
            None => {
                let wish = Wish { name: name.to_owned(), ..Wish::default() };
                self.probe(&wish).await.ok_or_else(|| Error::NoSuchVolume { name: name.to_owned() })?
            }
        };
        Ok(self.shape_now(&volume).await)
    }

    /// Takes up the volumes that plugins have. Returns what they complain about.
    async fn learn(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for driver in self.drivers().await {
            match driver.list().await {
                Ok(all) => {
                    for known in all {
                        self.take_up(&driver, &known).await;
                    }
                }
                Err(error) => complaints.push(format!("list {}: {error}", driver.name())),
            }
        }
        complaints
    }

    /// Looks for a volume nobody has told us of, among all plugins or those that are wished for.
    pub(super) async fn probe(&self, wish: &Wish) -> Option<Arc<Volume>> {
        if wish.driver == LOCAL {
            return None;
        }
        for driver in self.drivers().await {
            if wish.driver.is_empty() || wish.driver == driver.name() {
                match driver.get(&wish.name).await {
                    Ok(Some(known)) => return self.take_up(&driver, &known).await,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(plugin = driver.name(), %error, "plugin does not answer"),
                }
            }
        }
        None
    }

    async fn take_up(&self, driver: &Driver, known: &Known) -> Option<Arc<Volume>> {
        if let Some(volume) = self.find(&known.name) {
            return Some(volume);
        }
        if let Err(error) = check_name(&known.name) {
            tracing::warn!(plugin = driver.name(), volume = known.name, %error, "left out");
            return None;
        }
        let created = known.created_at.parse::<jiff::Timestamp>().map_or_else(|_| clock::now(), clock::nanos);
        let record = Record {
            name: known.name.clone(),
            driver: driver.name().to_owned(),
            created,
            scope: driver.scope().await,
            ..Record::default()
        };
        match self.place(record, true) {
            Ok(record) => Some(self.admit(record)),
            // Somebody else was faster.
            Err(_) => self.find(&known.name),
        }
    }

    /// [`Volumes::shape`] with what the driver says just now, and the snapshots.
    pub(super) async fn shape_now(&self, volume: &Volume) -> docker::Volume {
        let mut shape = self.shape(volume);
        if shape.driver != LOCAL {
            let known = match self.driver(&shape.driver).await {
                Ok(driver) => driver.get(&shape.name).await.ok().flatten(),
                Err(_) => None,
            };
            if let Some(known) = known {
                shape.mountpoint = known.mountpoint;
                shape.status = known.status.filter(|status| !status.is_empty());
            }
            return shape;
        }
        let snapshots = self.snapshots(&shape.name);
        if !snapshots.is_empty() {
            shape.status = Some([("Snapshots".to_owned(), serde_json::json!(snapshots))].into());
        }
        shape
    }

    /// Describes every volume with its size and its users, for `GET /system/df`. Walks all files.
    ///
    /// # Errors
    /// None; a size that cannot be found out is -1.
    pub fn usage(&self) -> Result<Vec<docker::Volume>, Error> {
        let all: Vec<Arc<Volume>> = self.table().values().cloned().collect();
        let measured = all
            .iter()
            .filter(|volume| volume.record().driver == LOCAL && volume.record().options.is_none())
            .map(|volume| {
                let size = super::copy::size(&self.data(&volume.record().name));
                let size = size.ok().and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
                let ref_count = i64::try_from(volume.users().all.len()).unwrap_or(i64::MAX);
                docker::Volume { usage_data: Some(VolumeUsage { ref_count, size }), ..self.shape(volume) }
            });
        Ok(measured.collect())
    }

    /// A volume as the API shows it.
    pub(super) fn shape(&self, volume: &Volume) -> docker::Volume {
        let record = volume.record();
        docker::Volume {
            created_at: clock::print(record.created / 1_000_000_000 * 1_000_000_000),
            driver: record.driver.clone(),
            labels: record.labels.clone(),
            mountpoint: match record.driver.as_str() {
                LOCAL => self.data(&record.name).to_string_lossy().into_owned(),
                _ => String::new(),
            },
            name: record.name.clone(),
            options: record.options.clone(),
            scope: if record.scope.is_empty() { LOCAL.to_owned() } else { record.scope.clone() },
            status: None,
            usage_data: None,
        }
    }
}
