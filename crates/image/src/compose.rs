//! Images made here: a new layer on top of those of another image, or of none.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use budu_spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use budu_spec::{Digest, Reference};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::collect::Hold;
use crate::document::{chain_ids, digest_of};
use crate::error::Error;
use crate::image::Image;
use crate::ingest::unpack_stored;
use crate::layout::Temporary;
use crate::state::{LayerUse, Variant};
use crate::store::{Store, view};

/// A layer being written: compressed, hashed before and after.
pub(crate) struct LayerFile {
    temporary: Temporary,
    path: PathBuf,
    plain: Sha256,
    output: GzEncoder<Hashed>,
}

/// Writes to a file what it hashes and counts.
struct Hashed {
    file: BufWriter<File>,
    hasher: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Write for LayerFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.plain.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layer that was written, still without its place.
pub(crate) struct Written {
    /// Takes the file along when it is dropped.
    _temporary: Temporary,
    path: PathBuf,
    blob: Descriptor,
    diff_id: Digest,
}

impl LayerFile {
    pub(crate) fn create(store: &Store) -> Result<LayerFile, Error> {
        let temporary = store.inner.layout.temporary()?;
        let path = temporary.path().join("blob");
        let file = File::create_new(&path).map_err(|source| Error::io("create", &path, source))?;
        let hashed = Hashed { file: BufWriter::with_capacity(128 << 10, file), hasher: Sha256::new(), size: 0 };
        // Quick rather than small: it is unpacked right away, and seldom leaves this machine.
        let output = GzEncoder::new(hashed, Compression::fast());
        Ok(LayerFile { temporary, path, plain: Sha256::new(), output })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn finish(self) -> Result<Written, Error> {
        let failed = |source| Error::io("write", &self.path, source);
        let mut hashed = self.output.finish().map_err(failed)?;
        hashed.flush().map_err(failed)?;
        let digest = Digest::from_bytes(hashed.hasher.finalize().into());
        let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, digest, hashed.size);
        let diff_id = Digest::from_bytes(self.plain.finalize().into());
        Ok(Written { _temporary: self.temporary, path: self.path, blob, diff_id })
    }
}

impl Store {
    /// Adds the image that `config` describes: the layers of `base`, then `layer`. `config.rootfs` is filled in here.
    pub(crate) fn compose(
        &self,
        base: &[LayerUse],
        layer: Option<Written>,
        mut config: ImageConfig,
        name: Option<Reference>,
    ) -> Result<Image, Error> {
        let inner = &self.inner;
        let mut diff_ids: Vec<Digest> = base.iter().map(|layer| layer.diff_id).collect();
        diff_ids.extend(layer.as_ref().map(|layer| layer.diff_id));
        config.rootfs = budu_spec::image::RootFs { kind: "layers".into(), diff_ids };
        let chain = chain_ids(&config.rootfs.diff_ids);
        let mut layers = base.to_vec();
        let mut hold = Hold::new(inner);
        for used in base {
            hold.add(used.blob.digest);
            hold.add(used.chain_id);
        }
        if let (Some(layer), Some(chain_id)) = (layer, chain.last()) {
            let used = LayerUse { blob: layer.blob, diff_id: layer.diff_id, chain_id: *chain_id };
            hold.add(used.blob.digest);
            hold.add(used.chain_id);
            inner.adopt_blob(&layer.path, &used.blob.digest)?;
            if !inner.state().layers.contains_key(&used.chain_id) {
                let below: Vec<Digest> = base.iter().map(|layer| layer.chain_id).collect();
                inner.complete(unpack_stored(inner, &used)?, &used, &below)?;
            }
            layers.push(used);
        }
        self.write_image(layers, &config, name, &mut hold)
    }

    /// Writes configuration and manifest of an image whose layers are in place, and adds it.
    pub(crate) fn write_image(
        &self,
        layers: Vec<LayerUse>,
        config: &ImageConfig,
        name: Option<Reference>,
        hold: &mut Hold,
    ) -> Result<Image, Error> {
        let encode = |source: serde_json::Error| Error::io("encode", Path::new("image"), io::Error::other(source));
        let config_bytes = serde_json::to_vec(config).map_err(encode)?;
        let config_digest = digest_of(&config_bytes);
        let plain = |layer: &LayerUse| {
            let kind = match layer.blob.media_type.as_str() {
                media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
                other => other,
            };
            Descriptor::new(kind, layer.blob.digest, layer.blob.size)
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, config_digest, config_bytes.len() as u64),
            layers: layers.iter().map(plain).collect(),
            subject: None,
            annotations: Default::default(),
        };
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(encode)?;
        let target = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&manifest_bytes), manifest_bytes.len() as u64);
        hold.add(target.digest);
        hold.add(config_digest);
        self.inner.write_blob(&config_digest, &config_bytes)?;
        self.inner.write_blob(&target.digest, &manifest_bytes)?;
        let variant =
            Variant { manifest: target.clone(), config: manifest.config, platform: config.platform(), layers };
        self.inner.add_image(&target, &variant, config, name)?;
        let state = self.inner.state();
        let record = state.images.get(&target.digest).ok_or(Error::NotFound { name: target.digest.to_string() })?;
        view(&state, record, None)
    }
}
