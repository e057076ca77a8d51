//! `config.json`: what the user set once for all commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use budu_spec::Reference;
use budu_spec::docker::AuthConfig;
use serde::Deserialize;

use crate::error::Error;

/// The settings we know; others are left alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    auths: BTreeMap<String, Auth>,
    /// Sent with every request.
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    /// Default `--format` of ps.
    #[serde(rename = "psFormat")]
    pub(crate) ps_format: String,
    /// Default `--format` of images.
    #[serde(rename = "imagesFormat")]
    pub(crate) images_format: String,
    /// Default `--format` of network ls.
    #[serde(rename = "networksFormat")]
    pub(crate) networks_format: String,
    /// Default `--format` of stats.
    #[serde(rename = "statsFormat")]
    pub(crate) stats_format: String,
    /// Default `--format` of volume ls.
    #[serde(rename = "volumesFormat")]
    pub(crate) volumes_format: String,
    /// Default `--detach-keys`.
    #[serde(rename = "detachKeys")]
    pub(crate) detach_keys: String,
    /// Context used when none is named.
    #[serde(rename = "currentContext")]
    pub(crate) current_context: String,
    #[serde(rename = "credsStore")]
    creds_store: String,
    #[serde(rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
    /// Proxy settings by daemon address; `default` holds for all.
    proxies: BTreeMap<String, BTreeMap<String, String>>,
    /// The directory it was read from.
    #[serde(skip)]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Docker Hub's key in `auths`.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

impl Config {
    /// Reads `config.json` below `directory`; a missing file means no settings.
    pub(crate) fn load(directory: &Path) -> Result<Config, Error> {
        let path = directory.join("config.json");
        let mut config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::new(format_args!("read {}: {error}", path.display())))?,
            Err(_) => Config::default(),
        };
        directory.clone_into(&mut config.directory);
        Ok(config)
    }

    /// Makes a context the one that is used when none is named; `default` is
    /// what nothing says.
    pub(crate) fn use_context(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join("config.json");
        let mut settings: serde_json::Map<String, serde_json::Value> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::new(format_args!("read {}: {error}", path.display())))?,
            Err(_) => serde_json::Map::new(),
        };
        match name {
            "default" => settings.remove("currentContext"),
            name => settings.insert("currentContext".to_owned(), name.into()),
        };
        let mut text = Vec::new();
        let style = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, style);
        serde::Serialize::serialize(&settings, &mut writer).map_err(Error::new)?;
        crate::context::write_whole(&path, &text, 0o600)
    }

    /// The directory named by `--config`, `DOCKER_CONFIG` or the home directory.
    pub(crate) fn default_directory() -> PathBuf {
        match std::env::var_os("DOCKER_CONFIG") {
            Some(directory) if !directory.is_empty() => directory.into(),
            _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker"),
        }
    }

    /// Proxy variables for a new container, from the entry of this daemon or the default one; those
    /// that `given` sets are left out.
    pub(crate) fn proxy_environment(&self, host: &str, given: &[String]) -> Vec<String> {
        const NAMES: &[(&str, &str)] = &[
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        let Some(settings) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else { return Vec::new() };
        let set = |name: &str| given.iter().any(|entry| entry.split('=').next() == Some(name));
        NAMES
            .iter()
            .filter_map(|(key, name)| settings.get(*key).filter(|value| !value.is_empty()).map(|value| (name, value)))
            .flat_map(|(name, value)| [(name.to_string(), value), (name.to_lowercase(), value)])
            .filter(|(name, _)| !set(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// The program that keeps the credentials of a server, if one does.
    pub(crate) fn helper(&self, server: &str) -> Option<&str> {
        let own = self.cred_helpers.get(server).or_else(|| self.cred_helpers.get(host_of(server)));
        own.map(String::as_str).or_else(|| Some(self.creds_store.as_str()).filter(|store| !store.is_empty()))
    }

    /// Whether credentials for a server are written in the file itself.
    pub(crate) fn knows(&self, server: &str) -> bool {
        self.auths.contains_key(server)
    }

    /// Builds the `X-Registry-Auth` value for the registry of `image`.
    pub(crate) fn registry_auth(&self, image: &Reference) -> Option<String> {
        let registry = image.registry();
        let key = if registry == "docker.io" { HUB } else { registry };
        if let Some(helper) = self.helper(key) {
            // Nothing stored there is no error: the registry may not want to know.
            let auth = crate::credentials::get(helper, key).unwrap_or_else(|error| {
                eprintln!("{error}");
                None
            });
            if let Some(auth) = auth {
                let json = serde_json::to_vec(&auth).ok()?;
                return Some(base64::engine::general_purpose::URL_SAFE.encode(json));
            }
        }
        let found = self
            .auths
            .get(key)
            .or_else(|| self.auths.iter().find(|(name, _)| host_of(name) == registry).map(|(_, auth)| auth))?;
        let mut auth = AuthConfig {
            username: found.username.clone(),
            password: found.password.clone(),
            serveraddress: key.to_owned(),
            identitytoken: found.identitytoken.clone(),
            registrytoken: found.registrytoken.clone(),
        };
        if let Ok(plain) = base64::engine::general_purpose::STANDARD.decode(&found.auth)
            && let Ok(plain) = String::from_utf8(plain)
            && let Some((user, password)) = plain.split_once(':')
        {
            user.clone_into(&mut auth.username);
            password.trim_end_matches('\0').clone_into(&mut auth.password);
        }
        let json = serde_json::to_vec(&auth).ok()?;
        Some(base64::engine::general_purpose::URL_SAFE.encode(json))
    }
}

fn host_of(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    key.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_come_from_the_configuration_unless_given() {
        let config: Config =
            serde_json::from_str(r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"x"}}}"#).unwrap();
        let env = config.proxy_environment("unix:///x", &["NO_PROXY=mine".into()]);
        assert_eq!(env, ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1", "no_proxy=x"]);
        assert!(Config::default().proxy_environment("unix:///x", &[]).is_empty());
    }

    #[test]
    fn auth_is_found_by_host_and_decoded() {
        let config: Config = serde_json::from_str(
            r#"{"auths":{"https://r.example:5000/v2/":{"auth":"dTpwOnc="},"https://index.docker.io/v1/":{"identitytoken":"t"}}}"#,
        )
        .unwrap();
        let decode = |name: &str| {
            let value = config.registry_auth(&Reference::parse(name).unwrap())?;
            let json = base64::engine::general_purpose::URL_SAFE.decode(value).unwrap();
            Some(serde_json::from_slice::<AuthConfig>(&json).unwrap())
        };
        let auth = decode("r.example:5000/app").unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("u", "p:w"));
        assert_eq!(decode("nginx").unwrap().identitytoken, "t");
        assert!(decode("other.example/app").is_none());
    }
}
