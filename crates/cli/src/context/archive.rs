//! A context as a tar archive: `meta.json` and `tls/docker/*.pem`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use super::{DOCKER, MATERIAL, Meta, Store};
use crate::error::Error;

/// Largest file and largest archive that is taken in, bytes; as in Docker.
const LIMIT: u64 = 10 << 20;

impl Store {
    /// Packs a context.
    pub(crate) fn export(&self, name: &str) -> Result<Vec<u8>, Error> {
        let meta = serde_json::to_vec(&self.get(name)?).map_err(Error::new)?;
        let mut archive = tar::Builder::new(Vec::new());
        let failed = |error: std::io::Error| Error::new(format_args!("pack context {name:?}: {error}"));
        let mut add = |path: &str, bytes: Option<&[u8]>, mode: u32| {
            let mut header = tar::Header::new_gnu();
            let kind = if bytes.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.map_or(0, |bytes| bytes.len() as u64));
            archive.append_data(&mut header, path, bytes.unwrap_or_default())
        };
        add("meta.json", Some(&meta), 0o644).map_err(failed)?;
        add("tls", None, 0o700).map_err(failed)?;
        let material = self.material(name);
        if !material.is_empty() {
            add("tls/docker", None, 0o700).map_err(failed)?;
        }
        for (file, bytes) in &material {
            add(&format!("tls/{DOCKER}/{file}"), Some(bytes), 0o600).map_err(failed)?;
        }
        archive.into_inner().map_err(failed)
    }

    /// Unpacks a context under a name. Nothing but the files that a context
    /// has is taken from the archive.
    pub(crate) fn import(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        if bytes.starts_with(b"PK\x03\x04") {
            return Err(Error::new("contexts in zip files are not implemented: use a tar archive"));
        }
        let invalid = |error: std::io::Error| Error::new(format_args!("archive format is invalid: {error}"));
        let (mut meta, mut material) = (None, BTreeMap::new());
        let mut archive = tar::Archive::new(Cursor::new(bytes));
        for entry in archive.entries().map_err(invalid)? {
            let mut entry = entry.map_err(invalid)?;
            if entry.header().entry_type().is_dir() {
                continue;
            }
            let path = entry.path().map_err(invalid)?.to_string_lossy().into_owned();
            if entry.size() > LIMIT {
                return Err(Error::new(format_args!("{path} is larger than {LIMIT} bytes")));
            }
            let mut content = Vec::new();
            entry.by_ref().take(LIMIT).read_to_end(&mut content).map_err(invalid)?;
            match path.strip_prefix("tls/") {
                None if path == "meta.json" => {
                    let parsed: Meta = serde_json::from_slice(&content)
                        .map_err(|error| Error::new(format_args!("meta.json: {error}")))?;
                    meta = Some(parsed);
                }
                Some(rest) if rest.strip_prefix("docker/").is_some_and(|file| MATERIAL.contains(&file)) => {
                    material.insert(rest["docker/".len()..].to_owned(), content);
                }
                // Endpoints of other kinds.
                Some(rest) if !rest.contains("..") => {}
                _ => return Err(Error::new(format_args!("{path}: unexpected context file"))),
            }
        }
        let mut meta = meta.ok_or_else(|| Error::new("invalid context: no metadata found"))?;
        name.clone_into(&mut meta.name);
        self.put(&meta)?;
        self.put_material(name, &material)
    }
}

/// Reads an archive to its end, or to the largest size that is taken in.
pub(crate) fn read(source: impl std::io::Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| Error::new(format_args!("read: {error}")))?;
    match bytes.len() as u64 > LIMIT {
        true => Err(Error::new(format_args!("the archive is larger than {LIMIT} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Endpoint;
    use super::*;

    #[test]
    fn there_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path());
        let endpoint = Endpoint { host: "tcp://far:1".into(), ..Endpoint::default() };
        let meta = Meta { name: "far".into(), endpoints: [(DOCKER.to_owned(), endpoint)].into(), ..Meta::default() };
        store.put(&meta).unwrap();
        store.put_material("far", &[("key.pem".to_owned(), b"k".to_vec())].into()).unwrap();
        store.import("near", &store.export("far").unwrap()).unwrap();
        assert_eq!(store.get("near").unwrap().docker_host(), "tcp://far:1");
        assert_eq!(store.material("near"), store.material("far"));
        let mut evil = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..13].copy_from_slice(b"tls/../../pwn");
        header.set_size(0);
        header.set_cksum();
        evil.append(&header, &b""[..]).unwrap();
        assert!(store.import("evil", &evil.into_inner().unwrap()).is_err());
        assert!(store.import("empty", b"").unwrap_err().to_string().contains("no metadata"));
        assert!(store.import("zip", b"PK\x03\x04").unwrap_err().to_string().contains("zip"));
    }
}
