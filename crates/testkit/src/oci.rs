//! OCI image layouts made by code, down to the bytes of each tar header, so that also bad ones can be made.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// `sha256:` and 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// A tar archive under construction. Entry names are written as they are: nothing is refused.
pub struct Tar {
    builder: tar::Builder<Vec<u8>>,
}

impl std::fmt::Debug for Tar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tar")
    }
}

impl Default for Tar {
    fn default() -> Tar {
        Tar { builder: tar::Builder::new(Vec::new()) }
    }
}

impl Tar {
    fn entry(mut self, kind: EntryType, name: &str, mode: u32, link: &str, data: &[u8]) -> Result<Tar> {
        ensure!(name.len() <= 100 && link.len() <= 100, "{name}: too long for a plain header");
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        header.set_mtime(1_700_000_000);
        if kind == EntryType::Char {
            // /dev/mem, the one nobody wants to see made.
            header.set_device_major(1)?;
            header.set_device_minor(1)?;
        }
        header.set_cksum();
        self.builder.append(&header, data)?;
        Ok(self)
    }

    /// A directory.
    pub fn dir(self, name: &str, mode: u32) -> Result<Tar> {
        self.entry(EntryType::Directory, name, mode, "", b"")
    }

    /// A regular file.
    pub fn file(self, name: &str, mode: u32, data: &[u8]) -> Result<Tar> {
        self.entry(EntryType::Regular, name, mode, "", data)
    }

    /// A symbolic link to `target`.
    pub fn symlink(self, name: &str, target: &str) -> Result<Tar> {
        self.entry(EntryType::Symlink, name, 0o777, target, b"")
    }

    /// A hard link to the entry `target`.
    pub fn hardlink(self, name: &str, target: &str) -> Result<Tar> {
        self.entry(EntryType::Link, name, 0o644, target, b"")
    }

    /// A character device: `/dev/mem`.
    pub fn device(self, name: &str) -> Result<Tar> {
        self.entry(EntryType::Char, name, 0o666, "", b"")
    }

    /// The archive's bytes.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.builder.into_inner()?)
    }
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct Image {
    /// Layers from the bottom up: tar archives and how to store each.
    pub layers: Vec<(Vec<u8>, Compression)>,
    /// The `config` object of the image configuration.
    pub config: Value,
    /// Architecture in Go's spelling.
    pub architecture: &'static str,
}

/// Writes `images` into an OCI layout in `dir`, called `tag`: one manifest, or an index when there are several.
/// Returns the digest of what the tag points at.
pub fn write_layout(dir: &Path, tag: &str, images: &[Image]) -> Result<String> {
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let manifests = images.iter().map(|image| manifest(dir, image)).collect::<Result<Vec<_>>>()?;
    let mut top = match manifests.as_slice() {
        [one] => one.clone(),
        several => {
            let kind = "application/vnd.oci.image.index.v1+json";
            let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": several});
            blob(dir, kind, index.to_string().as_bytes())?
        }
    };
    top["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    fs::write(dir.join("index.json"), index.to_string())?;
    Ok(top["digest"].as_str().unwrap_or_default().to_owned())
}

fn manifest(dir: &Path, image: &Image) -> Result<Value> {
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for (tar, compression) in &image.layers {
        diff_ids.push(digest(tar));
        let (suffix, bytes) = compress(tar, *compression)?;
        layers.push(blob(dir, &format!("application/vnd.oci.image.layer.v1.tar{suffix}"), &bytes)?);
    }
    let history: Vec<_> = diff_ids.iter().map(|_| json!({"created": CREATED, "created_by": "budu-testkit"})).collect();
    let config = json!({
        "architecture": image.architecture,
        "os": "linux",
        "created": CREATED,
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    let config = blob(dir, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let mut descriptor = blob(dir, kind, manifest.to_string().as_bytes())?;
    descriptor["platform"] = json!({"architecture": image.architecture, "os": "linux"});
    Ok(descriptor)
}

const CREATED: &str = "2026-01-02T03:04:05Z";

fn compress(tar: &[u8], compression: Compression) -> Result<(&'static str, Vec<u8>)> {
    Ok(match compression {
        Compression::None => ("", tar.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar)?;
            ("+gzip", encoder.finish()?)
        }
        Compression::Zstd => ("+zstd", zstd::encode_all(tar, 3)?),
    })
}

fn blob(dir: &Path, kind: &str, bytes: &[u8]) -> Result<Value> {
    let digest = digest(bytes);
    fs::write(dir.join("blobs").join(digest.replace(':', "/")), bytes)?;
    Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
}
