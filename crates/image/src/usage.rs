//! How much room the store takes.

use std::collections::{BTreeMap, BTreeSet};

use budu_spec::Digest;

use crate::image::ImageId;
use crate::state::{ImageRecord, State};
use crate::store::Store;

/// Bytes of the whole store and of its images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all blobs and unpacked layers, each counted once.
    pub total: u64,
    /// Of these, what images need that no container uses.
    pub reclaimable: u64,
    /// Bytes of each image that other images need as well.
    pub shared: BTreeMap<String, u64>,
    /// Snapshots of each image.
    pub containers: BTreeMap<String, u64>,
}

/// A piece of content: blob or unpacked layer, and its size.
type Pieces = BTreeMap<(bool, Digest), u64>;

impl Store {
    /// Adds up what is in the store, from what is known about it.
    pub fn usage(&self) -> Usage {
        let state = self.inner.state();
        let mut users: BTreeMap<(bool, Digest), usize> = BTreeMap::new();
        let mut all = Pieces::new();
        let mut used = BTreeSet::new();
        let mut usage = Usage::default();
        let images: Vec<(&ImageRecord, Pieces)> =
            state.images.values().map(|record| (record, pieces(&state, record))).collect();
        for (record, pieces) in &images {
            let containers = state.leased(&record.target.digest).count() as u64;
            usage.containers.insert(ImageId(record.target.digest).to_string(), containers);
            for (piece, size) in pieces {
                *users.entry(*piece).or_default() += 1;
                all.insert(*piece, *size);
                if containers > 0 {
                    used.insert(*piece);
                }
            }
        }
        usage.total = all.values().sum();
        usage.reclaimable = all.iter().filter(|(piece, _)| !used.contains(*piece)).map(|(_, size)| size).sum();
        for (record, pieces) in &images {
            let shared = pieces.iter().filter(|(piece, _)| users.get(*piece).is_some_and(|count| *count > 1));
            usage.shared.insert(ImageId(record.target.digest).to_string(), shared.map(|(_, size)| size).sum());
        }
        usage
    }
}

fn pieces(state: &State, record: &ImageRecord) -> Pieces {
    let mut pieces = Pieces::new();
    pieces.insert((false, record.target.digest), record.target.size);
    for variant in &record.variants {
        pieces.insert((false, variant.manifest.digest), variant.manifest.size);
        pieces.insert((false, variant.config.digest), variant.config.size);
        for layer in &variant.layers {
            pieces.insert((false, layer.blob.digest), layer.blob.size);
            let unpacked = state.layers.get(&layer.chain_id).map_or(0, |layer| layer.size);
            pieces.insert((true, layer.chain_id), unpacked);
        }
    }
    pieces
}
