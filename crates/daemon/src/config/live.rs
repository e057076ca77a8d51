//! The settings in force, and what reading the file again may change.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use super::Config;
use super::args::{Command, Problem};
pub(crate) use super::file::masked;

/// The settings in force.
#[derive(Debug)]
pub(crate) struct Live {
    current: RwLock<Arc<Config>>,
    command: Option<Command>,
}

impl Live {
    /// Begins with what the command line and the file said.
    pub(crate) fn new(command: Command) -> Live {
        Live { current: RwLock::new(Arc::new(command.config.clone())), command: Some(command) }
    }

    /// Settings that no file changes.
    #[cfg(test)]
    pub(crate) fn fixed(config: Config) -> Live {
        Live { current: RwLock::new(Arc::new(config)), command: None }
    }

    /// The settings as they are now.
    pub(crate) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again and puts in force what may change.
    ///
    /// # Errors
    /// The file cannot be used; nothing changes then.
    pub(crate) fn reload(&self) -> Result<Arc<Config>, Problem> {
        let Some(command) = &self.command else { return Ok(self.get()) };
        let (new, keys) = command.again()?;
        let next = Arc::new(changed(&self.get(), new, &keys));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(next)
    }
}

/// The old settings with those of the new that may change while the daemon
/// runs. As in Docker, most keep their value when they vanish from the file.
fn changed(old: &Config, new: Config, keys: &[String]) -> Config {
    let set = |key: &str| keys.iter().any(|known| known == key);
    let mut next = old.clone();
    macro_rules! take {
        ($($key:literal $field:ident;)*) => { $(if set($key) { next.$field = new.$field; })* };
    }
    next.max_concurrent_downloads = new.max_concurrent_downloads;
    next.max_concurrent_uploads = new.max_concurrent_uploads;
    next.max_download_attempts = new.max_download_attempts;
    next.features = new.features;
    take! {
        "debug" debug;
        "labels" labels;
        "live-restore" live_restore;
        "shutdown-timeout" shutdown_timeout;
        "insecure-registries" insecure_registries;
        "registry-mirrors" registry_mirrors;
        "authorization-plugins" authorization_plugins;
        "runtimes" runtimes;
        "default-runtime" default_runtime;
        "default-shm-size" shm_size;
        "default-ipc-mode" default_ipc_mode;
        "default-cgroupns-mode" default_cgroupns_mode;
    }
    next
}

