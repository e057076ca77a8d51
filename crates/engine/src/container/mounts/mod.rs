//! Mounts of containers: from the request's spellings to what the runtime is told.
//!
//! - `wish.rs`, `tmpfs.rs`: what a request asks for, checked.
//! - `claim.rs`: wishes become [`Point`]s at create: volumes are made and filled, images leased.
//! - `ready.rs`: at start and end: sources and volumes are put in place, and released.
//! - `tell.rs`: points in the words of the runtime.

mod claim;
mod gate;
mod id_map;
mod ready;
mod tell;
mod tmpfs;
mod wish;

use budu_spec::docker::MountPoint;
use serde::{Deserialize, Serialize};

pub(crate) use claim::lease_holder;
pub(crate) use gate::gate;
pub(crate) use ready::volumes;
pub(crate) use tell::{finish, oci, propagation};
pub(crate) use wish::check;

/// What is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A file or directory of the host.
    #[default]
    Bind,
    /// A volume.
    Volume,
    /// A new tmpfs.
    Tmpfs,
    /// The files of an image, read-only.
    Image,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Bind => "bind",
            Kind::Volume => "volume",
            Kind::Tmpfs => "tmpfs",
            Kind::Image => "image",
        }
    }
}

/// What a read-only mount is for the mounts below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Below {
    /// Read-only as well.
    #[default]
    ReadOnly,
    /// As they are.
    AsIs,
}

/// One mount of a container, as its record keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Point {
    pub(crate) kind: Kind,
    /// Name of the volume, or the image as it was asked for.
    pub(crate) name: String,
    /// Driver of the volume.
    pub(crate) driver: String,
    /// Path on the host; id of the image; empty for tmpfs.
    pub(crate) source: String,
    /// Path in the container, cleaned.
    pub(crate) target: String,
    /// Options as given with `-v`.
    pub(crate) mode: String,
    /// Writable.
    pub(crate) rw: bool,
    pub(crate) propagation: String,
    /// Leave out the mounts below the source.
    pub(crate) flat: bool,
    pub(crate) below: Below,
    /// Make the source directory when it is missing.
    pub(crate) create_source: bool,
    /// Mount options of a tmpfs.
    pub(crate) options: Vec<String>,
    /// Directory or file inside the volume or image.
    pub(crate) subpath: String,
    /// The volume has no name of its own: it goes with the container if asked for.
    pub(crate) anonymous: bool,
    /// Whom written files belong to, see [`id_map`].
    pub(crate) id_map: String,
    /// The lease on the image.
    pub(crate) lease: String,
    /// Of `--tmpfs`, which inspect does not list among the mounts.
    pub(crate) hidden: bool,
}

impl Point {
    /// As inspect and lists show it.
    fn shape(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.word().to_owned(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.target.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}

/// As inspect and lists show mounts.
pub(crate) fn shapes(points: &[Point]) -> Vec<MountPoint> {
    points.iter().filter(|point| !point.hidden).map(Point::shape).collect()
}

/// Resolves `.` and `..` in the text of an absolute path.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
