//! `cargo xtask tidy`: the rules of the source tree that a compiler does not know. STYLE.md gives their reasons.

mod arrows;
mod shape;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::top;

/// One file of the tree: its path from the top, and its text.
#[derive(Debug, Clone)]
struct Source {
    path: String,
    text: String,
}

/// Checks everything; fails with the list of what is wrong.
pub(crate) fn command() -> Result<()> {
    let complaints = complaints()?;
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("{} rules broken\n  {}", complaints.len(), complaints.join("\n  "))
}

fn complaints() -> Result<Vec<String>> {
    let sources = sources(&top())?;
    let mut all = arrows::check(&metadata()?);
    for source in &sources {
        all.extend(shape::check(source));
    }
    Ok(all)
}

/// What cargo says of the workspace's packages.
fn metadata() -> Result<serde_json::Value> {
    let manifest = top().join("Cargo.toml").display().to_string();
    let args = ["metadata", "--format-version=1", "--no-deps", "--manifest-path", &manifest];
    let output = budu_testkit::program("cargo", args)?;
    Ok(serde_json::from_str(&output.stdout)?)
}

/// All text files that git knows or would add.
fn sources(top: &Path) -> Result<Vec<Source>> {
    let dir = top.display().to_string();
    let args = ["-C", &dir, "ls-files", "--cached", "--others", "--exclude-standard"];
    let listed = budu_testkit::program("git", args).context("the tree is a git checkout")?;
    let mut found = Vec::new();
    for path in listed.stdout.lines() {
        // Listed but deleted, or not text: nothing to check.
        if let Ok(text) = std::fs::read_to_string(top.join(path)) {
            found.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let complaints = super::complaints().expect("the tree can be read");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
