//! Volumes of plugins: Docker's volume plugin protocol, `VolumeDriver.*`.

use std::collections::BTreeMap;
use std::time::Duration;

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
                Error::Absent { message: format!("error looking up volume plugin {name}: {error}") }
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
        let answer = self.0.call(&format!("{DRIVER}.{verb}"), question, time).await;
        let answer: Answer = answer.map_err(|error| Error::Runtime { message: error.to_string() })?;
        match answer.err.as_str() {
            "" => Ok(answer),
            error => Err(Error::Runtime { message: format!("{DRIVER}.{verb}: {error}") }),
        }
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
        match self.0.call::<_, Answer>("VolumeDriver.Get", &question, SHORT).await {
            Ok(answer) => Ok(answer.volume.filter(|_| answer.err.is_empty())),
            // Some say so with a status.
            Err(PluginError::Refused { .. }) => Ok(None),
            Err(error) => Err(Error::Runtime { message: error.to_string() }),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use budu_spec::Filters;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::super::{Volumes, Wish};
    use crate::{Events, PluginPlaces, Plugins};

    /// A plugin that has the volume `theirs`, and whatever is made.
    async fn answer(listener: UnixListener, asked: Arc<Mutex<Vec<String>>>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let complete = |text: &str| {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let head = head.to_ascii_lowercase();
                // A handshake has no body, and says no length.
                let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
                let length = length.lines().next()?.parse().ok()?;
                (body.len() >= length).then(|| body.to_owned())
            };
            let body = loop {
                if let Some(body) = complete(&text) {
                    break body;
                }
                let mut piece = [0u8; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
            };
            let method = text.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let made = asked.lock().unwrap().iter().any(|line| line.starts_with("VolumeDriver.Create"));
            let known = body.contains("theirs") || (made && body.contains("mine"));
            let reply = match method.as_str() {
                "Plugin.Activate" => r#"{"Implements":["VolumeDriver"]}"#,
                "VolumeDriver.Get" if known => r#"{"Volume":{"Name":"x","Mountpoint":"/there","Status":{"a":1}}}"#,
                "VolumeDriver.Get" => r#"{"Err":"no such volume"}"#,
                "VolumeDriver.List" => r#"{"Volumes":[{"Name":"theirs"}]}"#,
                "VolumeDriver.Mount" => r#"{"Mountpoint":"/there"}"#,
                "VolumeDriver.Capabilities" => r#"{"Capabilities":{"Scope":"global"}}"#,
                "VolumeDriver.Remove" if body.contains("theirs") => r#"{"Err":"it is dear to me"}"#,
                _ => "{}",
            };
            if !method.contains("Capabilities") && !method.contains("Activate") && !method.contains("Get") {
                asked.lock().unwrap().push(format!("{method} {body}"));
            }
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{reply}", reply.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_volume_lives_with_its_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(dir.path().join("far.sock")).unwrap();
        tokio::spawn(answer(listener, Arc::clone(&asked)));
        let plugins = || Plugins::new(PluginPlaces { sockets: dir.path().to_owned(), specs: Vec::new() });
        let open = || Volumes::open(&dir.path().join("data"), Events::default(), plugins()).unwrap();
        let volumes = open();
        std::fs::create_dir(dir.path().join("data/trash")).unwrap();
        let options = [("a".to_owned(), "b".to_owned())].into();
        let wish = Wish { name: "mine".into(), driver: "far".into(), options: Some(options), labels: None };
        volumes.obtain(wish, Some("web"), true).await.unwrap();
        assert_eq!(volumes.mount("mine", "web").await.unwrap(), std::path::Path::new("/there"));
        // What it said survives the daemon, and so does who uses it.
        let volumes = open();
        volumes.adopt("mine", "web", true);
        assert!(volumes.unmount("mine", "web").await);
        volumes.release("mine", "web");
        let shown = volumes.inspect("mine").await.unwrap();
        assert_eq!((shown.scope.as_str(), shown.mountpoint.as_str()), ("global", "/there"));
        assert_eq!(shown.status.unwrap()["a"], 1);
        let names = volumes.list(&Filters::default()).await.unwrap().volumes;
        assert_eq!(names.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["mine", "theirs"]);
        volumes.remove("mine", false).await.unwrap();
        let refused = volumes.remove("theirs", false).await.unwrap_err().to_string();
        assert_eq!(refused, "remove theirs: VolumeDriver.Remove: it is dear to me");
        volumes.remove("theirs", true).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            [
                r#"VolumeDriver.Create {"Name":"mine","Opts":{"a":"b"}}"#,
                r#"VolumeDriver.Mount {"Name":"mine","ID":"web"}"#,
                r#"VolumeDriver.Unmount {"Name":"mine","ID":"web"}"#,
                "VolumeDriver.List {}",
                r#"VolumeDriver.Remove {"Name":"mine"}"#,
                r#"VolumeDriver.Remove {"Name":"theirs"}"#,
                r#"VolumeDriver.Remove {"Name":"theirs"}"#,
            ]
        );
    }
}
