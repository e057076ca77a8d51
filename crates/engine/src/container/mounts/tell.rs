//! Points in the words of the runtime.

use std::path::{Path, PathBuf};

use budu_runtime::plan::{MountSource, Plan};
use budu_spec::oci;

use super::{Below, Kind, Point, id_map};
use crate::container::record::Record;
use crate::{Engine, Error};

/// All mounts of a container, parents first.
pub(crate) fn oci(record: &Record) -> Result<Vec<oci::Mount>, Error> {
    let mut points: Vec<&Point> = record.points.iter().collect();
    points.sort_by_key(|point| point.target.split('/').count());
    points.into_iter().map(|point| one(point, record)).collect()
}

fn one(point: &Point, record: &Record) -> Result<oci::Mount, Error> {
    if point.kind == Kind::Tmpfs {
        return Ok(oci::Mount {
            destination: point.target.clone(),
            kind: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            options: point.options.clone(),
            ..oci::Mount::default()
        });
    }
    let mut options = vec![if point.flat { "bind" } else { "rbind" }.to_owned()];
    if !point.rw {
        let recursive = !point.flat && point.below == Below::ReadOnly;
        options.push(if recursive { "rro" } else { "ro" }.to_owned());
    }
    options.push(if point.propagation.is_empty() { "rprivate" } else { &point.propagation }.to_owned());
    let (uid_mappings, gid_mappings) = match point.id_map.as_str() {
        "" => (Vec::new(), Vec::new()),
        whom => id_map::maps(whom, Path::new(&point.source), &record.config)?,
    };
    Ok(oci::Mount {
        destination: point.target.clone(),
        kind: "bind".to_owned(),
        // An image has no path; [`finish`] says what it has.
        source: if point.kind == Kind::Image { "/".to_owned() } else { point.source.clone() },
        options,
        uid_mappings,
        gid_mappings,
    })
}

/// How far the root must share mounts with the host for the binds that do.
pub(crate) fn propagation(points: &[Point]) -> &'static str {
    let any =
        |word: &str| points.iter().any(|p| p.propagation == word || p.propagation.strip_prefix('r') == Some(word));
    match () {
        () if any("shared") => "shared",
        () if any("slave") => "slave",
        () => "",
    }
}

/// Says in a plan what a specification has no words for: parts of volumes, and images.
pub(crate) fn finish(engine: &Engine, points: &[Point], plan: &mut Plan) -> Result<(), Error> {
    for point in points {
        let source = match point.kind {
            Kind::Volume if !point.subpath.is_empty() => {
                MountSource::Inside { root: PathBuf::from(&point.source), path: PathBuf::from(&point.subpath) }
            }
            Kind::Image => {
                let rootfs = engine.images().rootfs(&point.lease)?;
                // Two directories are the least; this one is empty.
                let lower = rootfs.lower.into_iter().chain([rootfs.work]).collect();
                MountSource::Layers { lower, inside: PathBuf::from(&point.subpath) }
            }
            _ => continue,
        };
        if let Some(mount) = plan.mounts.iter_mut().find(|mount| mount.target == point.target) {
            mount.source = source;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(point: Point) -> Vec<String> {
        let record = Record { points: vec![point], ..crate::container::record::tests::record("web") };
        oci(&record).unwrap().remove(0).options
    }

    #[test]
    fn words_of_binds() {
        let rw = Point { target: "/x".into(), source: "/s".into(), rw: true, ..Point::default() };
        assert_eq!(told(rw.clone()), ["rbind", "rprivate"]);
        let ro = Point { rw: false, ..rw };
        assert_eq!(told(ro.clone()), ["rbind", "rro", "rprivate"]);
        assert_eq!(told(Point { below: Below::AsIs, ..ro.clone() }), ["rbind", "ro", "rprivate"]);
        assert_eq!(told(Point { flat: true, propagation: "rslave".into(), ..ro }), ["bind", "ro", "rslave"]);
    }

    #[test]
    fn parents_come_first() {
        let at = |target: &str| Point { target: target.into(), ..Point::default() };
        let record = Record { points: vec![at("/a/b/c"), at("/a")], ..crate::container::record::tests::record("web") };
        let targets: Vec<String> = oci(&record).unwrap().into_iter().map(|m| m.destination).collect();
        assert_eq!(targets, ["/a", "/a/b/c"]);
    }
}
