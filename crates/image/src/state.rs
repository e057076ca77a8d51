//! What the store knows, in memory: every question is answered from here, the database is read
//! once at start.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use budu_spec::image::{Descriptor, ImageConfig, Platform};
use budu_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};

/// An image: what the names point at, and its contents for each platform that was pulled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) target: Descriptor,
    /// The preferred one for this machine first.
    pub(crate) variants: Vec<Variant>,
    /// Removed by force while a snapshot needs it: kept, shown to nobody.
    pub(crate) hidden: bool,
}

/// An image's contents for one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Variant {
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) platform: Platform,
    /// Base first.
    pub(crate) layers: Vec<LayerUse>,
}

/// One layer of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerUse {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) chain_id: Digest,
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) chain_id: Digest,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// It hides everything below its root, which overlayfs itself does not do for a root.
    pub(crate) opaque: bool,
    /// Mode and owner of its root directory; the writable layer starts with the topmost one's.
    pub(crate) root: RootAttributes,
}

/// Mode and owner of a root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootAttributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What a snapshot keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) image: Digest,
    pub(crate) manifest: Digest,
}

/// One change of what is known, on disk and in memory alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    PutImage(ImageRecord),
    DropImage(Digest),
    PutName(Reference, Digest),
    DropName(Reference),
    PutLayer(LayerRecord),
    DropLayer(Digest),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<Digest, ImageRecord>,
    pub(crate) names: BTreeMap<Reference, Digest>,
    pub(crate) layers: HashMap<Digest, LayerRecord>,
    pub(crate) configs: HashMap<Digest, Arc<ImageConfig>>,
    pub(crate) leases: BTreeMap<String, Lease>,
    /// Blobs on disk.
    pub(crate) blobs: HashSet<Digest>,
    /// Blobs and layers that running pulls count on.
    pub(crate) held: HashMap<Digest, usize>,
}

impl State {
    pub(crate) fn apply(&mut self, changes: &[Change]) {
        for change in changes.iter().cloned() {
            match change {
                Change::PutImage(record) => {
                    self.images.insert(record.target.digest, record);
                }
                Change::DropImage(digest) => {
                    self.images.remove(&digest);
                }
                Change::PutName(name, digest) => {
                    self.names.insert(name, digest);
                }
                Change::DropName(name) => {
                    self.names.remove(&name);
                }
                Change::PutLayer(record) => {
                    self.layers.insert(record.chain_id, record);
                }
                Change::DropLayer(chain_id) => {
                    self.layers.remove(&chain_id);
                }
            }
        }
    }

    /// The changes that undo `changes`, read before they are applied.
    pub(crate) fn inverse(&self, changes: &[Change]) -> Vec<Change> {
        let image = |digest: &Digest| match self.images.get(digest) {
            Some(record) => Change::PutImage(record.clone()),
            None => Change::DropImage(*digest),
        };
        let name = |name: &Reference| match self.names.get(name) {
            Some(digest) => Change::PutName(name.clone(), *digest),
            None => Change::DropName(name.clone()),
        };
        let layer = |chain_id: &Digest| match self.layers.get(chain_id) {
            Some(record) => Change::PutLayer(record.clone()),
            None => Change::DropLayer(*chain_id),
        };
        changes
            .iter()
            .map(|change| match change {
                Change::PutImage(record) => image(&record.target.digest),
                Change::DropImage(digest) => image(digest),
                Change::PutName(reference, _) | Change::DropName(reference) => name(reference),
                Change::PutLayer(record) => layer(&record.chain_id),
                Change::DropLayer(chain_id) => layer(chain_id),
            })
            .collect()
    }

    /// Every blob and layer that an image or a running pull needs.
    pub(crate) fn reachable(&self) -> Reachable {
        let mut reachable = Reachable::default();
        for record in self.images.values() {
            reachable.blobs.insert(record.target.digest);
            for variant in &record.variants {
                reachable.blobs.insert(variant.manifest.digest);
                reachable.blobs.insert(variant.config.digest);
                for layer in &variant.layers {
                    reachable.blobs.insert(layer.blob.digest);
                    reachable.layers.insert(layer.chain_id);
                }
            }
        }
        reachable.blobs.extend(self.held.keys());
        reachable.layers.extend(self.held.keys());
        reachable
    }

    pub(crate) fn leased(&self, image: &Digest) -> impl Iterator<Item = &str> {
        self.leases.iter().filter(move |(_, lease)| lease.image == *image).map(|(container, _)| container.as_str())
    }

    pub(crate) fn names_of(&self, image: &Digest) -> impl Iterator<Item = &Reference> {
        self.names.iter().filter(move |(_, digest)| *digest == image).map(|(name, _)| name)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reachable {
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) layers: BTreeSet<Digest>,
}
