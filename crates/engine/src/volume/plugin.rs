//! Volumes of plugins: Docker's volume plugin protocol, `VolumeDriver.*`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LOCAL, Volumes};
use crate::{Error, Plugin, PluginError};

/// The interface.
const DRIVER: &str = "VolumeDriver";
/// How long a plugin may look for something, and how long it may work.
const SHORT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(120);

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<&'a BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    err: String,
    mountpoint: String,
    volume: Option<Known>,
    volumes: Option<Vec<Known>>,
    capabilities: Capabilities,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Capabilities {
    scope: String,
}

/// A volume as its plugin knows it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) mountpoint: String,
    pub(super) created_at: String,
    pub(super) status: Option<BTreeMap<String, Value>>,
}

/// A plugin that keeps volumes.
#[derive(Debug)]
pub(super) struct Driver(Plugin);

impl Volumes {
    /// The plugin of this name.
    pub(super) async fn driver(&self, name: &str) -> Result<Driver, Error> {
        let found = self.plugins.get(name, DRIVER).await;
        found.map(Driver).map_err(|error| match error {
            PluginError::NotFound { .. } => {
                Error::NoSuchPlugin { message: format!("error looking up volume plugin {name}: {error}") }
            }
            error => Error::Runtime { message: format!("error looking up volume plugin {name}: {error}") },
        })
    }

    /// All plugins that keep volumes and answer.
    pub(super) async fn drivers(&self) -> Vec<Driver> {
        self.plugins.all(DRIVER).await.into_iter().map(Driver).collect()
    }
}

impl Driver {
    pub(super) fn name(&self) -> &str {
        self.0.name()
    }

    async fn ask(&self, verb: &str, question: &Question<'_>, time: Duration) -> Result<Answer, Error> {
        let answer: Answer = self.call(verb, question, time).await?;
        match answer.err.as_str() {
            "" => Ok(answer),
            error => Err(Error::Runtime { message: format!("{DRIVER}.{verb}: {error}") }),
        }
    }

    async fn call<A: DeserializeOwned>(&self, verb: &str, question: &Question<'_>, time: Duration) -> Result<A, Error> {
        let answer = self.0.call(&format!("{DRIVER}.{verb}"), question, time).await;
        answer.map_err(|error| Error::Runtime { message: error.to_string() })
    }

    pub(super) async fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
        self.ask("Create", &Question { name, opts: Some(options), ..Question::default() }, LONG).await.map(drop)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), Error> {
        self.ask("Remove", &Question { name, ..Question::default() }, LONG).await.map(drop)
    }

    pub(super) async fn mount(&self, name: &str, id: &str) -> Result<String, Error> {
        let answer = self.ask("Mount", &Question { name, id, opts: None }, LONG).await?;
        match answer.mountpoint.starts_with('/') {
            true => Ok(answer.mountpoint),
            false => Err(Error::Runtime { message: format!("{DRIVER}.Mount: \"{}\" is no path", answer.mountpoint) }),
        }
    }

    pub(super) async fn unmount(&self, name: &str, id: &str) -> Result<(), Error> {
        self.ask("Unmount", &Question { name, id, opts: None }, LONG).await.map(drop)
    }

    /// `None` when the plugin does not know it.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Known>, Error> {
        let question = Question { name, ..Question::default() };
        let answer: Answer = self.call("Get", &question, SHORT).await?;
        Ok(answer.volume.filter(|_| answer.err.is_empty()))
    }

    pub(super) async fn list(&self) -> Result<Vec<Known>, Error> {
        Ok(self.ask("List", &Question::default(), SHORT).await?.volumes.unwrap_or_default())
    }

    /// `local` or `global`.
    pub(super) async fn scope(&self) -> String {
        // Old plugins do not know the question.
        let answer = self.ask("Capabilities", &Question::default(), SHORT).await;
        answer
            .map(|answer| answer.capabilities.scope)
            .ok()
            .filter(|scope| scope == "global")
            .unwrap_or_else(|| LOCAL.into())
    }
}
