//! The environment a program gets, from what the configuration says.

use std::collections::HashSet;
use std::path::Path;

use super::{Failing, invalid};

/// What PATH means when the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Checks `KEY=value` pairs, keeps the last of those with one key, and sees to
/// it that there is a HOME.
pub(super) fn prepare(wanted: &[String], home: &str) -> Failing<Vec<String>> {
    let wrong = |why: &str| invalid(format!("invalid environment variable: {why}"));
    let mut seen = HashSet::new();
    let mut env = Vec::with_capacity(wanted.len() + 1);
    for pair in wanted.iter().rev() {
        let (key, value) = pair.split_once('=').ok_or_else(|| wrong("missing '='"))?;
        if key.is_empty() {
            return Err(wrong("name cannot be empty"));
        }
        if pair.contains('\0') {
            return Err(invalid(format!("invalid environment variable {key:?}: contains nul byte (\\x00)")));
        }
        if seen.insert(key) && !(key == "HOME" && value.is_empty()) {
            env.push(pair.clone());
        }
    }
    env.reverse();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    Ok(env)
}

/// The directories commands are looked for in.
pub(super) fn search_path(env: &[String]) -> impl Iterator<Item = &Path> {
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|directory| Path::new(if directory.is_empty() { "." } else { directory }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(pairs: &[&str]) -> Result<Vec<String>, String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        prepare(&pairs, "/home").map_err(|failure| failure.message)
    }

    #[test]
    fn the_last_of_a_name_counts_and_home_is_there() {
        assert_eq!(prepared(&["A=1", "B=", "A=2"]).unwrap(), ["B=", "A=2", "HOME=/home"]);
        assert_eq!(prepared(&["HOME=/x", "C=="]).unwrap(), ["HOME=/x", "C=="]);
        assert_eq!(prepared(&["HOME=/x", "HOME="]).unwrap(), ["HOME=/home"]);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        assert_eq!(prepared(&["A"]).unwrap_err(), "invalid environment variable: missing '='");
        assert_eq!(prepared(&["*"]).unwrap_err(), "invalid environment variable: missing '='");
        assert_eq!(prepared(&["=x"]).unwrap_err(), "invalid environment variable: name cannot be empty");
        let nul = prepared(&["A=x\0B=y"]).unwrap_err();
        assert_eq!(nul, "invalid environment variable \"A\": contains nul byte (\\x00)");
    }

    #[test]
    fn where_commands_are_looked_for() {
        let path = |env: &[&str]| {
            let env: Vec<String> = env.iter().map(|pair| (*pair).to_owned()).collect();
            search_path(&env).map(|dir| dir.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(path(&["PATH=/a::/b"]), ["/a", ".", "/b"]);
        assert_eq!(path(&["A=b"]).last().map(String::as_str), Some("/bin"));
    }
}
