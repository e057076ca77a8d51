//! What the results of a suite come to: those of the program that defines what is right, and ours.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::top;

/// Results by name of test (`file::…`): `ok`, `not ok` or `skipped`, and why.
pub(crate) type Results = BTreeMap<String, (String, String)>;

/// Passed, failed and skipped tests by file, and in all.
pub(crate) fn counts(who: &str, results: &Results) {
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

/// Prints what the first of `who` passes and the second does not; an error when the file `list` does not except it.
pub(crate) fn judge(who: [&str; 2], expected: &Results, found: &Results, list: &str) -> Result<()> {
    let [reference, ours] = who;
    let exceptions = exceptions(&std::fs::read_to_string(top().join(list)).unwrap_or_default(), list)?;
    let excepted =
        |name: &str| exceptions.iter().find(|(pattern, _)| means(pattern, name)).map(|(_, why)| why.as_str());
    let missing = missing(expected, found);
    let bad: Vec<&String> = missing.iter().filter(|name| excepted(name).is_none()).collect();
    for name in missing.iter().filter(|name| excepted(name).is_some()) {
        println!("excepted: {name}: {}", excepted(name).unwrap_or_default());
    }
    for pattern in exceptions.keys() {
        let asked = expected.keys().any(|name| means(pattern, name));
        if asked && !missing.iter().any(|name| means(pattern, name)) {
            println!("no longer needed in {list}: {pattern}");
        }
    }
    for (name, _) in found.iter().filter(|(_, (result, _))| result == "ok") {
        if expected.get(name).is_some_and(|(result, _)| result == "not ok") {
            println!("passes what {reference} does not: {name}");
        }
    }
    for name in &bad {
        println!("FAILED {name}: {}", found.get(*name).map_or("no result", |(_, why)| why.as_str()));
    }
    let passed = |results: &Results| results.values().filter(|(result, _)| result == "ok").count();
    println!("{reference}: {} passed; {ours}: {} passed", passed(expected), passed(found));
    match bad.len() {
        0 => Ok(()),
        count => bail!("{ours} fails {count} tests that {reference} passes"),
    }
}

/// Tests that are expected to pass and did not.
pub(crate) fn missing(expected: &Results, found: &Results) -> Vec<String> {
    let passes = |results: &Results, name: &String| results.get(name).is_some_and(|(result, _)| result == "ok");
    expected.keys().filter(|name| passes(expected, name) && !passes(found, name)).cloned().collect()
}

/// Whether `pattern`, which may end with `*`, names `name`.
pub(crate) fn means(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// Lines `"name" = "reason"` of the file `list`, the part of TOML that is needed.
pub(crate) fn exceptions(text: &str, list: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let entry = line.split_once("\" = \"").map(|(name, reason)| (name.trim_matches('"'), reason.trim_matches('"')));
        let (name, reason) = entry.with_context(|| format!("{list}: {line}"))?;
        found.insert(name.replace("\\\"", "\""), reason.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_the_rest() {
        assert!(means("build_test::*", "build_test::A::one") && !means("build_test::A", "build_test::A::one"));
    }

    #[test]
    fn only_what_the_reference_passes_is_asked_for() {
        let results = |list: &[(&str, &str)]| -> Results {
            list.iter().map(|(name, result)| ((*name).to_owned(), ((*result).to_owned(), String::new()))).collect()
        };
        let expected = results(&[("a::1", "ok"), ("a::2", "not ok"), ("a::3", "skipped"), ("a::4", "ok")]);
        let found = results(&[("a::1", "ok"), ("a::2", "not ok"), ("a::3", "not ok"), ("a::4", "skipped")]);
        assert_eq!(missing(&expected, &found), ["a::4"]);
    }

    #[test]
    fn exceptions_are_read() {
        let text = "# why\n\n\"a::b [x= y]\" = \"because\"\n\"{\\\"a\\\":1} x\" = \"quoted\"\n";
        let found = exceptions(text, "list").unwrap_or_default();
        assert_eq!(found.get("{\"a\":1} x").map(String::as_str), Some("quoted"));
        assert_eq!(found.get("a::b [x= y]").map(String::as_str), Some("because"));
        assert!(exceptions("nonsense", "list").is_err());
    }
}
