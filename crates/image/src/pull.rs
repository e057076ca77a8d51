//! Registry to store.
//!
//! Manifest, configuration, then all missing layers side by side: each is downloaded, verified and
//! unpacked in one pass, and completed in order, base first. Names move last, after everything
//! they lead to is durable.

mod fetch;
mod select;

use std::sync::Arc;

use budu_spec::image::{ImageConfig, Platform};
use budu_spec::{Digest, Reference};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::collect::Hold;
use crate::document::{chain_ids, parse_config};
use crate::error::Error;
use crate::image::{ImageId, Pulled};
use crate::ingest::Staged;
use crate::layout::sync_file_system;
use crate::progress::{LayerStep, Progress};
use crate::registry::RegistryAuth;
use crate::registry::client::Client;
use crate::state::{Change, ImageRecord, LayerUse, State, Variant};
use crate::store::{Inner, Store, view};

use fetch::Fetch;
use select::Selected;

/// Layers overlayfs can stack with room for ours; the limit Docker has.
pub(crate) const MAX_LAYERS: usize = 125;

impl Store {
    /// Fetches an image (`:latest` when `reference` has neither tag nor digest) for `platform`,
    /// the host's by default. Durable when it returns. Dropping the future gives up and removes
    /// everything temporary.
    ///
    /// Nothing is sent to `progress` before the manifest is known to exist, so that an error
    /// up to there can still become a status of its own.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left behind.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        auth: Option<&RegistryAuth>,
        progress: Sender<Progress>,
    ) -> Result<Pulled, Error> {
        let reference = reference.clone().with_default_tag();
        let options = self.inner.options();
        let client = match Client::of_a_mirror(&reference, &options).await {
            Some(client) => client,
            None => Client::connect(&reference, auth, &options).await?,
        };
        let pull = Pull {
            inner: Arc::clone(&self.inner),
            client: Arc::new(client),
            report: Report(progress),
            reference,
            platform: platform.cloned(),
        };
        pull.run().await
    }
}

/// Tells the caller what goes on. A caller who does not listen does not stop the pull.
#[derive(Clone)]
struct Report(Sender<Progress>);

impl Report {
    async fn say(&self, progress: Progress) {
        let _ = self.0.send(progress).await;
    }

    async fn layer(&self, layer: &LayerUse, step: LayerStep) {
        self.say(Progress::Layer { id: layer.blob.digest.short(), step }).await;
    }

    /// For what the next message makes obsolete: left out when the listener is behind.
    fn hint(&self, layer: &LayerUse, step: LayerStep) {
        let _ = self.0.try_send(Progress::Layer { id: layer.blob.digest.short(), step });
    }
}

struct Pull {
    inner: Arc<Inner>,
    client: Arc<Client>,
    report: Report,
    reference: Reference,
    platform: Option<Platform>,
}

impl Pull {
    async fn run(self) -> Result<Pulled, Error> {
        let selector = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let served = self.client.manifest(&selector).await?;
        let selected = select::select(&self.client, &self.reference, served, self.platform.as_ref()).await?;
        let repository = self.reference.repository().to_owned();
        self.report.say(Progress::Pulling { tag: selector, repository }).await;
        let mut hold = Hold::new(&self.inner);
        for (descriptor, _) in &selected.documents {
            hold.add(descriptor.digest);
        }
        hold.add(selected.manifest.config.digest);
        let (config, config_bytes) = self.configuration(&selected).await?;
        let variant = plan(&selected, &config);
        for layer in &variant.layers {
            hold.add(layer.blob.digest);
            hold.add(layer.chain_id);
        }
        let hold = Arc::new(hold);
        let up_to_date = self.is_up_to_date(&selected, &variant);
        let fetched = self.layers(&variant.layers, &hold).await?;
        let newer = !up_to_date || fetched;
        if newer {
            let inner = Arc::clone(&self.inner);
            let (selected, name) = (selected.clone(), self.name(&selected));
            let commit = move || commit(&inner, &selected, &variant, &config, &config_bytes, name, &hold);
            blocking(commit).await??;
        }
        self.report.say(Progress::Digest(selected.target.digest)).await;
        self.report.say(Progress::Done { reference: self.reference.familiar(), newer }).await;
        let state = self.inner.state();
        let id = ImageId(selected.target.digest);
        let record = state.images.get(&id.0).ok_or(Error::NotFound { name: id.to_string() })?;
        Ok(Pulled { image: view(&state, record, self.platform.as_ref())?, newer })
    }

    /// The name that will lead to the image. A digest makes the tag beside it superfluous.
    fn name(&self, selected: &Selected) -> Reference {
        match self.reference.digest() {
            Some(_) => self.reference.with_digest(selected.target.digest),
            None => self.reference.clone(),
        }
    }

    async fn configuration(&self, selected: &Selected) -> Result<(ImageConfig, Vec<u8>), Error> {
        let descriptor = &selected.manifest.config;
        let bytes = match self.inner.read_blob(&descriptor.digest) {
            Some(bytes) => bytes,
            None => self.client.document(descriptor, "configuration").await?,
        };
        let config = parse_config(descriptor.digest, &bytes, selected.manifest.layers.len())?;
        if selected.manifest.layers.len() > MAX_LAYERS {
            return Err(Error::TooDeep { layers: selected.manifest.layers.len(), limit: MAX_LAYERS });
        }
        select::check_platform(&self.reference, &config.platform(), self.platform.as_ref())?;
        Ok((config, bytes))
    }

