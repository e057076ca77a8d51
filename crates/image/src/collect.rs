//! Garbage: what no image and no running pull needs is deleted.

use std::sync::Arc;

use budu_spec::Digest;

use crate::error::Error;
use crate::state::{Change, State};
use crate::store::Inner;

/// Keeps blobs and layers from being collected while a pull counts on them. Dropped, it
/// collects those that nothing came to need.
#[derive(Debug)]
pub(crate) struct Hold {
    inner: Arc<Inner>,
    digests: Vec<Digest>,
}

impl Hold {
    pub(crate) fn new(inner: &Arc<Inner>) -> Hold {
        Hold { inner: Arc::clone(inner), digests: Vec::new() }
    }

    /// Holds the blob or layer of this digest; takes effect at once, whether it exists or not.
    pub(crate) fn add(&mut self, digest: Digest) {
        let inner = Arc::clone(&self.inner);
        self.add_in(&mut inner.state(), digest);
    }

    /// As [`Hold::add`], for who found the digest in this very state.
    pub(crate) fn add_in(&mut self, state: &mut State, digest: Digest) {
        *state.held.entry(digest).or_default() += 1;
        self.digests.push(digest);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        for digest in &self.digests {
            if let Some(count) = state.held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(digest);
                }
            }
        }
        drop(state);
        if let Err(error) = self.inner.collect() {
            tracing::warn!(%error, "content of an unfinished pull stays until the next start");
        }
    }
}

impl Inner {
    /// Deletes every blob and layer that is not reachable.
    ///
    /// A crash half-way leaves rows without files, which the next start drops, or files in
    /// `trash`, which it deletes.
    pub(crate) fn collect(&self) -> Result<(), Error> {
        let writer = self.writer();
        let (mut discarded, mut changes) = (Vec::new(), Vec::new());
        {
            let mut state = self.state();
            let reachable = state.reachable();
            let layers: Vec<Digest> =
                state.layers.keys().filter(|chain_id| !reachable.layers.contains(chain_id)).copied().collect();
            let blobs: Vec<Digest> =
                state.blobs.iter().filter(|digest| !reachable.blobs.contains(digest)).copied().collect();
            if layers.is_empty() && blobs.is_empty() {
                return Ok(());
            }
            // Out of sight while nobody can start to count on them; deleted afterwards.
            for chain_id in &layers {
                changes.push(Change::DropLayer(*chain_id));
                discarded.extend(self.layout.discard(&self.layout.layer(chain_id))?);
            }
            state.apply(&changes);
            for digest in &blobs {
                state.blobs.remove(digest);
                state.configs.remove(digest);
                discarded.extend(self.layout.discard(&self.layout.blob(digest))?);
            }
        }
        // Not under the state's lock: nobody who starts a container waits for the disk.
        if !changes.is_empty() {
            self.database.commit(&changes)?;
        }
        drop(writer);
        discarded.into_iter().for_each(|path| self.sweeper.sweep(path));
        Ok(())
    }
}
