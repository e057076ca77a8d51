//! `cargo xtask differential`: the same requests to dockerd and to Budu, and every field of the answers compared.
//!
//! The requests are in `requests/*.txt`, one table per area. A difference is a field of one answer: its place is
//! `METHOD path-as-in-the-table $.Field` (or `status`, `header NAME`, `body`).

mod compare;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::http::Response;
use budu_testkit::{Backend, Engine, Options, images};
use serde_json::Value;

use crate::conformance::verdict;
use crate::stage::build_budu;
use crate::{packages, top};
use table::{Request, Table};

const USAGE: &str = "usage: cargo xtask differential [--list] [--verbose] [AREA]...

Sends the requests of xtask/src/differential/requests/AREA.txt (all when none is named) to dockerd and to Budu, each in a
cage, and compares status, headers and JSON field by field. --list counts the requests; --verbose prints both answers
where they differ. Accepted differences are in docs/conformance/differential.toml.
";

/// Accepted differences, with reasons. A star stands for anything.
const EXCEPTIONS: &str = "docs/conformance/differential.toml";

/// An answer and the names of what it may mention.
type Answers = Vec<Option<Response>>;

/// Runs what `args` ask for.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let (mut list, mut verbose, mut areas) = (false, false, Vec::new());
    for word in args {
        match word.as_str() {
            "--list" => list = true,
            "--verbose" => verbose = true,
            option if option.starts_with('-') => {
                print!("{USAGE}");
                return Ok(());
            }
            area => areas.push(area.to_owned()),
        }
    }
    let tables = tables(&areas)?;
    let count = tables.iter().map(Table::compared).sum::<usize>();
    if list {
        show(&tables, count);
        return Ok(());
    }
    packages::ensure()?;
    build_budu()?;
    let text = std::fs::read_to_string(top().join(EXCEPTIONS)).unwrap_or_default();
    let exceptions = verdict::exceptions(&text, EXCEPTIONS)?;
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = 0;
    for table in &tables {
        let theirs = play(table, Backend::Dockerd).with_context(|| format!("{}: dockerd", table.area))?;
        let ours = play(table, Backend::Budu).with_context(|| format!("{}: budu", table.area))?;
        println!("-- {}: {} requests", table.area, table.compared());
        for (request, (theirs, ours)) in table.requests.iter().zip(theirs.0.iter().zip(&ours.0)) {
            let found = match (theirs, ours) {
                (Some(theirs), Some(ours)) => compare::answers(theirs, ours),
                (None, None) => Vec::new(),
                (theirs, ours) => vec![("answer".to_owned(), there(theirs), there(ours))],
            };
            let mut bad = false;
            for (place, theirs, ours) in found.iter().filter(|_| request.compared) {
                let name = format!("{} {place}", request.label);
                match exceptions.keys().find(|pattern| glob(pattern, &name)) {
                    Some(pattern) => *used.entry(pattern.as_str()).or_default() += 1,
                    None => {
                        println!("DIFFERS {name}: dockerd {}, budu {}", short(theirs), short(ours));
                        failures += 1;
                        bad = true;
                    }
                }
            }
            if verbose && bad {
                println!("   dockerd: {}\n   budu:    {}", answer(theirs.as_ref()), answer(ours.as_ref()));
            }
        }
    }
    for pattern in exceptions.keys().filter(|pattern| areas.is_empty() && !used.contains_key(pattern.as_str())) {
        println!("no longer needed in {EXCEPTIONS}: {pattern}");
    }
    let accepted: usize = used.values().sum();
    println!("{count} requests; {failures} differences, {accepted} accepted ones for {} reasons", used.len());
    ensure!(count > 0, "no request was sent");
    if failures == 0 { Ok(()) } else { bail!("{failures} fields differ") }
}

fn show(tables: &[Table], count: usize) {
    for table in tables {
        println!("{:12} {:4} requests", table.area, table.compared());
    }
    println!("{:12} {count:4} requests", "all");
}

fn there(answer: &Option<Response>) -> Value {
    if answer.is_some() { "an answer".into() } else { "none".into() }
}

fn answer(answer: Option<&Response>) -> String {
    answer.map_or("none".to_owned(), |answer| format!("{} {}", answer.status, answer.text()))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    text.chars().take(300).collect()
}

fn tables(areas: &[String]) -> Result<Vec<Table>> {
    let dir = top().join("xtask/src/differential/requests");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut tables = Vec::new();
    for path in paths {
        let area = path.file_stem().context("a table without a name")?.to_string_lossy().into_owned();
        if areas.is_empty() || areas.contains(&area) {
            tables.push(Table::read(&area, &std::fs::read_to_string(&path)?).with_context(|| area.clone())?);
        }
    }
    Ok(tables)
}

/// Sends a table's requests to a new engine; its answers, made comparable.
fn play(table: &Table, backend: Backend) -> Result<(Answers,)> {
    let flags = vec!["--registry-mirror=http://127.0.0.1:5000".to_owned()];
    let images = vec![images::BUSYBOX];
    let engine = Engine::start(Options { backend: Some(backend), images, flags, ..Options::default() })?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    names.insert("dir".to_owned(), engine.path("").display().to_string().trim_end_matches('/').to_owned());
    let mut answers = Vec::new();
    for request in &table.requests {
        let answer = send(&engine, request, &names).ok();
        if let (Some((name, place)), Some(answer)) = (&request.keep, &answer) {
            let value = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
            let value = value.pointer(place).and_then(Value::as_str).unwrap_or("missing").to_owned();
            names.insert(name.clone(), value);
        }
        answers.push(answer);
    }
    let bridge = backend.bridge();
    let plain = |answer: Response| compare::plain(answer, &names, bridge);
    Ok((answers.into_iter().map(|answer| answer.map(plain)).collect(),))
}

fn send(engine: &Engine, request: &Request, names: &BTreeMap<String, String>) -> Result<Response> {
    let fill = |text: &str| {
        names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let body = request.body.as_deref().map(fill);
    let mut connection = engine.connect()?;
    connection.send_text(&request.method, &encoded(&fill(&request.target)), body.as_deref())
}

/// The target as a client would write it: the tables are easier to read without percent signs.
fn encoded(target: &str) -> String {
    let mut out = String::new();
    for c in target.chars() {
        match c {
            '{' | '}' | '"' | '[' | ']' | '|' | '<' | '>' => out.push_str(&format!("%{:02X}", u32::from(c))),
            other => out.push(other),
        }
    }
    out
}

/// Whether `pattern`, in which a star stands for anything, describes `text`.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    rest.is_empty() || text.char_indices().any(|(at, _)| glob(rest, &text[at..])) || glob(rest, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars() {
        assert!(glob("* header server", "GET /version header server"));
        assert!(glob("GET /a*c $.X", "GET /abbc $.X") && glob("a*", "a") && glob("*", ""));
        assert!(!glob("GET /a*c", "GET /ab") && !glob("a", "ab"));
    }
}
