//! The door: opening, looking up, listing, naming.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use budu_spec::image::{ImageConfig, Platform};
use budu_spec::{Digest, Reference};

use crate::database::Database;
use crate::error::Error;
use crate::image::{Image, ImageId};
use crate::layout::{Layout, list};
use crate::state::{Change, ImageRecord, State, Variant};
use crate::trash::Sweeper;

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Registries (`host[:port]`, or a network in CIDR notation is not supported yet) that may
    /// be spoken to without TLS or with any certificate. Loopback addresses always may.
    pub insecure_registries: Vec<String>,
    /// Addresses (`http://host:port`) that are asked for images of Docker Hub before it is.
    pub registry_mirrors: Vec<String>,
    /// Layers of one pull transferred at the same time.
    pub max_concurrent_downloads: usize,
    /// Attempts to transfer one blob.
    pub max_download_attempts: u32,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a response to begin and for each further piece of it.
    pub read_timeout: Duration,
    /// First pause before another attempt; grows by as much each time.
    pub retry_pause: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            max_concurrent_downloads: 3,
            max_download_attempts: 5,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(60),
            retry_pause: Duration::from_secs(5),
        }
    }
}

/// The image store of one daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// First, so that it is done before the database's lock lets another life begin.
    pub(crate) sweeper: Sweeper,
    pub(crate) layout: Layout,
    pub(crate) database: Database,
    options: RwLock<Arc<Options>>,
    /// Never held across the disk's slow operations: starting a container waits for it.
    state: Mutex<State>,
    /// Held by whoever changes the database, so that plans stay true until they are applied.
    writer: Mutex<()>,
    /// One transfer of a blob at a time, whoever asks for it.
    pub(crate) transfers: Mutex<HashMap<Digest, std::sync::Weak<tokio::sync::Mutex<()>>>>,
}

impl Inner {
    /// The settings as they are now.
    pub(crate) fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the maps themselves whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans an addition and makes it known: on disk first, so that nothing is promised that
    /// can be lost.
    pub(crate) fn publish(&self, plan: impl FnOnce(&State) -> Result<Vec<Change>, Error>) -> Result<(), Error> {
        let _writer = self.writer();
        let changes = plan(&self.state())?;
        self.database.commit(&changes)?;
        self.state().apply(&changes);
        Ok(())
    }

    /// Plans a removal and makes it known: in memory in the same breath as it is planned, so
    /// that nobody starts to use what goes; on disk afterwards.
    pub(crate) fn retract<T>(&self, plan: impl FnOnce(&State) -> Result<(Vec<Change>, T), Error>) -> Result<T, Error> {
        let _writer = self.writer();
        let (changes, outcome, undo) = {
            let mut state = self.state();
            let (changes, outcome) = plan(&state)?;
            let undo = state.inverse(&changes);
            state.apply(&changes);
            (changes, outcome, undo)
        };
        if !changes.is_empty() {
            self.database.commit(&changes).inspect_err(|_| self.state().apply(&undo))?;
        }
        Ok(outcome)
    }
}

impl Store {
    /// Changes the settings, for whatever begins from now on.
    pub fn reconfigure(&self, options: &Options) {
        let next = Arc::new(options.clone());
        *self.inner.options.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Opens the store below `root`, making it (mode 0700) when it does not exist.
    ///
    /// Everything an earlier life left unfinished is removed: temporary files, half-unpacked
    /// layers, content that no image needs.
    ///
    /// # Errors
    /// [`Error::Database`] when another process has the store open, [`Error::Io`] otherwise.
    pub fn open(root: &Path, options: Options) -> Result<Store, Error> {
        let layout = Layout::create(root)?;
        // First the database: its lock says that no other daemon is at work here.
        let database = Database::open(layout.database())?;
        Layout::purge(&layout.ingest())?;
        Layout::purge(&layout.trash())?;
        let mut state = database.load()?;
        crate::snapshot::recover(&layout.snapshots(), &mut state)?;
        recover_files(&layout, &mut state)?;
        load_configs(&layout, &mut state);
        let inner = Inner {
            sweeper: Sweeper::default(),
            layout,
            database,
            options: RwLock::new(Arc::new(options)),
            state: Mutex::new(state),
            writer: Mutex::new(()),
            transfers: Mutex::new(HashMap::new()),
        };
        inner.drop_unused_hidden()?;
        inner.collect()?;
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Finds an image by name, digest, full id or unique id prefix of at least 4 digits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], or [`Error::Reference`] for what cannot be a name.
    pub fn resolve(&self, name: &str) -> Result<Image, Error> {
        self.resolve_for(name, None)
    }

    /// [`Store::resolve`], showing the image's contents for a given platform.
    ///
    /// # Errors
    /// As [`Store::resolve`], and [`Error::NoPlatform`] when that platform was not pulled.
    pub fn resolve_for(&self, name: &str, platform: Option<&Platform>) -> Result<Image, Error> {
        let state = self.inner.state();
        let found = find(&state, name)?;
        view(&state, &state.images[&found.image], platform)
    }

    /// Every image, dangling ones too, ordered by id.
    ///
    /// # Errors
    /// None today; the list is kept in memory.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let state = self.inner.state();
        let visible = state.images.values().filter(|record| !record.hidden);
        visible.map(|record| view(&state, record, None)).collect()
    }

