//! Which daemon: `-H`, `DOCKER_HOST`, a context, or the default sockets.

use std::fmt;
use std::path::{Path, PathBuf};

use budu_spec::id::hex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::error::Error;

/// Where Budu's own daemon listens.
pub(crate) const BUDU_SOCKET: &str = "/run/budu/budu.sock";
/// Where everybody else's does.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// `unix://PATH`.
    Unix(PathBuf),
    /// `tcp://HOST:PORT`.
    Tcp(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// An address and how it was come by.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// The address.
    pub(crate) host: Host,
    /// Nobody named it: Docker's socket may stand in, and a daemon may be started.
    pub(crate) by_default: bool,
    /// Name of the context.
    pub(crate) context: String,
}

impl Host {
    /// Parses what `-H` and `DOCKER_HOST` take.
    pub(crate) fn parse(text: &str) -> Result<Host, Error> {
        let text = text.trim();
        match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Host::Unix(path.into())),
            Some(("unix", _)) => Ok(Host::Unix(DOCKER_SOCKET.into())),
            Some(("tcp" | "http", address)) => Ok(Host::Tcp(with_port(address.trim_end_matches('/')))),
            Some((scheme @ ("ssh" | "npipe" | "fd" | "https"), _)) => {
                Err(Error::new(format_args!("{scheme}:// addresses are not implemented yet: use unix:// or tcp://")))
            }
            Some(_) => Err(Error::new(format_args!("invalid bind address format: {text}"))),
            None if text.is_empty() => Ok(Host::Unix(DOCKER_SOCKET.into())),
            None if text.starts_with('/') => {
                Err(Error::new(format_args!("unable to parse docker host `{text}`: did you mean unix://{text}?")))
            }
            None => Ok(Host::Tcp(with_port(text))),
        }
    }
}

fn with_port(address: &str) -> String {
    let address = if address.is_empty() { "localhost" } else { address };
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if has_port && !address.ends_with(']') { address.to_owned() } else { format!("{address}:2375") }
}

/// Chooses by precedence: `-H`, `-c`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the configured context, the default.
pub(crate) fn choose(flag: Option<&str>, context: Option<&str>, config: &Config) -> Result<Choice, Error> {
    let named = |host: Host| Choice { host, by_default: false, context: "default".to_owned() };
    if let Some(host) = flag {
        if context.is_some() {
            return Err(Error::new("conflicting options: cannot specify both --host and --context"));
        }
        return Ok(named(Host::parse(host)?));
    }
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if context.is_none()
        && let Some(host) = variable("DOCKER_HOST")
    {
        return Ok(named(Host::parse(&host)?));
    }
    let context = context
        .map(str::to_owned)
        .or_else(|| variable("DOCKER_CONTEXT"))
        .or_else(|| Some(config.current_context.clone()).filter(|name| !name.is_empty()));
    match context {
        Some(name) if name != "default" => {
            Ok(Choice { host: context_host(&config.directory, &name)?, by_default: false, context: name })
        }
        _ => Ok(Choice { host: Host::Unix(BUDU_SOCKET.into()), by_default: true, context: "default".to_owned() }),
    }
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: std::collections::BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host", default)]
    host: String,
}

fn context_host(directory: &Path, name: &str) -> Result<Host, Error> {
    let fail = |why: String| Error::new(format_args!("Failed to initialize: unable to resolve docker endpoint: {why}"));
    let path = directory.join("contexts/meta").join(hex(&Sha256::digest(name.as_bytes()))).join("meta.json");
    let bytes = std::fs::read(&path).map_err(|error| {
        let error = crate::error::os_text(&error);
        fail(format!("context {name:?}: context not found: open {}: {error}", path.display()))
    })?;
    let meta: Meta = serde_json::from_slice(&bytes).map_err(|error| fail(format!("context {name:?}: {error}")))?;
    let endpoint = meta.endpoints.get("docker").ok_or_else(|| fail(format!("context {name:?}: no docker endpoint")))?;
    Host::parse(&endpoint.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("unix:///x/y.sock", "unix:///x/y.sock"),
            ("tcp://1.2.3.4:99", "tcp://1.2.3.4:99"),
            ("tcp://name", "tcp://name:2375"),
            ("tcp://[::1]:5", "tcp://[::1]:5"),
            ("name", "tcp://name:2375"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), want);
        }
        for bad in ["foo://x", "/x/y.sock", "ssh://x"] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contexts_are_looked_up_by_the_hash_of_their_name() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join("contexts/meta").join(hex(&Sha256::digest(b"far")));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:1"}}}"#)
            .unwrap();
        let config = Config::load(directory.path()).unwrap();
        let choice = choose(None, Some("far"), &config).unwrap();
        assert_eq!((choice.host, choice.by_default), (Host::Tcp("far:1".to_owned()), false));
        let error = choose(None, Some("near"), &config).unwrap_err().to_string();
        assert!(error.contains("context \"near\": context not found"), "{error}");
    }
}
