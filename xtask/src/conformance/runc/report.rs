//! What the results come to.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::conformance::verdict::{self, Results};

/// Failures that we accept, with reasons.
const EXCEPTIONS: &str = "docs/conformance/runc-exceptions.toml";

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

/// Prints what runc passes and the runtime does not; an error when that is not excepted.
pub(super) fn judge(who: &str, expected: &Results, found: &Results) -> Result<()> {
    let short = |(name, (result, why)): (&String, &(String, String))| (name.clone(), (result.clone(), gist(why)));
    verdict::judge(["runc", who], expected, &found.iter().map(short).collect(), EXCEPTIONS)
}

/// The place in the suite, what failed there, and what was printed last.
fn gist(why: &str) -> String {
    let mut lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.retain(|line| !line.starts_with("--- teardown"));
    let mut gist: Vec<&str> = lines.iter().take(2).copied().collect();
    gist.extend(lines.iter().skip(2).rev().find(|line| line.contains("level=error")));
    gist.join(" ")
}