    /// Points `target` (`:latest` when it has no tag) at an image; the name moves when it
    /// pointed elsewhere.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the image, [`Error::Conflict`] when `target` has a digest.
    pub fn tag(&self, image: &ImageId, target: &Reference) -> Result<(), Error> {
        if target.digest().is_some() {
            return Err(Error::Conflict { reason: "cannot create a tag when referring to a digest".into() });
        }
        let name = target.clone().with_default_tag();
        self.inner.publish(|state| {
            if state.images.get(&image.0).is_none_or(|record| record.hidden) {
                return Err(Error::NotFound { name: image.to_string() });
            }
            Ok(vec![Change::PutName(name, image.0)])
        })
    }
}

/// What a name led to.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) image: Digest,
    /// The stored name that matched; `None` when it was found by id.
    pub(crate) name: Option<Reference>,
}

/// Looks a name up as Docker does: digest, then name, then id prefix.
pub(crate) fn find(state: &State, name: &str) -> Result<Found, Error> {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    if let Ok(digest) = Digest::from_hex(bare) {
        let image = by_digest(state, &digest).ok_or_else(|| Error::NotFound { name: name.to_owned() })?;
        return Ok(Found { image, name: None });
    }
    let prefix = bare.len() >= 4 && bare.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let reference = match Reference::parse(name) {
        Ok(reference) => reference.with_default_tag(),
        Err(_) if prefix => {
            return by_prefix(state, bare)?.ok_or(Error::NotFound { name: name.to_owned() });
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(image) = state.names.get(&reference) {
        return Ok(Found { image: *image, name: Some(reference) });
    }
    if let Some(digest) = reference.digest() {
        // `repository@digest` is true of any image that has a name in that repository.
        let same = |name: &&Reference| name.name() == reference.name();
        if visible(state, digest) && state.names_of(digest).any(|name| same(&name)) {
            return Ok(Found { image: *digest, name: None });
        }
    } else if prefix && let Some(found) = by_prefix(state, bare)? {
        return Ok(found);
    }
    Err(Error::NotFound { name: reference.familiar() })
}

fn visible(state: &State, image: &Digest) -> bool {
    state.images.get(image).is_some_and(|record| !record.hidden)
}

/// By target digest, or by manifest or configuration digest where only one image has it.
fn by_digest(state: &State, digest: &Digest) -> Option<Digest> {
    if visible(state, digest) {
        return Some(*digest);
    }
    let mut owners = state.images.values().filter(|record| {
        let has = |variant: &Variant| variant.config.digest == *digest || variant.manifest.digest == *digest;
        !record.hidden && record.variants.iter().any(has)
    });
    match (owners.next(), owners.next()) {
        (Some(only), None) => Some(only.target.digest),
        _ => None,
    }
}

fn by_prefix(state: &State, prefix: &str) -> Result<Option<Found>, Error> {
    let fits = |digest: &Digest| digest.hex().starts_with(prefix);
    let shown = || state.images.values().filter(|record| !record.hidden);
    let targets: BTreeSet<Digest> = shown().map(|record| record.target.digest).filter(|digest| fits(digest)).collect();
    // Ids of older engines are configuration digests; they only count when no id fits.
    let configs = || {
        let fitting = |record: &&ImageRecord| record.variants.iter().any(|variant| fits(&variant.config.digest));
        shown().filter(fitting).map(|record| record.target.digest).collect::<BTreeSet<_>>()
    };
    let found = if targets.is_empty() { configs() } else { targets };
    if found.len() > 1 {
        return Err(Error::Ambiguous { prefix: prefix.to_owned() });
    }
    Ok(found.first().map(|image| Found { image: *image, name: None }))
}

/// The contents for a platform, or the preferred ones.
pub(crate) fn choose_variant<'a>(record: &'a ImageRecord, platform: Option<&Platform>) -> Result<&'a Variant, Error> {
    let variants = record.variants.iter();
    let chosen = match platform {
        None => record.variants.first(),
        Some(wanted) => variants
            .filter_map(|variant| Some((variant.platform.distance(wanted)?, variant)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, variant)| variant),
    };
    chosen.ok_or_else(|| Error::NoPlatform {
        platform: platform.map(Platform::to_string).unwrap_or_default(),
        reference: record.target.digest.to_string(),
        available: record.variants.iter().map(|v| v.platform.to_string()).collect::<Vec<_>>().join(", "),
    })
}

