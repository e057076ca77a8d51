//! What an engine has on the machine at one moment, so that two moments can be compared.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::Cage;

/// Everything countable that belongs to one cage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Mount points.
    pub mounts: BTreeSet<String>,
    /// Network links: name, or kind where names are random, and which one of those with the same.
    pub links: BTreeSet<String>,
    /// Cgroup directories of containers.
    pub cgroups: BTreeSet<String>,
    /// Processes: command line, and which one of those with the same.
    pub processes: BTreeSet<String>,
    /// Lines of the firewall's rule set that mention a port of the tests (20000 to 29999).
    pub firewall: BTreeSet<String>,
    /// Files and directories below the daemon's directories that carry a container's id in their path.
    pub files: BTreeSet<String>,
}

impl Census {
    /// Counts. `containers` are ids whose traces in `dirs` are of interest.
    pub fn take(cage: &Cage, dirs: &[&Path], containers: &[String]) -> Result<Census> {
        let links = cage.run("ip", &["-o", "link"])?;
        let links = links.lines().filter_map(|line| line.split(": ").nth(1)).map(link);
        let rules = cage.run("nft", &["-s", "list", "ruleset"])?;
        let mut files = BTreeSet::new();
        for dir in dirs {
            trace(dir, containers, &mut files);
        }
        Ok(Census {
            mounts: cage.mount_points().into_iter().collect(),
            links: numbered(links),
            cgroups: cage.cgroups().iter().filter_map(|path| group(path)).collect(),
            processes: processes(cage),
            firewall: rules.lines().filter(|line| mentions_port(line)).map(str::to_owned).collect(),
            files,
        })
    }

    /// What is here and was not there `before`, as text; empty when nothing is.
    pub fn beyond(&self, before: &Census) -> String {
        let mut text = String::new();
        let parts = [
            ("mount", &self.mounts, &before.mounts),
            ("link", &self.links, &before.links),
            ("cgroup", &self.cgroups, &before.cgroups),
            ("process", &self.processes, &before.processes),
            ("firewall", &self.firewall, &before.firewall),
            ("file", &self.files, &before.files),
        ];
        for (what, now, then) in parts {
            for item in now.difference(then) {
                text.push_str(&format!("  {what} {item}\n"));
            }
        }
        text
    }
}

/// A cgroup by its path, unless it is only the parent that an engine keeps for its containers.
fn group(path: &Path) -> Option<String> {
    let text = path.display().to_string();
    let (_, inside) = text.split_once("/cage-")?;
    if inside.split('/').count() > 2 { Some(text) } else { None }
}

fn processes(cage: &Cage) -> BTreeSet<String> {
    let lines = cage.processes().into_iter().map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()
    });
    // A zombie has no command line; it waits for its parent's attention and holds nothing.
    numbered(lines.filter(|line| !line.is_empty()))
}

/// Several of the same become `name #1`, `name #2`, …, so that a set of them can be compared.
fn numbered(names: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut count = std::collections::BTreeMap::<String, u32>::new();
    let number = |name: String| {
        let number = count.entry(name.clone()).or_default();
        *number += 1;
        format!("{name} #{number}")
    };
    names.map(number).collect()
}

fn link(shown: &str) -> String {
    let name = shown.split('@').next().unwrap_or(shown);
    if name.starts_with("veth") { "veth".to_owned() } else { name.to_owned() }
}

fn mentions_port(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() == 5 && number.starts_with('2'))
}

fn trace(dir: &Path, containers: &[String], files: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if containers.iter().any(|id| name.contains(id.as_str())) {
            files.insert(path.display().to_string());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("overlay2") {
            trace(&path, containers, files);
        }
    }
}
