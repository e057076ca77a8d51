//! `daemon.json`.

use std::collections::BTreeSet;
use std::io;

use crate::args::Problem;
use crate::config::{Config, Refusal, Value};

/// Where the file is when nobody says otherwise.
const DEFAULT: &str = "/etc/budu/daemon.json";

/// Reads the file and takes its settings in. A missing file is fine unless it
/// was named. A key that is `given` as flag too is refused: nobody could tell
/// which one was meant.
pub(crate) fn merge(config: &mut Config, path: Option<&str>, given: &BTreeSet<String>) -> Result<(), Problem> {
    let named = path.is_some();
    let path = path.unwrap_or(DEFAULT);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !named => return Ok(()),
        Err(e) => return Err(Problem { message: format!("unable to configure the daemon with file {path}: {e}") }),
    };
    apply(config, &text, given)
        .map_err(|why| Problem { message: format!("unable to configure the daemon with file {path}: {why}") })
}

fn apply(config: &mut Config, text: &str, given: &BTreeSet<String>) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|e| format!("invalid JSON: {e}"))?;
    let both: Vec<&str> = map.keys().filter(|k| given.contains(*k)).map(String::as_str).collect();
    if !both.is_empty() {
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            both.join(", ")
        ));
    }
    let mut unknown = Vec::new();
    for (key, value) in map {
        match config.set(&key, &Value::Json(value.clone())) {
            Ok(()) => {}
            Err(Refusal::Unknown) => unknown.push(key),
            Err(Refusal::Value(want)) => return Err(format!("invalid value {value} of {key}: {want}")),
        }
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(format!("the following directives don't match any configuration option: {}", unknown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, given: &[&str]) -> Result<Config, String> {
        let mut config = Config::default();
        let given = given.iter().map(|k| (*k).to_owned()).collect();
        apply(&mut config, text, &given).map(|()| config)
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
            "the following directives are specified both as a flag and in the configuration file: debug"
        );
        assert!(read(r#"{"debug":"maybe"}"#, &[]).unwrap_err().contains("of debug: want true or false"));
        assert!(read("{", &[]).unwrap_err().starts_with("invalid JSON"));
    }
}