impl Config {
    /// Attributes of the event that tells of a reload.
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        let list = |list: &[String]| serde_json::to_string(list).unwrap_or_default();
        let path = |runtime: &Value| runtime["path"].as_str().unwrap_or_default().to_owned();
        let runtimes: Vec<String> = self.runtimes.iter().map(|(name, what)| format!("{name}:{}", path(what))).collect();
        let features: Vec<String> = self.features.iter().map(|(name, on)| format!("{name}:{on}")).collect();
        [
            ("debug", self.debug.to_string()),
            ("default-cgroupns-mode", self.default_cgroupns_mode.clone()),
            ("default-ipc-mode", self.default_ipc_mode.clone()),
            ("default-runtime", self.default_runtime.clone()),
            ("default-shm-size", self.shm_size.to_string()),
            ("features", format!("map[{}]", features.join(" "))),
            ("insecure-registries", list(&self.insecure_registries)),
            ("labels", list(&self.labels)),
            ("live-restore", self.live_restore.to_string()),
            ("max-concurrent-downloads", self.max_concurrent_downloads.to_string()),
            ("max-concurrent-uploads", self.max_concurrent_uploads.to_string()),
            ("max-download-attempts", self.max_download_attempts.to_string()),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("runtimes", runtimes.join(" ")),
            ("shutdown-timeout", self.shutdown_timeout.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Gives a request to create a container what it leaves to the daemon.
    pub(crate) fn fill(&self, wish: &mut Value) {
        let Some(wish) = wish.as_object_mut() else { return };
        // docker-py writes it here, where dockerd does not read it.
        let runtime = wish.get("Runtime").and_then(Value::as_str).unwrap_or_default().to_owned();
        let host = wish.entry("HostConfig").or_insert(Value::Null);
        if host.is_null() {
            *host = json!({});
        }
        let Some(host) = host.as_object_mut() else { return };
        let mut text = |key: &str, value: &str, normal: &str| {
            let field = host.entry(key).or_insert(Value::Null);
            if value != normal && (field.is_null() || *field == json!("")) {
                *field = json!(value);
            }
        };
        text("IpcMode", &self.default_ipc_mode, "private");
        text("CgroupnsMode", &self.default_cgroupns_mode, "private");
        text("Runtime", &runtime, "");
        let stock = matches!(self.default_runtime.as_str(), "runc" | "io.containerd.runc.v2");
        text("Runtime", &self.default_runtime, if stock { &self.default_runtime } else { "budu" });
        let size = host.entry("ShmSize").or_insert(Value::Null);
        if size.as_i64().is_none_or(|bytes| bytes == 0) {
            *size = json!(self.shm_size);
        }
        if !self.default_ulimits.is_empty() {
            add(host, "Ulimits", |list| {
                let missing: Vec<&Value> =
                    self.default_ulimits.values().filter(|l| !list.iter().any(|k| k["Name"] == l["Name"])).collect();
                list.extend(missing.into_iter().cloned());
            });
        }
        if self.no_new_privileges {
            add(host, "SecurityOpt", |list| {
                if !list.iter().any(|option| option.as_str().is_some_and(|o| o.starts_with("no-new-privileges"))) {
                    list.push(json!("no-new-privileges"));
                }
            });
        }
    }
}

/// Adds to a list. What is no list is left for the engine to refuse.
fn add(map: &mut serde_json::Map<String, Value>, key: &str, more: impl FnOnce(&mut Vec<Value>)) {
    let field = map.entry(key).or_insert(Value::Null);
    if field.is_null() {
        *field = json!([]);
    }
    if let Value::Array(list) = field {
        more(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_changes_what_it_may() {
        let old = Config { labels: vec!["a=1".into()], max_concurrent_downloads: 9, ..Config::default() };
        let new = Config { debug: true, mtu: 9000, labels: vec!["b=2".into()], ..Config::default() };
        let keys = ["debug".to_owned(), "mtu".to_owned()];
        let next = changed(&old, new, &keys);
        // Labels are not in the file any more, the number of downloads falls back to its default.
        assert_eq!((next.debug, next.mtu, next.max_concurrent_downloads), (true, 1500, 3));
        assert_eq!(next.labels, ["a=1"]);
        let attributes = next.attributes();
        assert_eq!((attributes["labels"].as_str(), attributes["features"].as_str()), (r#"["a=1"]"#, "map[]"));
    }

    #[test]
    fn containers_get_the_daemons_defaults() {
        let config = Config {
            default_ipc_mode: "shareable".into(),
            default_ulimits: [("nofile".to_owned(), json!({"Name": "nofile", "Soft": 1, "Hard": 2}))].into(),
            no_new_privileges: true,
            ..Config::default()
        };
        let mut wish = json!({"Image": "x"});
        config.fill(&mut wish);
        let host = &wish["HostConfig"];
        assert_eq!((&host["IpcMode"], &host["ShmSize"]), (&json!("shareable"), &json!(64 << 20)));
        assert_eq!((&host["Ulimits"][0]["Soft"], &host["SecurityOpt"][0]), (&json!(1), &json!("no-new-privileges")));
        let mut wish = json!({"Runtime": "runc"});
        config.fill(&mut wish);
        assert_eq!(wish["HostConfig"]["Runtime"], "runc");
        let own = json!({"HostConfig": {
            "IpcMode": "none", "ShmSize": 1, "SecurityOpt": ["no-new-privileges=false"],
            "Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 5}],
        }});
        let mut wish = own.clone();
        config.fill(&mut wish);
        assert_eq!(wish["HostConfig"]["Ulimits"], own["HostConfig"]["Ulimits"]);
        assert_eq!((&wish["HostConfig"]["IpcMode"], &wish["HostConfig"]["ShmSize"]), (&json!("none"), &json!(1)));
        assert_eq!(wish["HostConfig"]["SecurityOpt"], own["HostConfig"]["SecurityOpt"]);
    }
}
