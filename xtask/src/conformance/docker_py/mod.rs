//! `cargo xtask conformance docker-py`: the integration tests of Docker's Python library, measured by what dockerd passes.
//!
//! Each file of tests gets an engine of its own, in a cage without an uplink; images come from a registry in that cage
//! which both engines use as a mirror of Docker Hub.

mod pytest;
mod suite;

use anyhow::{Context, Result, ensure};
use budu_testkit::Backend;
use serde_json::{Value, json};

use super::verdict::{self, Results};
use crate::packages;
use crate::stage::build_budu;
use suite::{Suite, VERSION};

const USAGE: &str = "usage: cargo xtask conformance docker-py [--fresh] [--baseline] [FILTER]...

Runs docker-py's integration tests against dockerd, once (--fresh: again), and against Budu, and prints what dockerd
passes and Budu does not. --baseline stops after dockerd and tells what it fails. Swarm is left out.
FILTER is a part of `file::Class::name of test`.

A copy of docker-py's source can be put into suites/docker-py/VERSION/source in the cache; else it is cloned. A binary in
$BUDU_BIN is used as it is. The outputs of all files are kept in suites/docker-py/VERSION/logs.
";

/// Failures that we accept, with reasons.
const EXCEPTIONS: &str = "docs/conformance/docker-py-exceptions.toml";

#[derive(Default)]
struct Options {
    fresh: bool,
    baseline: bool,
    filters: Vec<String>,
}

/// Runs what `args` ask for.
pub(super) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args) else {
        print!("{USAGE}");
        return Ok(());
    };
    packages::ensure()?;
    let suite = Suite::ensure().context("prepare docker-py's suite")?;
    let files = suite.files(&options.filters)?;
    ensure!(!files.is_empty(), "no test has a name like that");
    let wanted = |name: &str| options.filters.is_empty() || options.filters.iter().any(|part| name.contains(part));
    let mut expected = baseline(&suite, &files, options.fresh)?;
    expected.retain(|name, _| wanted(name));
    if options.baseline {
        verdict::counts("dockerd", &expected);
        for (name, (_, why)) in expected.iter().filter(|(_, (result, _))| result != "ok") {
            println!("{name}: {why}");
        }
        return Ok(());
    }
    build_budu()?;
    let mut found = Results::new();
    for file in &files {
        found.extend(run(&suite, Backend::Budu, file, &options.filters)?);
    }
    verdict::counts("budu", &found);
    verdict::judge(["dockerd", "budu"], &expected, &found, EXCEPTIONS)
}

fn parse(args: &[String]) -> Option<Options> {
    let mut options = Options::default();
    for word in args {
        match word.as_str() {
            "--fresh" => options.fresh = true,
            "--baseline" => options.baseline = true,
            option if option.starts_with('-') => return None,
            filter => options.filters.push(filter.to_owned()),
        }
    }
    Some(options)
}

/// What dockerd makes of the files, from the cache where possible.
fn baseline(suite: &Suite, files: &[String], fresh: bool) -> Result<Results> {
    let mut all = Results::new();
    for file in files {
        let path = suite.path(&format!("baseline/{file}.json"));
        let cached = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let results = match cached.filter(|_| !fresh) {
            Some(cached) => serde_json::from_value(cached["results"].clone())?,
            None => {
                let results = run(suite, Backend::Dockerd, file, &[])?;
                std::fs::create_dir_all(suite.path("baseline"))?;
                std::fs::write(&path, serde_json::to_vec_pretty(&json!({"suite": VERSION, "results": results}))?)?;
                results
            }
        };
        all.extend::<Results>(results);
    }
    Ok(all)
}

fn run(suite: &Suite, backend: Backend, file: &str, filters: &[String]) -> Result<Results> {
    let begin = std::time::Instant::now();
    let results = pytest::run(suite, backend, file, filters).with_context(|| file.to_owned())?;
    let count = |wanted: &str| results.values().filter(|(result, _)| result == wanted).count();
    let (passed, failed, skipped) = (count("ok"), count("not ok"), count("skipped"));
    let who = if backend == Backend::Budu { "budu" } else { "dockerd" };
    println!("{who}: {file}: {passed} passed, {failed} failed, {skipped} skipped, {} s", begin.elapsed().as_secs());
    Ok(results)
}
