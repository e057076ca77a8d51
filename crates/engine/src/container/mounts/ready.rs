//! At start and end: sources and volumes are in place while the container runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use budu_sys::rooted::Root;
use rustix::fs::OFlags;

use super::{Kind, Point, wish};
use crate::container::Container;
use crate::container::record::Record;
use crate::{Engine, Error};

impl Engine {
    /// Puts in place what the mounts of a container show. The answer is its record with the sources as they are now.
    /// To be taken back with [`Engine::unready_mounts`], also after an error.
    pub(in crate::container) async fn ready_mounts(&self, record: Arc<Record>) -> Result<Arc<Record>, Error> {
        let id = record.id.as_str();
        let mut sources = BTreeMap::new();
        for name in volumes(&record.points) {
            sources.insert(name, self.volumes().mount(name, id).await?);
        }
        let mut points = record.points.clone();
        for point in &mut points {
            match point.kind {
                Kind::Bind => {
                    make_source(point)?;
                    check_shared(point)?;
                }
                Kind::Volume => {
                    let Some(source) = sources.get(point.name.as_str()) else { continue };
                    point.source = source.to_string_lossy().into_owned();
                    check_subpath(source, &point.subpath)?;
                    self.tell_volume(point, id);
                }
                Kind::Tmpfs | Kind::Image => {}
            }
        }
        if points == record.points {
            return Ok(record);
        }
        Ok(Arc::new(Record { points, ..Record::clone(&record) }))
    }

    fn tell_volume(&self, point: &Point, id: &str) {
        let rw = if point.rw { "true" } else { "false" };
        let attributes = [
            ("driver", point.driver.as_str()),
            ("container", id),
            ("destination", &point.target),
            ("read/write", rw),
            ("propagation", &point.propagation),
        ];
        self.volumes().tell("mount", &point.name, &attributes);
    }

    /// Releases what [`Engine::ready_mounts`] put in place; done again, it does nothing.
    pub(in crate::container) async fn unready_mounts(&self, container: &Container) {
        let record = container.record();
        let id = container.id.as_str();
        for name in volumes(&record.points) {
            if !self.volumes().unmount(name, id).await {
                continue;
            }
            for point in record.points.iter().filter(|p| p.kind == Kind::Volume && p.name == name) {
                self.volumes().tell("unmount", name, &[("driver", &point.driver), ("container", id)]);
            }
        }
    }
}

/// Names of the volumes, each once.
pub(crate) fn volumes(points: &[Point]) -> std::collections::BTreeSet<&str> {
    points.iter().filter(|point| point.kind == Kind::Volume).map(|point| point.name.as_str()).collect()
}

/// Makes a missing source directory where that was promised.
fn make_source(point: &Point) -> Result<(), Error> {
    let source = Path::new(&point.source);
    if source.exists() {
        return Ok(());
    }
    if !point.create_source {
        return Err(wish::missing_source(&point.source));
    }
    fs::create_dir_all(source).map_err(Error::io("create bind source", source))
}

/// Refuses to share with the host what the host does not share.
fn check_shared(point: &Point) -> Result<(), Error> {
    if !matches!(point.propagation.as_str(), "shared" | "rshared") {
        return Ok(());
    }
    let source = fs::canonicalize(&point.source).map_err(Error::io("look at bind source", Path::new(&point.source)))?;
    let table =
        fs::read_to_string("/proc/self/mountinfo").map_err(Error::io("read", Path::new("/proc/self/mountinfo")))?;
    match holder(&table, &source) {
        Some((_, true)) => Ok(()),
        Some((place, false)) => Err(Error::Runtime {
            message: format!("path {} is mounted on {place} but it is not a shared mount", point.source),
        }),
        None => Ok(()),
    }
}

/// The mount that holds a path, and whether it is shared.
fn holder(table: &str, path: &Path) -> Option<(String, bool)> {
    let mount = |line: &str| {
        let (fields, _) = line.split_once(" - ")?;
        let mut words = fields.split(' ');
        let place = words.nth(4)?.replace("\\040", " ");
        let shared = words.any(|word| word.starts_with("shared:"));
        path.starts_with(&place).then_some((place, shared))
    };
    // Of several at one place the last hides the others.
    table.lines().filter_map(mount).max_by_key(|(place, _)| place.len())
}

/// Words the error that the runtime would meet, as Docker does.
fn check_subpath(source: &Path, subpath: &str) -> Result<(), Error> {
    if subpath.is_empty() {
        return Ok(());
    }
    let found = Root::open_at(source).and_then(|root| root.open(subpath, OFlags::PATH));
    found.map(drop).map_err(|error| Error::Invalid {
        message: format!("cannot access path {}: {}", source.join(subpath).display(), budu_sys::mount::reason(&error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 x rw\n2 1 0:5 / /a rw - tmpfs t rw\n3 1 0:6 / /a\\040b rw shared:2 master:1 - t t rw\n";
        for (path, want) in [("/x", ("/", true)), ("/a/y", ("/a", false)), ("/a b/y", ("/a b", true))] {
            assert_eq!(holder(table, Path::new(path)), Some((want.0.to_owned(), want.1)), "{path}");
        }
    }

    #[test]
    fn a_missing_source_is_made_for_v_and_refused_for_mount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").to_str().unwrap().to_owned();
        let refused = Point { source: path.clone(), ..Point::default() };
        let error = make_source(&refused).unwrap_err().to_string();
        assert_eq!(error, format!("invalid mount config for type \"bind\": bind source path does not exist: {path}"));
        make_source(&Point { create_source: true, ..refused }).unwrap();
        assert!(Path::new(&path).is_dir());
    }
}
