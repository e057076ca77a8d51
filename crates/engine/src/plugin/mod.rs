//! Plugins in Docker's sense: programs outside that speak its plugin protocol
//! (version 1): JSON over HTTP on a socket that lies in a known directory.
//!
//! [`Plugins::get`] finds a plugin by name, shakes hands with it once, and
//! makes sure that it has the wished interface; [`Plugin::call`] calls one of
//! its methods. What the methods mean is known where they are called: volumes
//! call `VolumeDriver.*`, the daemon calls `AuthZPlugin.*`.

mod client;
mod discover;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use budu_spec::{Classified, ErrorClass};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::client::Address;

/// How long one attempt of the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Where plugins are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginPlaces {
    /// Directory of sockets, `NAME.sock` or `NAME/NAME.sock`.
    pub sockets: PathBuf,
    /// Directories of files `NAME.spec` (an address) and `NAME.json` (an
    /// address and certificates), in this order.
    pub specs: Vec<PathBuf>,
}

impl Default for PluginPlaces {
    /// Docker's directories: plugins know no others.
    fn default() -> PluginPlaces {
        PluginPlaces {
            sockets: "/run/docker/plugins".into(),
            specs: vec!["/etc/docker/plugins".into(), "/usr/lib/docker/plugins".into()],
        }
    }
}

/// Why a plugin could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// No socket and no file of this name.
    #[error("plugin \"{name}\" not found")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// It is there, but does not have the wished interface.
    #[error("plugin {name} does not implement the requested driver {interface}: it implements {found}")]
    NotImplemented {
        /// The plugin.
        name: String,
        /// What was wished.
        interface: String,
        /// What it has.
        found: String,
    },
    /// Its file says nothing that can be used.
    #[error("plugin {name}: {}: {reason}", path.display())]
    Description {
        /// The plugin.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not answer, or with something else than the protocol.
    #[error("{method}: plugin {name} at {address}: {reason}")]
    Unreachable {
        /// The plugin.
        name: String,
        /// Where it should be.
        address: String,
        /// What was called.
        method: String,
        /// What went wrong.
        reason: String,
    },
    /// It answered with an error.
    #[error("{method}: {message}")]
    Refused {
        /// What was called.
        method: String,
        /// HTTP status of the answer.
        status: u16,
        /// What the plugin said.
        message: String,
    },
}

impl Classified for PluginError {
    fn class(&self) -> ErrorClass {
        match self {
            PluginError::NotFound { .. } => ErrorClass::NotFound,
            PluginError::NotImplemented { .. } => ErrorClass::InvalidArgument,
            _ => ErrorClass::Internal,
        }
    }
}

/// The plugins of this machine. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Plugins(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    places: PluginPlaces,
    /// Those that shook hands.
    active: Mutex<HashMap<String, Plugin>>,
}

/// A plugin that shook hands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plugin {
    name: String,
    address: Arc<Address>,
    interfaces: Arc<[String]>,
}

/// Answer to `Plugin.Activate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manifest {
    #[serde(rename = "Implements")]
    implements: Option<Vec<String>>,
}

impl Plugins {
    /// Looks for plugins in these places, whenever one is asked for.
    pub fn new(places: PluginPlaces) -> Plugins {
        Plugins(Arc::new(Known { places, active: Mutex::default() }))
    }

    /// Names of all plugins that are there, sorted. They may not answer.
    pub fn names(&self) -> Vec<String> {
        discover::names(&self.0.places)
    }

    /// Finds the plugin `name` and makes sure that it has `interface`, such as
    /// `VolumeDriver`. Shakes hands when this has not been done before.
    ///
    /// A plugin whose socket exists but does not accept gets, as in Docker, up
    /// to 30 seconds to do so; one of which nothing is to be seen is an error
    /// at once.
    ///
    /// # Errors
    /// [`PluginError::NotFound`], [`PluginError::NotImplemented`], or what the
    /// handshake failed with.
    pub async fn get(&self, name: &str, interface: &str) -> Result<Plugin, PluginError> {
        let plugin = self.activate(name, true).await?;
        if plugin.has(interface) {
            return Ok(plugin);
        }
        let found = if plugin.interfaces.is_empty() { "nothing".to_owned() } else { plugin.interfaces.join(", ") };
        Err(PluginError::NotImplemented { name: name.to_owned(), interface: interface.to_owned(), found })
    }

