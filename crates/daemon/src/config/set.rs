//! One setting at a time, from a flag or from the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use budu_spec::docker::ApiVersion;
use ipnet::Ipv4Net;
use serde_json::{Value as Json, json};

use super::{Config, keys};

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody knows the key.
    Unknown,
    /// The value is wrong; says what would be right.
    Value(String),
}

/// One value, from a flag or from the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Text, as flags are.
    Text(String),
    /// JSON, as the file's values are.
    Json(Json),
}

fn want<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal::Value(format!("want {what}")))
}

impl Value {
    fn text(&self) -> Result<String, Refusal> {
        match self {
            Value::Text(text) | Value::Json(Json::String(text)) => Ok(text.clone()),
            Value::Json(Json::Number(n)) => Ok(n.to_string()),
            Value::Json(Json::Null) => Ok(String::new()),
            Value::Json(_) => want("a string"),
        }
    }

    fn path(&self) -> Result<Option<PathBuf>, Refusal> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()).map(PathBuf::from))
    }

    fn flag(&self) -> Result<bool, Refusal> {
        let text = match self {
            Value::Json(Json::Bool(on)) => return Ok(*on),
            other => other.text()?,
        };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            _ => want("true or false"),
        }
    }

    fn number<N: std::str::FromStr>(&self) -> Result<N, Refusal> {
        self.text()?.parse().or_else(|_| want("a number"))
    }

    /// A flag adds one value, the file has the whole list.
    fn list(&self) -> Result<Vec<String>, Refusal> {
        match self {
            Value::Json(Json::Array(list)) => list.iter().map(|v| Value::Json(v.clone()).text()).collect(),
            Value::Json(Json::Null) => Ok(Vec::new()),
            other => Ok(vec![other.text()?]),
        }
    }

    /// A flag adds `KEY=VALUE`, the file has the whole map.
    fn map(&self) -> Result<BTreeMap<String, Json>, Refusal> {
        match self {
            Value::Json(Json::Object(map)) => Ok(map.clone().into_iter().collect()),
            Value::Json(Json::Null) => Ok(BTreeMap::new()),
            Value::Json(_) => want("an object"),
            Value::Text(text) => match text.split_once('=') {
                Some((key, value)) => Ok([(key.to_owned(), json!(value))].into()),
                None => want("KEY=VALUE"),
            },
        }
    }

    fn strings(&self) -> Result<BTreeMap<String, String>, Refusal> {
        self.map()?.into_iter().map(|(key, value)| Ok((key, Value::Json(value).text()?))).collect()
    }

    /// Whether it says nothing, or what happens anyway.
    fn is_one_of(&self, fine: &[&str]) -> bool {
        match self {
            Value::Text(text) | Value::Json(Json::String(text)) => fine.contains(&text.as_str()),
            Value::Json(Json::Null) => true,
            Value::Json(Json::Array(list)) => list.is_empty(),
            Value::Json(Json::Object(map)) => map.is_empty(),
            Value::Json(other) => fine.contains(&other.to_string().as_str()),
        }
    }
}

