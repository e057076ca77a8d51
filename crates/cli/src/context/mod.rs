//! Contexts: daemons by name, in the files that Docker's tools keep them in.
//!
//! `contexts/meta/ID/meta.json` says where a daemon is, `contexts/tls/ID/docker`
//! holds its certificates; ID is the SHA-256 of the name.

pub(crate) mod archive;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use budu_dial::tls;
use budu_spec::id::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::error::{Error, os_text};
use crate::host::{Host, Tls};

/// The only kind of endpoint that we know.
pub(crate) const DOCKER: &str = "docker";
/// Names of the certificate files of an endpoint.
pub(crate) const MATERIAL: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// What `meta.json` says. Members that are not ours stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Meta {
    /// Name.
    pub(crate) name: String,
    /// `Description` and what other tools keep here.
    pub(crate) metadata: serde_json::Map<String, serde_json::Value>,
    /// Endpoints by kind.
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
}

/// Where a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Endpoint {
    /// Its address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    /// Trust any certificate.
    #[serde(rename = "SkipTLSVerify")]
    pub(crate) skip_tls_verify: bool,
    /// What other tools keep here.
    #[serde(flatten)]
    pub(crate) others: serde_json::Map<String, serde_json::Value>,
}

impl Meta {
    /// The description, empty without.
    pub(crate) fn description(&self) -> &str {
        self.metadata.get("Description").and_then(|text| text.as_str()).unwrap_or_default()
    }

    /// The daemon's address, empty without.
    pub(crate) fn docker_host(&self) -> &str {
        self.endpoints.get(DOCKER).map_or("", |endpoint| endpoint.host.as_str())
    }
}

/// The directory of all contexts.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// A name that files can be kept under.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
    let valid =
        name.len() > 1 && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(inner);
    match name {
        "" => Err(Error::new("context name cannot be empty")),
        "default" => Err(Error::new("\"default\" is a reserved context name")),
        _ if !valid => Err(Error::new(format_args!(
            "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        ))),
        _ => Ok(()),
    }
}

impl Store {
    /// The contexts of a configuration.
    pub(crate) fn of(config: &Config) -> Store {
        Store::at(&config.directory)
    }

    /// The contexts below a configuration directory.
    pub(crate) fn at(directory: &Path) -> Store {
        Store { root: directory.join("contexts") }
    }

    /// The name under which a context's files are.
    pub(crate) fn id(&self, name: &str) -> String {
        hex(&Sha256::digest(name.as_bytes()))
    }

    /// Directory of `meta.json`.
    pub(crate) fn meta_dir(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(self.id(name))
    }

    /// Directory of certificates, by kind of endpoint.
    pub(crate) fn tls_dir(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(self.id(name))
    }

    /// Reads one.
    pub(crate) fn get(&self, name: &str) -> Result<Meta, Error> {
        let path = self.meta_dir(name).join("meta.json");
        let bytes = fs::read(&path).map_err(|error| {
            let error = os_text(&error);
            Error::new(format_args!("context {name:?}: context not found: open {}: {error}", path.display()))
        })?;
        serde_json::from_slice(&bytes).map_err(|error| Error::new(format_args!("context {name:?}: {error}")))
    }

    /// Reads all, sorted by name.
    pub(crate) fn list(&self) -> Result<Vec<Meta>, Error> {
        let mut list = Vec::new();
        for entry in fs::read_dir(self.root.join("meta")).into_iter().flatten().flatten() {
            let Ok(bytes) = fs::read(entry.path().join("meta.json")) else { continue };
            let meta: Meta = serde_json::from_slice(&bytes)
                .map_err(|error| Error::new(format_args!("{}: {error}", entry.path().display())))?;
            list.push(meta);
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Writes `meta.json`.
    pub(crate) fn put(&self, meta: &Meta) -> Result<(), Error> {
        let bytes = serde_json::to_vec(meta).map_err(Error::new)?;
        self.write(&self.meta_dir(&meta.name), "meta.json", &bytes, 0o644)
    }

    /// Writes certificates of the Docker endpoint, in place of those that are there.
    pub(crate) fn put_material(&self, name: &str, material: &BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
        let dir = self.tls_dir(name).join(DOCKER);
        let _ = fs::remove_dir_all(&dir);
        material.iter().try_for_each(|(file, bytes)| self.write(&dir, file, bytes, 0o600))
    }

    /// Certificates of the Docker endpoint, by file name.
    pub(crate) fn material(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let dir = self.tls_dir(name).join(DOCKER);
        MATERIAL.into_iter().filter_map(|file| Some((file.to_owned(), fs::read(dir.join(file)).ok()?))).collect()
    }

    /// Removes one and its certificates.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        for dir in [self.meta_dir(name), self.tls_dir(name)] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::new(format_args!("failed to remove context {name}: {}", os_text(&error))));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The address of a context's daemon.
    pub(crate) fn host(&self, name: &str) -> Result<Host, Error> {
        let fail =
            |why: String| Error::new(format_args!("Failed to initialize: unable to resolve docker endpoint: {why}"));
        let meta = self.get(name).map_err(|error| fail(error.to_string()))?;
        let endpoint =
            meta.endpoints.get(DOCKER).ok_or_else(|| fail(format!("context {name:?}: no docker endpoint")))?;
        let dir = self.tls_dir(name).join(DOCKER);
        let file = |file: &str| Some(dir.join(file)).filter(|path| path.exists());
        let files = tls::Files { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") };
        let wished = files != tls::Files::default() || endpoint.skip_tls_verify;
        let tls = Tls { files, verify: !endpoint.skip_tls_verify };
        Host::parse(&endpoint.host, wished.then_some(&tls))
    }

    /// Writes a file so that it is there as a whole or not at all.
    fn write(&self, dir: &Path, file: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        write_whole(&dir.join(file), bytes, mode)
    }
}

/// Writes a file, with the directories above, so that it is there as a whole
/// or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |error: io::Error| Error::new(format_args!("write {}: {}", path.display(), os_text(&error)));
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_docker_looks_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path());
        let endpoint = Endpoint { host: "tcp://far:2376".into(), ..Endpoint::default() };
        let meta = Meta {
            name: "far".into(),
            metadata: [("Description".to_owned(), "away".into())].into_iter().collect(),
            endpoints: [(DOCKER.to_owned(), endpoint)].into(),
        };
        store.put(&meta).unwrap();
        store.put_material("far", &[("ca.pem".to_owned(), b"x".to_vec())].into()).unwrap();
        // sha256("far")
        let id = store.id("far");
        let text = fs::read_to_string(directory.path().join("contexts/meta").join(&id).join("meta.json")).unwrap();
        assert_eq!(
            text,
            r#"{"Name":"far","Metadata":{"Description":"away"},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#
        );
        assert_eq!(store.list().unwrap(), [meta]);
        match store.host("far").unwrap() {
            Host::Tls(address, tls) => {
                assert_eq!((address.as_str(), tls.verify), ("far:2376", true));
                assert_eq!(tls.files.ca.unwrap(), directory.path().join("contexts/tls").join(id).join("docker/ca.pem"));
            }
            other => panic!("{other:?}"),
        }
        store.remove("far").unwrap();
        assert!(store.get("far").is_err() && store.list().unwrap().is_empty());
        for bad in ["", "default", "a", "-ab", "a/b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