    fn is_up_to_date(&self, selected: &Selected, variant: &Variant) -> bool {
        let state = self.inner.state();
        let record = state.images.get(&selected.target.digest);
        let known = record.is_some_and(|record| !record.hidden && record.variants.contains(variant));
        known && state.names.get(&self.name(selected)) == Some(&selected.target.digest)
    }

    /// Brings all layers into the store; true when any had to be fetched or unpacked.
    async fn layers(&self, layers: &[LayerUse], hold: &Arc<Hold>) -> Result<bool, Error> {
        let permits = Arc::new(Semaphore::new(self.inner.options().max_concurrent_downloads.max(1)));
        let mut tasks = JoinSet::new();
        let mut staged: Vec<Option<Option<Staged>>> = Vec::with_capacity(layers.len());
        for (index, layer) in layers.iter().enumerate() {
            let (unpacked, stored) = {
                let state = self.inner.state();
                let unpacked = state.layers.contains_key(&layer.chain_id);
                (unpacked, state.blobs.contains(&layer.blob.digest))
            };
            if unpacked && stored {
                self.report.layer(layer, LayerStep::AlreadyExists).await;
                staged.push(Some(None));
                continue;
            }
            self.report.layer(layer, LayerStep::PullingFsLayer).await;
            staged.push(None);
            let fetch = Fetch {
                inner: Arc::clone(&self.inner),
                client: Arc::clone(&self.client),
                report: self.report.clone(),
                permits: Arc::clone(&permits),
                layer: layer.clone(),
                unpack: !unpacked,
                hold: Arc::clone(hold),
            };
            tasks.spawn(async move { (index, fetch.run().await) });
        }
        let fetched = !tasks.is_empty();
        let mut next = 0;
        while let Some(joined) = tasks.join_next().await {
            let (index, result) = joined.map_err(|_| self.canceled())?;
            staged[index] = Some(result?);
            // Complete as many as have everything below them.
            while let Some(ready) = staged.get_mut(next).and_then(Option::take) {
                if let Some(ready) = ready {
                    self.complete(ready, layers, next).await?;
                }
                next += 1;
            }
        }
        Ok(fetched)
    }

    async fn complete(&self, staged: Staged, layers: &[LayerUse], index: usize) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let layer = layers[index].clone();
        let below: Vec<Digest> = layers[..index].iter().map(|layer| layer.chain_id).collect();
        blocking(move || inner.complete(staged, &layer, &below)).await??;
        let layer = &layers[index];
        let total = layer.blob.size;
        self.report.layer(layer, LayerStep::Extracting { current: total, total }).await;
        self.report.layer(layer, LayerStep::PullComplete).await;
        Ok(())
    }

    fn canceled(&self) -> Error {
        Error::Canceled { what: self.reference.familiar() }
    }
}

/// Runs blocking work beside the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    // Fails only when the work panics or the runtime is going down.
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Canceled { what: error.to_string() })
}

/// What the image will be: manifest, configuration and layers with their chain ids.
fn plan(selected: &Selected, config: &ImageConfig) -> Variant {
    let diff_ids = &config.rootfs.diff_ids;
    let chain = chain_ids(diff_ids);
    let layers = selected.manifest.layers.iter().zip(diff_ids).zip(chain);
    Variant {
        manifest: selected.descriptor.clone(),
        config: selected.manifest.config.clone(),
        platform: selected.descriptor.platform.clone().unwrap_or_else(|| config.platform()),
        layers: layers
            .map(|((blob, diff_id), chain_id)| LayerUse { blob: blob.clone(), diff_id: *diff_id, chain_id })
            .collect(),
    }
}

/// Makes everything durable, then known. Blocks. `_hold` keeps it from being collected before.
fn commit(
    inner: &Inner,
    selected: &Selected,
    variant: &Variant,
    config: &ImageConfig,
    config_bytes: &[u8],
    name: Reference,
    _hold: &Hold,
) -> Result<(), Error> {
    for (descriptor, bytes) in &selected.documents {
        inner.write_blob(&descriptor.digest, bytes)?;
    }
    inner.write_blob(&variant.config.digest, config_bytes)?;
    inner.add_image(&selected.target, variant, config, Some(name))
}

impl Inner {
    /// Adds an image whose blobs and layers are all in place, and names it if it has a name. Blocks.
    pub(crate) fn add_image(
        &self,
        target: &budu_spec::image::Descriptor,
        variant: &Variant,
        config: &ImageConfig,
        name: Option<Reference>,
    ) -> Result<(), Error> {
        sync_file_system(&self.layout.layers())?;
        self.publish(|state| Ok(additions(state, target, variant, name)))?;
        self.state().configs.insert(variant.config.digest, Arc::new(config.clone()));
        Ok(())
    }
}

fn additions(
    state: &State,
    target: &budu_spec::image::Descriptor,
    variant: &Variant,
    name: Option<Reference>,
) -> Vec<Change> {
    let mut record = state.images.get(&target.digest).cloned().unwrap_or_else(|| ImageRecord {
        target: target.clone(),
        variants: Vec::new(),
        hidden: false,
    });
    record.hidden = false;
    record.variants.retain(|known| known.manifest.digest != variant.manifest.digest);
    record.variants.push(variant.clone());
    let host = Platform::host();
    record.variants.sort_by_key(|variant| variant.platform.distance(&host).unwrap_or(u32::MAX));
    // Layers that another pull unpacked count too: their rows may not be written yet.
    let layers = variant.layers.iter().filter_map(|layer| state.layers.get(&layer.chain_id));
    let mut changes: Vec<Change> = layers.cloned().map(Change::PutLayer).collect();
    changes.extend(name.map(|name| Change::PutName(name, target.digest)));
    changes.push(Change::PutImage(record));
    changes
}