impl Config {
    /// Takes one setting in, by its name in `daemon.json`. Flags arrive by
    /// the same names.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<(), Refusal> {
        match key {
            "hosts" => self.hosts.extend(value.list()?),
            "data-root" | "graph" => self.data_root = value.text()?.into(),
            "exec-root" => self.exec_root = value.text()?.into(),
            "debug" => self.debug = value.flag()?,
            "log-level" => self.log_level = level(&value.text()?)?,
            "log-format" => self.log_format = one_of(value, &["text"])?,
            "pidfile" => self.pidfile = value.path()?,
            "group" => self.group = value.text()?,
            "live-restore" => self.live_restore = value.flag()?,
            "shutdown-timeout" => self.shutdown_timeout = value.number()?,
            "labels" => self.labels.extend(labels(value)?),
            "experimental" => self.experimental = value.flag()?,
            "min-api-version" => self.min_api_version = oldest(&value.text()?)?,
            "metrics-addr" => self.metrics_addr = Some(value.text()?).filter(|text| !text.is_empty()),
            "authorization-plugins" => self.authorization_plugins.extend(value.list()?),
            "features" => self.features.extend(features(value)?),
            _ => return self.set_listener(key, value),
        }
        Ok(())
    }

    fn set_listener(&mut self, key: &str, value: &Value) -> Result<(), Refusal> {
        if keys::TOLD.contains(&key) {
            self.ignored.push(key.to_owned());
        }
        match key {
            "tls" => self.tls = value.flag()?,
            "tlsverify" => self.tls_verify = value.flag()?,
            "tlscacert" => self.tls_files.ca = value.path()?,
            "tlscert" => self.tls_files.cert = value.path()?,
            "tlskey" => self.tls_files.key = value.path()?,
            "unauthenticated-tcp" => self.unauthenticated_tcp = value.flag()?,
            "insecure-registries" => self.insecure_registries.extend(value.list()?),
            "registry-mirrors" => self.registry_mirrors.extend(value.list()?),
            "max-concurrent-downloads" => self.max_concurrent_downloads = value.number::<usize>()?.max(1),
            "max-concurrent-uploads" => self.max_concurrent_uploads = value.number::<usize>()?.max(1),
            "max-download-attempts" => self.max_download_attempts = value.number::<u32>()?.max(1),
            "http-proxy" => self.proxies.http = value.text()?,
            "https-proxy" => self.proxies.https = value.text()?,
            "no-proxy" => self.proxies.none = value.text()?,
            _ => return self.set_network(key, value),
        }
        Ok(())
    }

    fn set_network(&mut self, key: &str, value: &Value) -> Result<(), Refusal> {
        match key {
            "bridge" => self.bridge = value.text()?,
            "bip" => self.bip = Some(bip(&value.text()?)?),
            "mtu" => self.mtu = value.number()?,
            "ip-masq" => self.ip_masq = value.flag()?,
            "ip-forward" => self.ip_forward = value.flag()?,
            "default-address-pools" => self.address_pools.extend(pools(value)?),
            "dns" => self.dns.extend(value.list()?),
            "dns-opts" => self.dns_options.extend(value.list()?),
            "dns-search" => self.dns_search.extend(value.list()?),
            _ => return self.set_container(key, value),
        }
        Ok(())
    }

    /// Defaults of containers.
    fn set_container(&mut self, key: &str, value: &Value) -> Result<(), Refusal> {
        match key {
            "init" => self.init = value.flag()?,
            "default-shm-size" => self.shm_size = size(&value.text()?)?,
            "cdi-spec-dirs" => self.cdi_spec_dirs.extend(value.list()?.into_iter().map(PathBuf::from)),
            "log-driver" => self.log_driver = value.text()?,
            "log-opts" => self.log_opts.extend(value.strings()?),
            "cgroup-parent" => self.cgroup_parent = parent(&value.text()?)?,
            "runtimes" => self.runtimes.extend(runtimes(value)?),
            "default-runtime" => self.default_runtime = value.text()?,
            "default-ipc-mode" => self.default_ipc_mode = one_of(value, &["private", "shareable"])?,
            "default-cgroupns-mode" => self.default_cgroupns_mode = one_of(value, &["private", "host"])?,
            "default-ulimits" => self.default_ulimits.extend(ulimits(value)?),
            "no-new-privileges" => self.no_new_privileges = value.flag()?,
            key if keys::IGNORED.contains(&key) => self.ignored.push(key.to_owned()),
            key => return refused(key, value),
        }
        Ok(())
    }
}

fn refused(key: &str, value: &Value) -> Result<(), Refusal> {
    match keys::REFUSED.iter().find(|(known, _)| *known == key) {
        None => Err(Refusal::Unknown),
        Some((_, fine)) if value.is_one_of(fine) => Ok(()),
        Some(_) => Err(Refusal::Value("this setting is not implemented".to_owned())),
    }
}

fn one_of(value: &Value, choice: &[&str]) -> Result<String, Refusal> {
    let text = value.text()?;
    match choice.contains(&text.as_str()) {
        true => Ok(text),
        false => want(&choice.join(" or ")),
    }
}

fn bip(text: &str) -> Result<Ipv4Net, Refusal> {
    text.parse().or_else(|_| want("an address with prefix, such as 10.9.0.1/24"))
}

/// The file has a list of objects, a flag one as `base=…,size=…`.
fn pools(value: &Value) -> Result<Vec<(Ipv4Net, u8)>, Refusal> {
    let want = || Refusal::Value("want IPv4 ranges such as base=10.10.0.0/16,size=24".to_owned());
    let pool = |base: &str, size: u64| {
        let base: Ipv4Net = base.parse().map_err(|_| want())?;
        let size = u8::try_from(size).map_err(|_| want())?;
        let good = base == base.trunc() && (base.prefix_len()..=30).contains(&size);
        if good { Ok((base, size)) } else { Err(want()) }
    };
    match value {
        Value::Text(text) => {
            let field = |name: &str| text.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            let (base, size) = (field("base").ok_or_else(want)?, field("size").ok_or_else(want)?);
            Ok(vec![pool(base, size.parse().map_err(|_| want())?)?])
        }
        Value::Json(Json::Array(list)) => list
            .iter()
            .map(|entry| {
                let (base, size) = (entry["base"].as_str(), entry["size"].as_u64());
                pool(base.ok_or_else(want)?, size.ok_or_else(want)?)
            })
            .collect(),
        Value::Json(_) => Err(want()),
    }
}

