//! Who may depend on whom: the table of ARCHITECTURE.md against what cargo says.

use serde_json::Value;

/// A crate of ours and those of ours it may depend on.
const ARROWS: [(&str, &[&str]); 14] = [
    ("spec", &[]),
    ("sys", &[]),
    ("dial", &[]),
    ("vm", &["sys"]),
    ("runtime", &["spec", "sys", "vm"]),
    ("image", &["spec", "sys", "dial"]),
    ("network", &["spec", "sys"]),
    ("build", &["spec", "sys", "image", "network", "runtime"]),
    ("engine", &["spec", "sys", "dial", "image", "network", "runtime"]),
    ("swarm", &["spec", "network", "engine"]),
    // `runtime` only for the launcher, which must be started before the daemon has a thread.
    ("daemon", &["spec", "dial", "image", "network", "build", "engine", "swarm", "runtime"]),
    ("cli", &["spec", "dial"]),
    ("testkit", &["spec", "sys"]),
    ("budu", &["cli", "daemon", "runtime"]),
];

/// A library that is large or has its own way of running things, and the only crates of ours that may see it.
const HEAVY: [(&str, &[&str]); 6] = [
    ("tokio", &["dial", "image", "network", "build", "engine", "swarm", "daemon", "cli"]),
    ("hyper", &["image", "engine", "daemon", "cli", "swarm", "build"]),
    ("rustls", &["dial", "swarm"]),
    ("clap", &["cli"]),
    ("redb", &["image", "engine", "network", "swarm"]),
    ("libtest-mimic", &["testkit"]),
];

/// Complaints about the packages in `metadata`.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = short(package["name"].as_str().unwrap_or_default());
        if name == "xtask" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            complaints.push(format!("crate {name} is not in the table of crates"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            complaints.extend(complain(name, allowed, dependency));
        }
    }
    complaints
}

fn complain(name: &str, allowed: &[&str], dependency: &Value) -> Option<String> {
    let full = dependency["name"].as_str().unwrap_or_default();
    let normal = dependency["kind"].is_null();
    if let Some(ours) = full.strip_prefix("budu-") {
        if ours == "testkit" && normal {
            return Some(format!("{name} uses testkit outside its tests"));
        }
        let fine = !normal || allowed.contains(&ours);
        return if fine { None } else { Some(format!("{name} must not depend on {ours}")) };
    }
    let (_, users) = HEAVY.iter().find(|(library, _)| *library == full)?;
    if normal && !users.contains(&name) {
        return Some(format!("{name} must not depend on the library {full}"));
    }
    None
}

fn short(package: &str) -> &str {
    package.strip_prefix("budu-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let list: Vec<Value> = dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"packages": [{"name": name, "dependencies": list}]})
    }

    #[test]
    fn arrows_of_the_table_are_fine() {
        assert!(check(&package("budu-image", &[("budu-spec", None), ("tokio", None)])).is_empty());
        assert!(check(&package("budu", &[("budu-cli", None)])).is_empty());
    }

    #[test]
    fn a_sideways_arrow_is_named() {
        let found = check(&package("budu-image", &[("budu-network", None)]));
        assert_eq!(found, ["image must not depend on network"]);
    }

    #[test]
    fn tests_may_look_anywhere_but_products_not_into_the_testkit() {
        assert!(check(&package("budu-sys", &[("budu-testkit", Some("dev"))])).is_empty());
        let found = check(&package("budu-sys", &[("budu-testkit", None)]));
        assert_eq!(found, ["sys uses testkit outside its tests"]);
    }

    #[test]
    fn heavy_libraries_stay_where_they_are() {
        let found = check(&package("budu-runtime", &[("tokio", None)]));
        assert_eq!(found, ["runtime must not depend on the library tokio"]);
    }

    #[test]
    fn an_unknown_crate_is_named() {
        let found = check(&package("budu-common", &[]));
        assert_eq!(found, ["crate common is not in the table of crates"]);
    }
}
