//! Images made from files at hand.

use std::collections::BTreeSet;

use budu_spec::Reference;
use budu_spec::image::{Descriptor, ImageConfig, Manifest, RootFs, media_type};

use crate::collect::Hold;
use crate::document::digest_of;
use crate::error::Error;
use crate::image::Image;
use crate::ingest::unpack_stored;
use crate::state::{LayerUse, Variant};
use crate::store::{Store, view};

impl Store {
    /// Builds a real one-layer image (path, mode, content of each file) and names it. The same
    /// input gives the same image id; a second call changes nothing and writes nothing.
    ///
    /// `config.rootfs` is filled in here; everything else is the caller's.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Database`].
    pub fn import_built_in(
        &self,
        name: &Reference,
        config: ImageConfig,
        files: &[(&str, u32, &[u8])],
    ) -> Result<Image, Error> {
        let archive = archive(files);
        let layer = digest_of(&archive);
        let mut config = config;
        config.rootfs = RootFs { kind: "layers".into(), diff_ids: vec![layer] };
        let encode = |error: serde_json::Error| Error::Protocol { host: "built-in".into(), detail: error.to_string() };
        let config_bytes = serde_json::to_vec(&config).map_err(encode)?;
        let blob = Descriptor::new(media_type::OCI_LAYER, layer, archive.len() as u64);
        let config_digest = digest_of(&config_bytes);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, config_digest, config_bytes.len() as u64),
            layers: vec![blob.clone()],
            subject: None,
            annotations: Default::default(),
        };
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(encode)?;
        let digest = digest_of(&manifest_bytes);
        let target = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest_bytes.len() as u64);
        let name = name.clone().with_default_tag();
        let used = LayerUse { blob, diff_id: layer, chain_id: layer };
        let inner = &self.inner;
        let mut hold = Hold::new(inner);
        for held in [digest, config_digest, layer] {
            hold.add(held);
        }
        let (known, unpacked) = {
            let state = inner.state();
            let record = state.images.get(&digest).filter(|record| !record.hidden);
            let named = state.names.get(&name) == Some(&digest);
            let unpacked = state.layers.contains_key(&layer);
            (record.is_some() && named && unpacked, unpacked)
        };
        if !known {
            inner.write_blob(&layer, &archive)?;
            inner.write_blob(&config_digest, &config_bytes)?;
            inner.write_blob(&digest, &manifest_bytes)?;
            if !unpacked {
                let staged = unpack_stored(inner, &used)?;
                inner.complete(staged, &used, &[])?;
            }
            let variant = Variant {
                manifest: target.clone(),
                config: manifest.config.clone(),
                platform: config.platform(),
                layers: vec![used],
            };
            inner.add_image(&target, &variant, &config, Some(name))?;
        }
        let state = inner.state();
        let record = state.images.get(&digest).ok_or(Error::NotFound { name: digest.to_string() })?;
        view(&state, record, None)
    }
}

/// A ustar archive of the files, their parent directories before them, all at time zero.
fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut made = BTreeSet::new();
    for (path, mode, content) in files {
        let path = path.trim_start_matches('/');
        for (slash, _) in path.match_indices('/') {
            if made.insert(&path[..slash]) {
                header(&mut bytes, &path[..=slash], 0o755, 0, b'5');
            }
        }
        header(&mut bytes, path, *mode, content.len(), b'0');
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn header(bytes: &mut Vec<u8>, path: &str, mode: u32, size: usize, kind: u8) {
    let mut block = [0u8; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    // Built-in names are ours and short.
    put(0, &path[..path.len().min(100)]);
    put(100, &format!("{:07o}", mode & 0o7777));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar\x0000");
    block[156] = kind;
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes.extend_from_slice(&block);
}
