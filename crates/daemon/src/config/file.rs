//! `daemon.json`.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value as Json;

use super::Config;
use super::args::Problem;
use super::set::{Refusal, Value};

/// Where the file is when nobody says otherwise.
const DEFAULT: &str = "/etc/budu/daemon.json";

/// Flags that were given, by their keys in the file, with their values.
pub(super) type Given = BTreeMap<String, Vec<String>>;

/// Reads the file and takes its settings in. A missing file is fine unless it
/// was named. A key that is `given` as flag too is refused: nobody could tell
/// which one was meant. Returns the keys that the file has.
pub(super) fn merge(config: &mut Config, path: Option<&str>, given: &Given) -> Result<Vec<String>, Problem> {
    let named = path.is_some();
    let path = path.unwrap_or(DEFAULT);
    let failed =
        |why: String| Problem { message: format!("unable to configure the Docker daemon with file {path}: {why}") };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !named => return Ok(Vec::new()),
        Err(e) => return Err(failed(e.to_string())),
    };
    apply(config, &text, given).map_err(failed)
}

fn apply(config: &mut Config, text: &str, given: &Given) -> Result<Vec<String>, String> {
    // Editors on Windows mark the encoding.
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let map: serde_json::Map<String, Json> = serde_json::from_str(text).map_err(|e| format!("invalid JSON: {e}"))?;
    let map = flatten(map);
    let mut unknown = Vec::new();
    let mut problem = None;
    for (key, value) in &map {
        match config.set(key, &Value::Json(value.clone())) {
            Ok(()) => {}
            Err(Refusal::Unknown) => unknown.push(key.as_str()),
            Err(Refusal::Value(want)) => {
                problem.get_or_insert(format!("invalid value {value} of {key}: {want}"));
            }
        }
    }
    if !unknown.is_empty() {
        return Err(format!("the following directives don't match any configuration option: {}", unknown.join(", ")));
    }
    let both: Vec<String> = map.iter().filter_map(|(key, value)| conflict(key, value, given)).collect();
    if !both.is_empty() {
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            both.join(", ")
        ));
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(map.keys().cloned().collect()),
    }
}

/// `proxies` is an object around settings that are flags of their own.
fn flatten(map: serde_json::Map<String, Json>) -> serde_json::Map<String, Json> {
    let mut flat = serde_json::Map::new();
    for (key, value) in map {
        match value {
            Json::Object(inner) if key == "proxies" => flat.extend(inner),
            value => {
                flat.insert(key, value);
            }
        }
    }
    flat
}

/// Runtimes of both places add up; anything else can be said in one place only.
fn conflict(key: &str, value: &Json, given: &Given) -> Option<String> {
    let flags = given.get(key).filter(|_| key != "runtimes")?;
    let list = keys_are_lists(key);
    let flag = if list { format!("[{}]", flags.join(" ")) } else { flags.last().cloned().unwrap_or_default() };
    let (flag, file) = match key {
        "http-proxy" | "https-proxy" => (masked(&flag), masked(&print(value))),
        _ => (flag, print(value)),
    };
    Some(format!("{key}: (from flag: {flag}, from file: {file})"))
}

fn keys_are_lists(key: &str) -> bool {
    super::keys::PLURALS.iter().any(|(_, plural)| *plural == key) || matches!(key, "dns" | "dns-search")
}

/// A proxy without its password.
pub(crate) fn masked(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        _ => url.to_owned(),
    }
}

/// Prints a value as Docker's messages do.
fn print(value: &Json) -> String {
    match value {
        Json::Null => "<nil>".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(list) => format!("[{}]", list.iter().map(print).collect::<Vec<_>>().join(" ")),
        Json::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", print(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, given: &[&str]) -> Result<Config, String> {
        let mut config = Config::default();
        let given = given.iter().map(|k| ((*k).to_owned(), vec!["true".to_owned()])).collect();
        apply(&mut config, text, &given).map(|_| config)
    }

    #[test]
    fn settings() {
        let config = read(
            r#"{"hosts":["unix:///x"],"debug":true,"bip":"10.1.0.1/16","shutdown-timeout":3,"live-restore":true}"#,
            &[],
        )
        .unwrap();
        assert_eq!(
            (config.hosts.as_slice(), config.debug, config.shutdown_timeout),
            (&["unix:///x".to_owned()][..], true, 3)
        );
        assert_eq!(read("", &[]).unwrap(), Config::default());
    }

    #[test]
    fn unknown_and_double_keys_are_refused() {
        assert_eq!(
            read(r#"{"debgu":true}"#, &[]).unwrap_err(),
            "the following directives don't match any configuration option: debgu"
        );
        assert_eq!(
            read(r#"{"debug":true}"#, &["debug"]).unwrap_err(),
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)"
        );
        assert!(
            read(r#"{"labels":["a=b","c=d"]}"#, &["labels"])
                .unwrap_err()
                .ends_with("labels: (from flag: [true], from file: [a=b c=d])")
        );
        assert!(read(r#"{"runtimes":{"x":{"path":"/x"}}}"#, &["runtimes"]).is_ok());
        let proxies = read(r#"{"proxies":{"http-proxy":"http://u:p@h:1"}}"#, &["http-proxy"]).unwrap_err();
        assert!(proxies.contains("from file: http://xxxxx:xxxxx@h:1"), "{proxies}");
        assert!(read(r#"{"debug":"maybe"}"#, &[]).unwrap_err().contains("of debug: want true or false"));
        assert!(read("{", &[]).unwrap_err().starts_with("invalid JSON"));
    }
}
