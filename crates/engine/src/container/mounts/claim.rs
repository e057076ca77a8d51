//! At create: volumes are made and filled, images leased. What is claimed is given back unless the container is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use budu_spec::Id;
use budu_spec::docker::ApiVersion;
use budu_sys::view::{Base, View};
use rustix::fs::{FileType, OFlags, fstat};

use super::wish::{Wish, volumes_from, wishes};
use super::{Below, Kind, Point, clean};
use crate::container::record::Record;
use crate::{Engine, Error, volume};

/// What a container to be holds already.
#[derive(Debug)]
pub(crate) struct Claimed<'a> {
    engine: &'a Engine,
    id: Id,
    durable: bool,
    /// By target.
    points: BTreeMap<String, Point>,
    /// Volumes to be filled.
    fill: Vec<(String, volume::Place)>,
    leases: usize,
    view: Option<Arc<View>>,
    kept: bool,
}

impl Engine {
    /// Claims all that a container mounts. Its writable layer must be there.
    pub(in crate::container) async fn claim_mounts(&self, record: &Record) -> Result<Claimed<'_>, Error> {
        let mut claimed = Claimed {
            engine: self,
            id: record.id.clone(),
            durable: record.durable(),
            points: BTreeMap::new(),
            fill: Vec::new(),
            leases: 0,
            view: None,
            kept: false,
        };
        let host = &record.host_config;
        for from in host.volumes_from.iter().flatten() {
            claimed.take_over(from).await?;
        }
        for wish in wishes(host)? {
            claimed.add(wish).await?;
        }
        for place in record.config.volumes.iter().flatten().map(|(place, _)| clean(place)) {
            claimed.add_anonymous(&place, &host.volume_driver).await?;
        }
        for (name, place) in std::mem::take(&mut claimed.fill) {
            let view = claimed.view()?;
            self.volumes().populate(&name, view, &place, claimed.durable).await?;
        }
        Ok(claimed)
    }

    /// Gives up what the mounts of a container hold; its anonymous volumes go too with `anonymous`.
    pub(in crate::container) fn disclaim_mounts(&self, points: &[Point], id: &Id, anonymous: bool) {
        for point in points {
            match point.kind {
                Kind::Volume => {
                    self.volumes().release(&point.name, id.as_str());
                    if anonymous && point.anonymous {
                        self.volumes().drop_unused(&point.name);
                    }
                }
                Kind::Image => {
                    if let Err(error) = self.images().release(&point.lease) {
                        tracing::warn!(container = %id, %error, "could not end the lease on a mounted image");
                    }
                }
                Kind::Bind | Kind::Tmpfs => {}
            }
        }
    }
}

