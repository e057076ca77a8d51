//! Looking at volumes.

use std::sync::Arc;

use budu_spec::Filters;
use budu_spec::docker::{self, VolumeList, VolumeUsage};

use super::{Volume, Volumes};
use crate::{Error, clock};

impl Volumes {
    /// Describes the volumes that pass the filters `dangling`, `driver`, `label`, `label!` and `name`.
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn list(&self, filters: &Filters) -> Result<VolumeList, Error> {
        filters.check_keys(&["dangling", "driver", "label", "label!", "name"])?;
        let dangling = filters.flag("dangling")?;
        let all: Vec<Arc<Volume>> = self.table().values().cloned().collect();
        let wanted = |volume: &&Arc<Volume>| {
            let record = volume.record();
            filters.allows("driver", &record.driver)
                && filters.matches("name", &record.name)
                && filters.labels_match(&record.labels.clone().unwrap_or_default())
                && dangling.is_none_or(|wish| wish == volume.users().all.is_empty())
        };
        let volumes = all.iter().filter(wanted).map(|volume| self.shape(volume)).collect();
        Ok(VolumeList { volumes, warnings: None })
    }

    /// Describes one volume.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub fn inspect(&self, name: &str) -> Result<docker::Volume, Error> {
        Ok(self.shape(&*self.found(name)?))
    }

    /// Describes every volume with its size and its users, for `GET /system/df`. Walks all files.
    ///
    /// # Errors
    /// None; a size that cannot be found out is -1.
    pub fn usage(&self) -> Result<Vec<docker::Volume>, Error> {
        let all: Vec<Arc<Volume>> = self.table().values().cloned().collect();
        let measured = all.iter().filter(|volume| volume.record().options.is_none()).map(|volume| {
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
            mountpoint: self.data(&record.name).to_string_lossy().into_owned(),
            name: record.name.clone(),
            options: record.options.clone(),
            scope: "local".to_owned(),
            status: None,
            usage_data: None,
        }
    }
}