fn level(text: &str) -> Result<String, Refusal> {
    match text {
        "trace" | "debug" | "info" | "warn" | "error" | "fatal" => Ok(text.to_owned()),
        _ => want("debug, info, warn, error or fatal"),
    }
}

fn size(text: &str) -> Result<i64, Refusal> {
    budu_spec::units::parse_bytes(text).map_err(|e| Refusal::Value(e.to_string()))
}

fn parent(text: &str) -> Result<String, Refusal> {
    let plain = text.trim_matches('/');
    let good = !plain.is_empty() && plain.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if good { Ok(plain.to_owned()) } else { want("a path such as budu or a/b") }
}

fn labels(value: &Value) -> Result<Vec<String>, Refusal> {
    let labels = value.list()?;
    match labels.iter().find(|label| !label.contains('=')) {
        Some(label) => Err(Refusal::Value(format!("bad attribute format: {label}"))),
        None => Ok(labels),
    }
}

fn oldest(text: &str) -> Result<ApiVersion, Refusal> {
    let version: ApiVersion = text.parse().or_else(|_| want("a version such as 1.40"))?;
    match version {
        v if v < ApiVersion::MIN => {
            Err(Refusal::Value(format!("minimum supported API version is {}: {text}", ApiVersion::MIN)))
        }
        v if v > ApiVersion::MAX => {
            Err(Refusal::Value(format!("maximum supported API version is {}: {text}", ApiVersion::MAX)))
        }
        v => Ok(v),
    }
}

/// `--feature NAME` switches on.
fn features(value: &Value) -> Result<BTreeMap<String, bool>, Refusal> {
    if let Value::Text(text) = value
        && !text.contains('=')
    {
        return Ok([(text.clone(), true)].into());
    }
    value.map()?.into_iter().map(|(key, on)| Ok((key, Value::Json(on).flag()?))).collect()
}

/// `--add-runtime NAME=PATH`.
fn runtimes(value: &Value) -> Result<BTreeMap<String, Json>, Refusal> {
    let map = value.map()?;
    let described = |(name, what): (String, Json)| match what {
        Json::String(path) => Ok((name, json!({"path": path}))),
        Json::Object(_) => Ok((name, what)),
        _ => want("an object with path or runtimeType"),
    };
    map.into_iter().map(described).collect()
}

/// `--default-ulimit NAME=SOFT[:HARD]`.
fn ulimits(value: &Value) -> Result<BTreeMap<String, Json>, Refusal> {
    let map = value.map()?;
    let described = |(name, what): (String, Json)| {
        let (soft, hard) = match &what {
            Json::String(text) => {
                let (soft, hard) = text.split_once(':').unwrap_or((text, text));
                (soft.parse().ok(), hard.parse().ok())
            }
            what => (what["Soft"].as_i64(), what["Hard"].as_i64()),
        };
        match (soft, hard) {
            (Some(soft), Some(hard)) => Ok((name.clone(), json!({"Name": name, "Soft": soft, "Hard": hard}))),
            _ => want("NAME=SOFT[:HARD]"),
        }
    };
    map.into_iter().map(described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: Json) -> Result<Config, Refusal> {
        let mut config = Config::default();
        config.set(key, &Value::Json(value)).map(|()| config)
    }

    #[test]
    fn what_is_not_built_is_refused_unless_it_asks_for_nothing() {
        for (key, fine, other) in [
            ("icc", json!(true), json!(false)),
            ("userns-remap", json!(""), json!("default")),
            ("selinux-enabled", json!(false), json!(true)),
        ] {
            assert!(set(key, fine).is_ok(), "{key}");
            assert_eq!(set(key, other).unwrap_err(), Refusal::Value("this setting is not implemented".into()), "{key}");
        }
    }

    #[test]
    fn maps_from_files_and_flags() {
        let config = set("default-ulimits", json!({"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}})).unwrap();
        let mut flags = Config::default();
        flags.set("default-ulimits", &Value::Text("nofile=1:2".into())).unwrap();
        assert_eq!(config.default_ulimits, flags.default_ulimits);
        assert!(set("features", json!({"buildkit": true})).unwrap().features["buildkit"]);
        assert_eq!(set("runtimes", json!({"x": {"path": "/x"}})).unwrap().runtimes["x"]["path"], "/x");
        assert_eq!(set("labels", json!(["x"])).unwrap_err(), Refusal::Value("bad attribute format: x".into()));
        assert!(set("min-api-version", json!("1.20")).is_err());
    }

    #[test]
    fn every_key_is_known_once() {
        let lists = keys::IGNORED.iter().chain(keys::REFUSED.iter().map(|(key, _)| key));
        let mut seen: Vec<&str> = lists.copied().collect();
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
