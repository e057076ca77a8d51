//! Rules for single files: sizes, names, unsafe code, doc pages, paths of somebody's machine.

use super::Source;

/// Longest product file, without its unit tests, in lines.
const FILE: usize = 500;
/// Longest function of the product, in lines.
const FUNCTION: usize = 60;
/// Files that are tables: one long list is easier to read than several short ones.
const TABLES: [&str; 1] = ["crates/sys/src/seccomp/tables/generated.rs"];
/// Names that say nothing about what a module holds.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "common", "helper", "helpers", "misc", "manager", "inner", "stuff"];

/// Complaints about one file.
pub(super) fn check(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    complaints.extend(machine_path(source));
    if source.path.ends_with(".rs") {
        complaints.extend(empty_name(source));
        complaints.extend(doc_page(source));
        complaints.extend(unsafe_code(source));
        if !is_test(&source.path) && !TABLES.contains(&source.path.as_str()) {
            complaints.extend(sizes(source));
        }
    }
    complaints
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn empty_name(source: &Source) -> Option<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let bad = parts.clone().find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("{}: {bad} says nothing about what is in it", source.path))
}

fn doc_page(source: &Source) -> Option<String> {
    let door = source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs");
    if door && !source.text.starts_with("//! ") {
        return Some(format!("{}: opens without saying what it is (//! …)", source.path));
    }
    None
}

fn unsafe_code(source: &Source) -> Option<String> {
    let home = ["crates/sys/", "crates/testkit/"].iter().any(|dir| source.path.starts_with(dir));
    let door = source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs");
    if door && !home && !source.text.contains("#![forbid(unsafe_code)]") {
        return Some(format!("{}: does not forbid unsafe code", source.path));
    }
    None
}

/// Directories that exist only where somebody wrote this.
fn machine_path(source: &Source) -> Option<String> {
    let homes = [["/ho", "me/"].concat(), ["/Us", "ers/"].concat()];
    // Put together here so that this file does not trip over itself.
    let names = ["main", "shared", "contract", "target", "peers"];
    let places = names.map(|name| ["/wo", "rk/", name].concat());
    let told = |line: &str| homes.iter().chain(&places).any(|path| line.contains(path.as_str()));
    let number = source.text.lines().position(told)?;
    Some(format!("{}:{}: a path of somebody's machine", source.path, number + 1))
}

fn sizes(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").collect();
    let mut complaints = Vec::new();
    if lines.len() > FILE {
        complaints.push(format!("{}: {} lines (at most {FILE})", source.path, lines.len()));
    }
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let length = function_length(&lines[start..]);
        if length > FUNCTION {
            let path = &source.path;
            complaints.push(format!("{path}:{}: fn {name} has {length} lines (at most {FUNCTION})", start + 1));
        }
    }
    complaints
}

/// The name of the function that begins in `line`.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(name) = rest.strip_prefix("fn ") {
            return name.split(|c: char| !c.is_alphanumeric() && c != '_').next();
        }
        let known = ["pub ", "pub(crate) ", "pub(super) ", "async ", "unsafe ", "const ", "extern \"C\" "];
        rest = known.iter().find_map(|word| rest.strip_prefix(word))?;
    }
}

/// Lines from the first to the closing brace at the same depth; the tree is formatted, so that is what ends it.
fn function_length(lines: &[&str]) -> usize {
    let indent = lines[0].len() - lines[0].trim_start().len();
    if lines[0].trim_end().ends_with(['}', ';']) {
        return 1;
    }
    let ends = |line: &&str| {
        let body = line.trim_start();
        line.len() - body.len() == indent && (body.starts_with('}') || body.ends_with(';'))
    };
    lines.iter().skip(1).position(ends).map_or(1, |at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn function(lines: usize) -> String {
        format!("pub(crate) async fn long(\n) {{\n{}}}\n", "    x();\n".repeat(lines - 3))
    }

    #[test]
    fn long_functions_are_named() {
        assert!(sizes(&source("a.rs", &function(60))).is_empty());
        let found = sizes(&source("a.rs", &function(61)));
        assert_eq!(found, ["a.rs:1: fn long has 61 lines (at most 60)"]);
    }

    #[test]
    fn unit_tests_do_not_count_as_product() {
        let text = format!("{}#[cfg(test)]\n{}", function(20), "// x\n".repeat(600));
        assert!(sizes(&source("a.rs", &text)).is_empty());
        let found = sizes(&source("a.rs", &"// x\n".repeat(501)));
        assert_eq!(found, ["a.rs: 501 lines (at most 500)"]);
    }

    #[test]
    fn declarations_and_short_forms_have_one_line() {
        assert_eq!(function_length(&["fn a(&self);", "fn b() {", "}"]), 1);
        assert_eq!(function_length(&["fn a() {}", "fn b() {", "}"]), 1);
        assert_eq!(function_name("    pub const unsafe fn name<T>(x: T) {"), Some("name"));
        assert_eq!(function_name("    let f = fnord();"), None);
    }

    #[test]
    fn doors_open_with_a_page_and_forbid_unsafe_code() {
        let good = "//! What it is.\n#![forbid(unsafe_code)]\n";
        assert!(check(&source("crates/image/src/lib.rs", good)).is_empty());
        assert!(check(&source("crates/sys/src/lib.rs", "//! The kernel.\n")).is_empty());
        assert_eq!(check(&source("crates/image/src/lib.rs", "mod a;\n")).len(), 2);
    }

    #[test]
    fn names_must_say_something() {
        assert_eq!(check(&source("crates/image/src/utils.rs", "")).len(), 1);
        assert_eq!(check(&source("crates/image/src/helpers/mod.rs", "")).len(), 1);
        assert!(check(&source("crates/image/src/layer.rs", "")).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let path = ["/ho", "me/me/x"].concat();
        let found = check(&source("README.md", &format!("fine\nsee {path}\n")));
        assert_eq!(found, ["README.md:2: a path of somebody's machine"]);
    }
}
