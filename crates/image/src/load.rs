//! Images from one archive: an OCI layout, or what `docker save` of any age writes.
//!
//! The files of the archive are put aside first, as they come in any order; then the documents say what they are.
//! Nothing is believed: every blob is checked against its digest, every layer against the configuration.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufWriter, Read, Write};
use std::path::PathBuf;

use budu_spec::image::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use budu_spec::{Digest, Reference};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::collect::Hold;
use crate::document::{Document, MAX_DOCUMENT, chain_ids, digest_of, parse, parse_config};
use crate::error::Error;
use crate::image::ImageId;
use crate::ingest::unpack_stored;
use crate::layer::archive::{Archive, Kind};
use crate::layer::decompress::{Decompress, buffered};
use crate::layer::unpack::normal;
use crate::layout::Temporary;
use crate::pull::MAX_LAYERS;
use crate::save::{NAME, TAG};
use crate::state::{LayerUse, Variant};
use crate::store::{Inner, Store};

/// Most files in an archive: far more than any real one has.
const MAX_FILES: usize = 100_000;

/// Deepest nesting of indexes.
const MAX_NESTING: usize = 4;

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub image: ImageId,
    /// The name it came with, if it had one.
    pub name: Option<Reference>,
}

/// A file put aside.
struct Spooled {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// The archive's files, by name.
struct Spool {
    _temporary: Temporary,
    files: HashMap<Vec<u8>, Spooled>,
    links: HashMap<Vec<u8>, Vec<u8>>,
}

/// One entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Store {
    /// Loads every image of an archive, compressed or not. With a platform, nothing but the contents for it. Blocks.
    ///
    /// # Errors
    /// [`Error::Archive`] for an archive that holds no images or is damaged, [`Error::NoPlatform`], and the errors of
    /// unpacking layers. Images loaded before stay.
    pub fn load(&self, input: impl BufRead, platform: Option<&Platform>) -> Result<Vec<Loaded>, Error> {
        let spool = spool(&self.inner, input)?;
        let mut load = Load { store: self, spool, platform, hold: Hold::new(&self.inner) };
        let loaded = if let Some(bytes) = load.spool.document(b"index.json")? {
            load.layout(&bytes)?
        } else if let Some(bytes) = load.spool.document(b"manifest.json")? {
            load.docker(&bytes)?
        } else {
            return Err(broken("it has neither index.json nor manifest.json: not an archive of images"));
        };
        if loaded.is_empty() {
            return Err(broken("there is no image in it"));
        }
        Ok(loaded)
    }
}

fn broken(detail: impl std::fmt::Display) -> Error {
    Error::Archive { detail: format!("invalid archive: {detail}") }
}

/// Puts the archive's files aside.
fn spool(inner: &Inner, input: impl BufRead) -> Result<Spool, Error> {
    let temporary = inner.layout.temporary()?;
    let plain = Decompress::new(input).map_err(broken)?;
    let mut archive = Archive::new(buffered(plain));
    let (mut files, mut links) = (HashMap::new(), HashMap::new());
    while let Some(entry) = archive.next().map_err(broken)? {
        let name = normal(&entry.path, "its name").map_err(broken)?;
        if files.len() + links.len() >= MAX_FILES {
            return Err(broken("it has too many files"));
        }
        match entry.kind {
            Kind::File => {
                let path = temporary.path().join(files.len().to_string());
                let failed = |source| Error::io("write", &path, source);
                let mut file = BufWriter::with_capacity(128 << 10, File::create_new(&path).map_err(failed)?);
                let (mut hasher, mut full) = (Sha256::new(), None);
                let write = |chunk: &[u8]| {
                    hasher.update(chunk);
                    file.write_all(chunk).inspect_err(|error| full = Some(error.kind()))
                };
                let copied = archive.copy(entry.size, write, &name);
                if let Some(kind) = full {
                    return Err(Error::io("write", &path, std::io::Error::from(kind)));
                }
                copied.map_err(broken)?;
                file.flush().map_err(|source| Error::io("write", &path, source))?;
                let digest = Digest::from_bytes(hasher.finalize().into());
                files.insert(name, Spooled { path, digest, size: entry.size });
            }
            Kind::HardLink => {
                links.insert(name, normal(&entry.link, "its target").map_err(broken)?);
            }
            Kind::Symlink => {
                // Old archives share layers this way.
                let parent = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
                let target = [&name[..parent], &entry.link].concat();
                links.insert(name, normal(&target, "its target").map_err(broken)?);
            }
            _ => {}
        }
    }
    Ok(Spool { _temporary: temporary, files, links })
}