    /// All plugins with `interface` that answer now. Others are noted in the log.
    pub async fn all(&self, interface: &str) -> Vec<Plugin> {
        let shakes = self.names().into_iter().map(|name| async move { (self.activate(&name, false).await, name) });
        let mut list = Vec::new();
        for (shake, name) in futures_util::future::join_all(shakes).await {
            match shake {
                Ok(plugin) if plugin.has(interface) => list.push(plugin),
                Ok(_) => {}
                Err(error) => tracing::warn!(plugin = name, %error, "plugin does not answer"),
            }
        }
        list
    }

    /// Names of the plugins that shook hands and have `interface`, sorted.
    pub fn known(&self, interface: &str) -> Vec<String> {
        let active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> =
            active.values().filter(|plugin| plugin.has(interface)).map(|plugin| plugin.name.clone()).collect();
        names.sort();
        names
    }

    async fn activate(&self, name: &str, patient: bool) -> Result<Plugin, PluginError> {
        let address = discover::find(&self.0.places, name)?;
        let active = || self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = active().get(name).filter(|plugin| *plugin.address == address) {
            return Ok(plugin.clone());
        }
        let mut plugin = Plugin { name: name.to_owned(), address: Arc::new(address), interfaces: Vec::new().into() };
        let bytes = plugin.exchange("Plugin.Activate", Vec::new(), HANDSHAKE, patient).await?;
        let manifest: Manifest = plugin.decode("Plugin.Activate", &bytes)?;
        plugin.interfaces = manifest.implements.unwrap_or_default().into();
        active().insert(name.to_owned(), plugin.clone());
        Ok(plugin)
    }
}

impl Plugin {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has an interface.
    pub fn has(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|known| known == interface)
    }

    /// Calls `method`, such as `VolumeDriver.Create`. An attempt may take
    /// `timeout`; while nothing accepts the connection, more attempts follow
    /// for 30 seconds, as in Docker (a plugin may be starting anew). A call
    /// that reached the plugin is never made twice.
    ///
    /// Many methods report failure with status 200 and a field `Err`: the
    /// caller's answer type has it and the caller looks at it.
    ///
    /// # Errors
    /// [`PluginError::Unreachable`], [`PluginError::Refused`].
    pub async fn call<Q, A>(&self, method: &str, question: &Q, timeout: Duration) -> Result<A, PluginError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let body = serde_json::to_vec(question).map_err(|e| self.unreachable(method, e.to_string()))?;
        let bytes = self.exchange(method, body, timeout, true).await?;
        self.decode(method, &bytes)
    }

    async fn exchange(
        &self,
        method: &str,
        body: Vec<u8>,
        timeout: Duration,
        patient: bool,
    ) -> Result<bytes::Bytes, PluginError> {
        let (status, bytes) = client::exchange(&self.address, method, body.into(), timeout, patient)
            .await
            .map_err(|reason| self.unreachable(method, reason))?;
        if status == 200 {
            return Ok(bytes);
        }
        Err(PluginError::Refused { method: method.to_owned(), status, message: client::complaint(&bytes) })
    }

    fn decode<A: DeserializeOwned>(&self, method: &str, bytes: &[u8]) -> Result<A, PluginError> {
        serde_json::from_slice(bytes)
            .map_err(|e| self.unreachable(method, format!("its answer is not understood: {e}")))
    }

    fn unreachable(&self, method: &str, reason: String) -> PluginError {
        PluginError::Unreachable {
            name: self.name.clone(),
            address: self.address.to_string(),
            method: method.to_owned(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests;
