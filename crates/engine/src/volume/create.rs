//! Create: check, make the directory aside, move it into place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use budu_spec::docker::{self, ANONYMOUS_LABEL};
use budu_spec::{Id, names};

use super::record::{RECORD_FILE, Record};
use super::{DATA, LOCAL, Volume, Volumes, options};
use crate::container::record::save;
use crate::engine::private_dir;
use crate::{Error, clock};

/// A volume somebody wants to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Empty for a name that is made up, and the label that says so.
    pub(crate) name: String,
    /// Empty for whatever driver it has already, or `local`.
    pub(crate) driver: String,
    /// Options of the driver.
    pub(crate) options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

impl Volumes {
    /// Makes a volume; one of this name and driver that is there already is as good.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad name or option, [`Error::Conflict`] when another driver has the name.
    pub async fn create(&self, wish: docker::VolumeCreate) -> Result<docker::Volume, Error> {
        let wish = Wish { name: wish.name, driver: wish.driver, options: wish.driver_opts, labels: wish.labels };
        let volume = self.obtain(wish, None, true).await?;
        Ok(self.shape_now(&volume).await)
    }

    /// As [`Volumes::create`], and `user` refers to it from now on. `durable` as for containers' records.
    pub(crate) async fn obtain(&self, wish: Wish, user: Option<&str>, durable: bool) -> Result<Arc<Volume>, Error> {
        let wish = named(wish);
        let _turn = self.turn(&wish.name).await;
        let volume = match self.find(&wish.name) {
            Some(volume) => {
                same_driver(&volume, &wish)?;
                volume
            }
            None => match self.probe(&wish).await {
                Some(volume) => volume,
                None => self.make(wish, durable).await?,
            },
        };
        if let Some(user) = user {
            volume.users().all.insert(user.to_owned());
        }
        Ok(volume)
    }

    async fn make(&self, wish: Wish, durable: bool) -> Result<Arc<Volume>, Error> {
        let name = wish.name.clone();
        let about = |error: Error| error.about(&format!("create {name}"));
        let mut record = Record {
            name: name.clone(),
            driver: if wish.driver.is_empty() { LOCAL.to_owned() } else { wish.driver },
            created: clock::now(),
            labels: wish.labels,
            options: wish.options.filter(|options| !options.is_empty()),
            ..Record::default()
        };
        let options = record.options.clone().unwrap_or_default();
        if record.driver == LOCAL {
            check_name(&name).map_err(about)?;
            options::check(&options).map_err(about)?;
        } else {
            // The rule for names is that of local volumes: a missing driver is what is wrong first.
            let driver = self.driver(&record.driver).await.map_err(about)?;
            check_name(&name).map_err(about)?;
            if driver.get(&name).await.map_err(about)?.is_none() {
                driver.create(&name, &options).await.map_err(about)?;
            }
            record.scope = driver.scope().await;
        }
        let record = self.place(record, durable)?;
        let driver = record.driver.clone();
        let volume = self.admit(record);
        self.tell("create", &name, &[("driver", &driver)]);
        Ok(volume)
    }

    /// Makes a volume known.
    pub(super) fn admit(&self, record: Record) -> Arc<Volume> {
        let name = record.name.clone();
        let volume = Arc::new(Volume::new(record));
        self.table().insert(name, Arc::clone(&volume));
        volume
    }

    /// Makes the directory of a volume: aside first, so that there is never half of one.
    pub(super) fn place(&self, mut record: Record, durable: bool) -> Result<Record, Error> {
        let aside = self.root.join(format!(".{}", Id::random()));
        let fill = || {
            private_dir(&aside)?;
            if record.driver == LOCAL {
                let data = aside.join(DATA);
                fs::DirBuilder::new().mode(0o755).create(&data).map_err(Error::io("create directory", &data))?;
                if record.option("type").is_empty() {
                    record.limit = self.limit(&aside, record.option("size"))?;
                }
            }
            save(&aside, RECORD_FILE, &record, durable)?;
            self.reveal(&aside, &record.name, durable)?;
            Ok(record)
        };
        fill().inspect_err(|_| drop(budu_image::delete_tree(&aside)))
    }

    /// Moves a finished directory to where its name says.
    pub(super) fn reveal(&self, aside: &Path, name: &str, durable: bool) -> Result<(), Error> {
        let dir = self.dir(name);
        fs::rename(aside, &dir).map_err(Error::io("create volume", &dir))?;
        if durable {
            File::open(&self.root).and_then(|root| root.sync_all()).map_err(Error::io("sync", &self.root))?;
        }
        Ok(())
    }
}

fn named(mut wish: Wish) -> Wish {
    if wish.name.is_empty() {
        wish.name = Id::random().to_string();
        wish.labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new());
    }
    wish
}

fn same_driver(volume: &Volume, wish: &Wish) -> Result<(), Error> {
    let record = volume.record();
    if wish.driver.is_empty() || wish.driver == record.driver {
        return Ok(());
    }
    let (name, driver) = (&record.name, &record.driver);
    Err(Error::conflict(format!(
        "create {name}: conflict: driver '{driver}' already has volume '{name}': volume name must be unique"
    )))
}

/// Refuses names that are no single path component, among others.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.len() == 1 {
        return Err(Error::invalid("volume name is too short, names should be at least two alphanumeric characters"));
    }
    if !names::is_valid(name) {
        return Err(Error::invalid(format!(
            "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    if name.len() > 255 {
        return Err(Error::invalid("volume name is too long, names should be at most 255 characters"));
    }
    Ok(())
}