impl Spool {
    fn find(&self, name: &[u8]) -> Option<&Spooled> {
        let mut name = normal(name, "its name").ok()?;
        for _ in 0..8 {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        self.files.get(&name)
    }

    fn blob(&self, digest: &Digest) -> Option<&Spooled> {
        self.find(format!("blobs/sha256/{}", digest.hex()).as_bytes()).filter(|file| file.digest == *digest)
    }

    /// A small file's bytes.
    fn document(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.find(name).map(read).transpose()
    }
}

fn read(file: &Spooled) -> Result<Vec<u8>, Error> {
    if file.size > MAX_DOCUMENT {
        return Err(broken("a document in it is too long"));
    }
    fs::read(&file.path).map_err(|source| Error::io("read", &file.path, source))
}

struct Load<'a> {
    store: &'a Store,
    spool: Spool,
    platform: Option<&'a Platform>,
    hold: Hold,
}

impl Load<'_> {
    /// What a blob's bytes are: from the archive, or from the store when it has them.
    fn bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        match self.spool.blob(digest) {
            Some(file) => read(file).map(Some),
            None => Ok(self.store.inner.read_blob(digest)),
        }
    }

    /// An OCI layout. Names that are missing in the index may be in Docker's document beside it.
    fn layout(&mut self, bytes: &[u8]) -> Result<Vec<Loaded>, Error> {
        let index: Index = serde_json::from_slice(bytes).map_err(broken)?;
        let saved: Vec<Saved> = match self.spool.document(b"manifest.json")? {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            None => Vec::new(),
        };
        let mut loaded = Vec::new();
        for descriptor in &index.manifests {
            let mut found = Vec::new();
            self.collect(descriptor, &mut found, 0)?;
            if found.is_empty() {
                continue;
            }
            let mut names: BTreeSet<Reference> = annotated(descriptor).into_iter().collect();
            if names.is_empty() {
                let files: Vec<Vec<u8>> = found
                    .iter()
                    .map(|(_, manifest, _)| format!("blobs/sha256/{}", manifest.config.digest.hex()).into_bytes())
                    .collect();
                let own = saved.iter().filter(|saved| files.iter().any(|file| file == saved.config.as_bytes()));
                names = own.flat_map(|saved| saved.repo_tags.iter().flatten()).filter_map(|t| tagged(t)).collect();
            }
            loaded.extend(self.add(descriptor, found, names)?);
        }
        Ok(loaded)
    }

    /// The manifests of runnable images below a descriptor whose content is all there.
    fn collect(
        &self,
        descriptor: &Descriptor,
        found: &mut Vec<(Descriptor, Manifest, ImageConfig)>,
        depth: usize,
    ) -> Result<(), Error> {
        let Some(bytes) = self.bytes(&descriptor.digest)? else {
            // An index names contents for platforms that were left out.
            return if depth > 0 { Ok(()) } else { Err(broken(format!("{} is missing", descriptor.digest))) };
        };
        match parse(descriptor.digest, &bytes, &descriptor.media_type)?.0 {
            Document::Index(_) if depth >= MAX_NESTING => Err(broken("its indexes are nested too deeply")),
            Document::Index(index) => index.manifests.iter().try_for_each(|one| self.collect(one, found, depth + 1)),
            Document::Manifest(manifest) => {
                if manifest.config.media_type != media_type::DOCKER_CONFIG
                    && manifest.config.media_type != media_type::OCI_CONFIG
                {
                    return Ok(());
                }
                let Some(config) = self.bytes(&manifest.config.digest)? else {
                    return Err(broken(format!("{} is missing", manifest.config.digest)));
                };
                let config = parse_config(manifest.config.digest, &config, manifest.layers.len())?;
                let known = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
                let wanted = self.platform.is_none_or(|wish| config.platform().distance(wish).is_some());
                let there = |layer: &Descriptor| {
                    self.spool.blob(&layer.digest).is_some() || self.store.inner.state().blobs.contains(&layer.digest)
                };
                if !known && wanted && (depth == 0 || manifest.layers.iter().all(there)) {
                    found.push((descriptor.clone(), *manifest, config));
                }
                Ok(())
            }
        }
    }

    /// Brings the contents of one image into the store and names it.
    fn add(
        &mut self,
        target: &Descriptor,
        found: Vec<(Descriptor, Manifest, ImageConfig)>,
        names: BTreeSet<Reference>,
    ) -> Result<Vec<Loaded>, Error> {
        let inner = &self.store.inner;
        // With a platform, an index is no longer what the names point at.
        let target = match (self.platform, found.first()) {
            (Some(_), Some((manifest, ..))) => manifest.clone(),
            _ => target.clone(),
        };
        let target = Descriptor { annotations: Default::default(), platform: None, ..target };
        self.hold.add(target.digest);
        for (descriptor, manifest, config) in &found {
            let files = manifest.layers.iter().map(|layer| (layer.clone(), self.spool.blob(&layer.digest)));
            let layers = layers(inner, &mut self.hold, files.collect(), config)?;
            for digest in [descriptor.digest, manifest.config.digest] {
                self.hold.add(digest);
                let bytes = match self.spool.blob(&digest) {
                    Some(file) => read(file)?,
                    None => continue,
                };
                inner.write_blob(&digest, &bytes)?;
            }
            if let Some(file) = self.spool.blob(&target.digest) {
                inner.write_blob(&target.digest, &read(file)?)?;
            }
            let variant = Variant {
                manifest: Descriptor { annotations: Default::default(), ..descriptor.clone() },
                config: manifest.config.clone(),
                platform: descriptor.platform.clone().unwrap_or_else(|| config.platform()),
                layers,
            };
            inner.add_image(&target, &variant, config, None)?;
        }
        self.name(ImageId(target.digest), names)
    }

    fn name(&self, image: ImageId, names: BTreeSet<Reference>) -> Result<Vec<Loaded>, Error> {
        if names.is_empty() {
            return Ok(vec![Loaded { image, name: None }]);
        }
        let mut loaded = Vec::new();
        for name in names {
            self.store.tag(&image, &name)?;
            loaded.push(Loaded { image, name: Some(name) });
        }
        Ok(loaded)
    }

    /// What `docker save` wrote before it knew OCI layouts.
    fn docker(&mut self, bytes: &[u8]) -> Result<Vec<Loaded>, Error> {
        let saved: Vec<Saved> = serde_json::from_slice(bytes).map_err(broken)?;
        let mut loaded = Vec::new();
        for image in saved {
            let missing = |name: &str| broken(format!("{name} is missing"));
            let config = self.spool.document(image.config.as_bytes())?.ok_or_else(|| missing(&image.config))?;
            let names = image.layers.unwrap_or_default();
            let config = parse_config(digest_of(&config), &config, names.len())?;
            if self.platform.is_some_and(|wish| config.platform().distance(wish).is_none()) {
                continue;
            }
            let mut files = Vec::new();
            for name in &names {
                let file = self.spool.find(name.as_bytes()).ok_or_else(|| missing(name))?;
                files.push((Descriptor::new(kind(file)?, file.digest, file.size), Some(file)));
            }
            let layers = layers(&self.store.inner, &mut self.hold, files, &config)?;
            let made = self.store.write_image(layers, &config, None, &mut self.hold)?;
            let names = image.repo_tags.iter().flatten().filter_map(|text| tagged(text)).collect();
            loaded.extend(self.name(made.id, names)?);
        }
        Ok(loaded)
    }
}