/// What callers see of a record.
pub(crate) fn view(state: &State, record: &ImageRecord, platform: Option<&Platform>) -> Result<Image, Error> {
    let variant = choose_variant(record, platform)?;
    let id = record.target.digest;
    let config = state.configs.get(&variant.config.digest).cloned().unwrap_or_default();
    let names: Vec<&Reference> = state.names_of(&id).collect();
    let digests: BTreeSet<String> = names.iter().map(|name| name.with_digest(id).familiar()).collect();
    let mut content = record.target.size + variant.config.size;
    if variant.manifest.digest != id {
        content += variant.manifest.size;
    }
    content += variant.layers.iter().map(|layer| layer.blob.size).sum::<u64>();
    let unpacked = variant.layers.iter().map(|layer| state.layers.get(&layer.chain_id).map_or(0, |layer| layer.size));
    let layer_sizes: Vec<u64> = unpacked.collect();
    let unpacked = layer_sizes.iter().sum();
    Ok(Image {
        id: ImageId(id),
        target: record.target.clone(),
        manifest_digest: variant.manifest.digest,
        config_digest: variant.config.digest,
        created: config.created.clone().unwrap_or_else(|| "0001-01-01T00:00:00Z".into()),
        config,
        platform: variant.platform.clone(),
        tags: names.iter().filter(|name| name.tag().is_some()).map(|name| (*name).clone()).collect(),
        digests: digests.into_iter().collect(),
        size: content + unpacked,
        content_size: content,
        unpacked_size: unpacked,
        layer_sizes,
        layers: variant.layers.iter().map(|layer| layer.diff_id).collect(),
    })
}

/// Makes the records agree with the files: rows without a directory go, files without a row too.
fn recover_files(layout: &Layout, state: &mut State) -> Result<(), Error> {
    let digest =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).and_then(|name| Digest::from_hex(name).ok());
    let mut present = BTreeSet::new();
    for path in list(&layout.layers())? {
        match digest(&path) {
            Some(chain_id) if state.layers.contains_key(&chain_id) => {
                present.insert(chain_id);
            }
            _ => crate::layout::delete(&path)?,
        }
    }
    state.layers.retain(|chain_id, _| present.contains(chain_id));
    for path in list(&layout.blobs())? {
        match digest(&path) {
            Some(blob) => {
                state.blobs.insert(blob);
            }
            None => crate::layout::delete(&path)?,
        }
    }
    Ok(())
}

/// Reads every image's configuration. One that cannot be read costs that image its
/// settings, not the daemon its start.
fn load_configs(layout: &Layout, state: &mut State) {
    let wanted: BTreeSet<Digest> =
        state.images.values().flat_map(|record| record.variants.iter().map(|variant| variant.config.digest)).collect();
    for digest in wanted {
        let path = layout.blob(&digest);
        let read = fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).map_err(|error| error.to_string()));
        match read {
            Ok(config) => {
                state.configs.insert(digest, Arc::new(config));
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error, "image configuration is lost: pull the image again");
            }
        }
    }
}