impl Claimed<'_> {
    /// The mounts. Those who ask in an old version know of no recursive read-only mounts.
    pub(in crate::container) fn points(&self, version: ApiVersion) -> Vec<Point> {
        let flat = version < ApiVersion::new(44);
        let adapt = |point: &Point| match flat && point.kind == Kind::Bind {
            true => Point { below: Below::AsIs, ..point.clone() },
            false => point.clone(),
        };
        self.points.values().map(adapt).collect()
    }

    /// From now on they are the container's to give up.
    pub(in crate::container) fn keep(mut self) {
        self.kept = true;
    }

    /// A later mount takes an earlier one's place.
    fn put(&mut self, point: Point) {
        if let Some(before) = self.points.insert(point.target.clone(), point) {
            let shared = self.points.values().any(|p| p.kind == Kind::Volume && p.name == before.name);
            if before.kind != Kind::Volume || !shared {
                self.engine.disclaim_mounts(&[before], &self.id, true);
            }
        }
    }

    /// The mounts of another container, `--volumes-from`.
    async fn take_over(&mut self, from: &str) -> Result<(), Error> {
        let (name, writable) = volumes_from(from)?;
        let other = self.engine.find(name).map_err(|e| Error::invalid(e.to_string()))?.record();
        for point in other.points.iter().filter(|point| !point.hidden) {
            let mut point = Point { rw: point.rw && writable, mode: String::new(), ..point.clone() };
            match point.kind {
                Kind::Volume => {
                    let wish = volume::Wish { name: point.name.clone(), ..volume::Wish::default() };
                    self.engine.volumes().obtain(wish, Some(self.id.as_str()), self.durable).await?;
                }
                Kind::Image => point.lease = self.lease(&point.source)?,
                Kind::Bind | Kind::Tmpfs => {}
            }
            self.put(point);
        }
        Ok(())
    }

    async fn add(&mut self, wish: Wish) -> Result<(), Error> {
        let Wish { mut point, volume, copy, propagation_given } = wish;
        match point.kind {
            Kind::Volume => {
                self.volume(&mut point, volume, copy).await?;
                if point.driver == volume::LOCAL && point.mode.is_empty() {
                    "z".clone_into(&mut point.mode);
                }
            }
            Kind::Bind => guard_data_root(&mut point, self.engine, propagation_given)?,
            Kind::Image => {
                let image = self.engine.images().resolve(&point.name)?;
                point.source = image.id.to_string();
                point.lease = self.lease(&point.source)?;
            }
            Kind::Tmpfs => {}
        }
        self.put(point);
        Ok(())
    }

    /// A place that the image or the request calls a volume.
    async fn add_anonymous(&mut self, place: &str, driver: &str) -> Result<(), Error> {
        if self.points.contains_key(place) {
            return Ok(());
        }
        if let Ok(found) = self.view()?.root().open(place, OFlags::PATH) {
            let stat = fstat(&found).map_err(|e| Error::invalid(format!("cannot look at {place}: {e}")))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::invalid(format!("cannot mount volume over existing file, file exists {place}")));
            }
        }
        let mut point =
            Point { kind: Kind::Volume, target: place.to_owned(), rw: true, anonymous: true, ..Point::default() };
        let wish = volume::Wish { driver: driver.to_owned(), ..volume::Wish::default() };
        self.volume(&mut point, wish, true).await?;
        self.put(point);
        Ok(())
    }

    async fn volume(&mut self, point: &mut Point, wish: volume::Wish, copy: bool) -> Result<(), Error> {
        let volumes = self.engine.volumes();
        let volume = volumes.obtain(wish, Some(self.id.as_str()), self.durable).await?;
        let record = volume.record();
        point.name.clone_from(&record.name);
        point.driver.clone_from(&record.driver);
        point.source = volumes.data(&record.name).to_string_lossy().into_owned();
        if copy {
            let place = volume::Place { target: point.target.clone(), subpath: point.subpath.clone() };
            self.fill.push((record.name.clone(), place));
        }
        Ok(())
    }

    /// Holds an image as long as the container exists.
    fn lease(&mut self, image: &str) -> Result<String, Error> {
        let images = self.engine.images();
        let id = images.resolve(image)?.id;
        let lease = lease_name(&self.id, self.leases);
        self.leases += 1;
        images.prepare(&lease, &id)?;
        Ok(lease)
    }

    /// The root file system as it is before the first start.
    fn view(&mut self) -> Result<Arc<View>, Error> {
        if let Some(view) = &self.view {
            return Ok(Arc::clone(view));
        }
        let rootfs = self.engine.images().rootfs(self.id.as_str())?;
        // The writable layer is one more to read from: overlayfs wants two at least, and nobody has it mounted yet.
        let lower: Vec<_> = std::iter::once(rootfs.upper.clone()).chain(rootfs.lower).collect();
        let view = View::open(&Base::Layers { lower: &lower, upper: None }, &[]);
        let view = view.map_err(Error::io("look into the image at", &rootfs.upper))?;
        Ok(Arc::clone(self.view.insert(Arc::new(view))))
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.view = None;
            let points: Vec<Point> = std::mem::take(&mut self.points).into_values().collect();
            self.engine.disclaim_mounts(&points, &self.id, true);
        }
    }
}

/// Name of the lease on an image that a container mounts.
fn lease_name(container: &Id, number: usize) -> String {
    format!("{container}.{number}")
}

/// The container that a lease is for.
pub(crate) fn lease_holder(lease: &str) -> &str {
    lease.split_once('.').map_or(lease, |(container, _)| container)
}

/// A mount that shows the daemon's own directories follows what is unmounted there, or nothing could be removed.
fn guard_data_root(point: &mut Point, engine: &Engine, given: bool) -> Result<(), Error> {
    let root = engine.options().data_root.to_string_lossy();
    if !point.source.starts_with(&*root) && !root.starts_with(&point.source) {
        return Ok(());
    }
    if !given {
        "rslave".clone_into(&mut point.propagation);
        return Ok(());
    }
    if matches!(point.propagation.as_str(), "rslave" | "rshared") {
        return Ok(());
    }
    let (source, propagation) = (&point.source, &point.propagation);
    Err(Error::invalid(format!(
        "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: \"{root}\", bind mount source: \"{source}\", propagation: \"{propagation}\""
    )))
}