/// Brings layers into the store, base first, each with the file it is in if it is in one.
fn layers(
    inner: &Inner,
    hold: &mut Hold,
    files: Vec<(Descriptor, Option<&Spooled>)>,
    config: &ImageConfig,
) -> Result<Vec<LayerUse>, Error> {
    if files.len() > MAX_LAYERS {
        return Err(Error::TooDeep { layers: files.len(), limit: MAX_LAYERS });
    }
    let diff_ids = &config.rootfs.diff_ids;
    let chain = chain_ids(diff_ids);
    let mut layers: Vec<LayerUse> = Vec::new();
    for ((blob, file), (diff_id, chain_id)) in files.into_iter().zip(diff_ids.iter().zip(&chain)) {
        let blob = Descriptor { annotations: Default::default(), ..blob };
        let used = LayerUse { blob, diff_id: *diff_id, chain_id: *chain_id };
        hold.add(used.blob.digest);
        hold.add(used.chain_id);
        let (stored, unpacked) = {
            let state = inner.state();
            (state.blobs.contains(&used.blob.digest), state.layers.contains_key(&used.chain_id))
        };
        if !stored {
            let file = file.ok_or_else(|| broken(format!("layer {} is missing", used.blob.digest)))?;
            if file.path.exists() {
                inner.adopt_blob(&file.path, &used.blob.digest)?;
            }
        }
        if !unpacked {
            let below: Vec<Digest> = layers.iter().map(|layer| layer.chain_id).collect();
            inner.complete(unpack_stored(inner, &used)?, &used, &below)?;
        }
        layers.push(used);
    }
    Ok(layers)
}

/// A layer's media type, told by its first bytes.
fn kind(file: &Spooled) -> Result<&'static str, Error> {
    let mut start = [0u8; 4];
    let opened = File::open(&file.path).and_then(|mut file| file.read(&mut start));
    let count = opened.map_err(|source| Error::io("read", &file.path, source))?;
    Ok(match &start[..count] {
        [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    })
}

/// The name in a descriptor's annotations.
fn annotated(descriptor: &Descriptor) -> Option<Reference> {
    let text = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let full = text(NAME).and_then(tagged);
    // The other one may be a mere tag, which is no name.
    full.or_else(|| text(TAG).filter(|text| text.contains([':', '/'])).and_then(tagged))
}

fn tagged(text: &str) -> Option<Reference> {
    let name = Reference::parse(text).ok()?;
    // A digest in a name is not something an archive can promise.
    name.digest().is_none().then(|| name.with_default_tag())
}
