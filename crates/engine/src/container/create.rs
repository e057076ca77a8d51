//! Create: merge, check, remember.

use std::fs;
use std::sync::Arc;

use budu_image::Image;
use budu_spec::docker::{ApiVersion, ContainerCreate, ContainerCreated};
use budu_spec::{Id, names};

use super::record::{RECORD_FILE, Record, State, save};
use super::{Container, merge, quota, validate};
use crate::engine::private_dir;
use crate::{Engine, Error, clock};

impl Engine {
    /// Makes a container. Nothing is left behind on error.
    ///
    /// # Errors
    /// [`Error::Image`] when the image is not there, [`Error::NameInUse`],
    /// [`Error::Invalid`] and [`Error::Unsupported`] for what was asked.
    pub async fn create(
        &self,
        name: Option<&str>,
        wish: ContainerCreate,
        version: ApiVersion,
    ) -> Result<ContainerCreated, Error> {
        let mut wish = wish;
        let mut warnings = Vec::new();
        let name = name.map(|n| n.strip_prefix('/').unwrap_or(n)).filter(|n| !n.is_empty());
        check_name(name)?;
        validate::validate(&mut wish, self.options(), version, &mut warnings)?;
        self.settle_endpoints(&mut wish, version)?;
        if wish.config.image.is_empty() && merge::command(&wish.config).is_none() {
            return Err(Error::invalid("no command specified"));
        }
        let image = self.images().resolve(&wish.config.image)?;
        self.check_donors(&wish.host_config)?;
        self.networks().warm();
        let id = Id::random();
        let name = self.reserve_name(name, &id)?;
        let reserved = Reserved { engine: self, name: &name, id: &id, kept: false };
        self.settle_links(&mut wish.host_config, &name)?;
        let mut record = plan(wish, &image, &id, &name)?;
        let layer = self.images().prepare(id.as_str(), &image.id)?;
        let limited = quota::wish(&record.host_config)?.map_or(Ok(()), |bytes| quota::limit(&layer, &id, bytes));
        let claimed = match limited {
            Ok(()) => self.claim_mounts(&record).await,
            Err(error) => Err(error),
        };
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                quota::forget(&record.host_config, &layer);
                let _ = self.images().release(id.as_str());
                return Err(error);
            }
        };
        record.points = claimed.points(version);
        let dir = self.data_dir(&id);
        // No state yet: a missing one reads as "created".
        let saved = private_dir(&dir).and_then(|()| save(&dir, RECORD_FILE, &record, record.durable()));
        if let Err(error) = saved {
            let _ = fs::remove_dir_all(&dir);
            quota::forget(&record.host_config, &layer);
            let _ = self.images().release(id.as_str());
            return Err(error);
        }
        let container = Arc::new(Container::new(record, State::default()));
        self.insert(Arc::clone(&container));
        reserved.keep();
        claimed.keep();
        self.tell(&container, "create", &[]);
        Ok(ContainerCreated { id: id.to_string(), warnings })
    }
}

/// Takes a name reservation back unless it was kept.
struct Reserved<'a> {
    engine: &'a Engine,
    name: &'a str,
    id: &'a Id,
    kept: bool,
}

impl Reserved<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.engine.free_name(self.name, self.id);
        }
    }
}

/// Refuses names outside Docker's rule.
fn check_name(name: Option<&str>) -> Result<(), Error> {
    match name.filter(|n| !names::is_valid(n)) {
        Some(bad) => {
            Err(Error::invalid(format!("Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
        }
        None => Ok(()),
    }
}

/// The record of a checked request.
fn plan(wish: ContainerCreate, image: &Image, id: &Id, name: &str) -> Result<Record, Error> {
    let mut config = merge::merge(wish.config, &image.config.config);
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        config.working_dir = format!("/{}", config.working_dir);
    }
    let host_config = wish.host_config;
    if config.hostname.is_empty() {
        config.hostname = match host_config.uts_mode == "host" || host_config.network_mode == "host" {
            true => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            false => id.short().to_owned(),
        };
    }
    let (path, args) = merge::command(&config)
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| Error::invalid("no command specified"))?;
    Ok(Record {
        id: id.clone(),
        name: name.to_owned(),
        created: clock::now(),
        image_id: image.id.to_string(),
        path,
        args,
        config,
        host_config,
        networking: wish.networking_config,
        points: Vec::new(),
    })
}
