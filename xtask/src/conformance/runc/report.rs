//! What the results come to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::bats::Results;
use crate::top;

/// Failures that we accept, with reasons.
const EXCEPTIONS: &str = "docs/conformance/runc-exceptions.toml";

/// Passed, failed and skipped tests by file, and in all.
pub(super) fn counts(who: &str, results: &Results) {
    let file = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    let files: BTreeSet<String> = results.keys().map(|name| file(name)).collect();
    let count = |of: Option<&str>, wanted: &str| {
        let matches = |(name, (result, _)): &(&String, &(String, String))| {
            result == wanted && of.is_none_or(|of| file(name) == of)
        };
        results.iter().filter(matches).count()
    };
    println!("{who:24} {:>8} {:>8} {:>8}", "passed", "failed", "skipped");
    let lines = files.iter().map(|file| (file.as_str(), Some(file.as_str()))).chain([("all", None)]);
    for (title, of) in lines {
        println!("  {title:22} {:>8} {:>8} {:>8}", count(of, "ok"), count(of, "not ok"), count(of, "skipped"));
    }
}

/// Skipped tests by reason, and failed ones.
pub(super) fn remarks(results: &Results) {
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, (result, why)) in results {
        match result.as_str() {
            "skipped" => skipped.entry(why).or_default().push(name),
            "not ok" => println!("fails: {name}: {}", gist(why)),
            _ => {}
        }
    }
    for (why, names) in skipped {
        println!("skipped ({}): {why}: {}", names.len(), names.join("; "));
    }
}

/// Tests that are expected to pass and did not.
pub(super) fn missing(expected: &Results, found: &Results) -> Vec<String> {
    let passes = |results: &Results, name: &String| results.get(name).is_some_and(|(result, _)| result == "ok");
    expected.keys().filter(|name| passes(expected, name) && !passes(found, name)).cloned().collect()
}

/// Prints what runc passes and the runtime does not; an error when that is not excepted.
pub(super) fn judge(who: &str, expected: &Results, found: &Results) -> Result<()> {
    let exceptions = exceptions(&std::fs::read_to_string(top().join(EXCEPTIONS)).unwrap_or_default())?;
    let missing = missing(expected, found);
    for (name, reason) in missing.iter().filter_map(|name| exceptions.get_key_value(name)) {
        println!("excepted: {name}: {reason}");
    }
    for name in exceptions.keys().filter(|name| expected.contains_key(*name) && !missing.contains(name)) {
        println!("no longer needed in {EXCEPTIONS}: {name}");
    }
    for (name, _) in found.iter().filter(|(_, (result, _))| result == "ok") {
        if expected.get(name).is_some_and(|(result, _)| result == "not ok") {
            println!("passes what runc does not: {name}");
        }
    }
    let bad: Vec<&String> = missing.iter().filter(|name| !exceptions.contains_key(*name)).collect();
    for name in &bad {
        println!("FAILED {name}: {}", found.get(*name).map_or("no result".to_owned(), |(_, why)| gist(why)));
    }
    let passed = |results: &Results| results.values().filter(|(result, _)| result == "ok").count();
    println!("runc: {} passed; {who}: {} passed", passed(expected), passed(found));
    match bad.len() {
        0 => Ok(()),
        count => bail!("{who} fails {count} tests that runc passes"),
    }
}

/// The place in the suite, what failed there, and what was printed last.
fn gist(why: &str) -> String {
    let mut lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.retain(|line| !line.starts_with("--- teardown"));
    let mut gist: Vec<&str> = lines.iter().take(2).copied().collect();
    gist.extend(lines.iter().skip(2).rev().find(|line| line.contains("level=error")));
    gist.join(" ")
}

/// The file's lines `"file::test" = "reason"`, the part of TOML that is needed.
fn exceptions(text: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let entry = line.split_once("\" = \"").map(|(name, reason)| (name.trim_matches('"'), reason.trim_matches('"')));
        let (name, reason) = entry.with_context(|| format!("{EXCEPTIONS}: {line}"))?;
        found.insert(name.to_owned(), reason.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_read() {
        let found = exceptions("# why\n\n\"mounts::runc run [mode= inherit]\" = \"because\"\n").unwrap_or_default();
        assert_eq!(found.get("mounts::runc run [mode= inherit]").map(String::as_str), Some("because"));
        assert!(exceptions("nonsense").is_err());
    }

    #[test]
    fn only_what_runc_passes_is_asked_for() {
        let results = |list: &[(&str, &str)]| -> Results {
            list.iter().map(|(name, result)| ((*name).to_owned(), ((*result).to_owned(), String::new()))).collect()
        };
        let expected = results(&[("a::1", "ok"), ("a::2", "not ok"), ("a::3", "skipped"), ("a::4", "ok")]);
        let found = results(&[("a::1", "ok"), ("a::2", "not ok"), ("a::3", "not ok"), ("a::4", "skipped")]);
        assert_eq!(missing(&expected, &found), ["a::4"]);
    }
}
