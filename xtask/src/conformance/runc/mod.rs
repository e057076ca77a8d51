//! `cargo xtask conformance runc`: runc's own integration tests against a runtime, measured by what runc passes.
//!
//! The suite is a set of shell scripts that call a runtime by the name in `RUNC`. Each file runs in a cage of its own:
//! nothing that a test leaves behind, or hangs in, reaches the machine or the next file.

mod bats;
mod prepare;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use budu_testkit::Backend;
use serde_json::{Value, json};

use crate::conformance::verdict::{self, Results};
use crate::stage::build_budu;
use bats::File;
use prepare::{Suite, VERSION};

const USAGE: &str = "usage: cargo xtask conformance runc [--runtime PATH] [--fresh] [--baseline] [FILTER]...

Runs runc's integration tests with runc, once (--fresh: again), and with the runtime (Budu when not given), and prints
what runc passes and the runtime does not. --baseline stops after runc and tells what it fails and skips, and why.
FILTER is a part of `file::name of test`.

A copy of runc's source can be put into suites/runc/VERSION/source in the cache; else it is cloned. A binary in $BUDU_BIN
is used as it is. The outputs of all files are kept in suites/runc/VERSION/logs. $TMPDIR on a tmpfs makes the tests faster
(a kernel before 6.3 then skips those of mounts with mapped ids).
";

/// With more failures than this, timing is not what is wrong.
const FEW: usize = 25;

/// What runc itself is called in logs; the runtime may be called `runc`, too.
const REFERENCE: &str = "reference";

struct Options {
    runtime: Option<PathBuf>,
    fresh: bool,
    baseline: bool,
    filters: Vec<String>,
}

/// Runs what `args` ask for.
pub(super) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    let suite = Suite::ensure().context("prepare runc's suite")?;
    let wanted = |name: &str| options.filters.is_empty() || options.filters.iter().any(|part| name.contains(part));
    let files: Vec<File> = File::all(&suite.tests())?.iter().map(|file| file.only(wanted)).collect();
    let files: Vec<File> = files.into_iter().filter(|file| !file.tests.is_empty()).collect();
    ensure!(!files.is_empty(), "no test has a name like that");
    let expected = baseline(&suite, &files, options.fresh)?;
    if options.baseline {
        verdict::counts("runc", &expected);
        report::remarks(&expected);
        return Ok(());
    }
    let (who, program) = runtime(options.runtime.as_deref())?;
    let found = examine(&suite, &who, &program, &files, &expected)?;
    verdict::counts(&who, &found);
    report::judge(&who, &expected, &found)
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options { runtime: None, fresh: false, baseline: false, filters: Vec::new() };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runtime" => options.runtime = Some(words.next().context("--runtime needs a value")?.into()),
            "--fresh" => options.fresh = true,
            "--baseline" => options.baseline = true,
            option if option.starts_with('-') => return Ok(None),
            filter => options.filters.push(filter.to_owned()),
        }
    }
    Ok(Some(options))
}

/// What to call the runtime, and its program.
fn runtime(path: Option<&Path>) -> Result<(String, PathBuf)> {
    let program = match path {
        Some(path) => path.to_owned(),
        None => {
            build_budu()?;
            Backend::budu_binary()
        }
    };
    let program = program.canonicalize().with_context(|| format!("find {}", program.display()))?;
    let who = program.file_name().context("the runtime has no name")?.to_string_lossy().into_owned();
    Ok((who, program))
}

/// What runc makes of the suite, from the cache where possible.
fn baseline(suite: &Suite, files: &[File], fresh: bool) -> Result<Results> {
    let path = suite.path("baseline.json");
    // Two runs at once would do the work twice, and lose one's.
    let lock = std::fs::File::create(suite.path("baseline.lock"))?;
    lock.lock()?;
    let cached = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let mut results = Results::new();
    if let Some(cached) = cached.filter(|cached| cached["runc"] == VERSION) {
        results = serde_json::from_value(cached["results"].clone())?;
    }
    let needed = files.iter().map(|file| file.only(|name| fresh || !results.contains_key(name)));
    let needed: Vec<File> = needed.filter(|file| !file.tests.is_empty()).collect();
    for file in &needed {
        results.extend(run(suite, REFERENCE, &suite.reference(), file)?);
        let cached = json!({"runc": VERSION, "results": results});
        std::fs::write(&path, serde_json::to_vec_pretty(&cached)?)?;
    }
    results.retain(|name, _| files.iter().any(|file| file.tests.iter().any(|test| file.full(test) == *name)));
    Ok(results)
}

/// Runs all files. Some tests wait fixed times: what fails alone is asked again.
fn examine(suite: &Suite, who: &str, program: &Path, files: &[File], expected: &Results) -> Result<Results> {
    let mut found = Results::new();
    for file in files {
        found.extend(run(suite, who, program, file)?);
    }
    let failed = verdict::missing(expected, &found);
    if failed.len() > FEW {
        return Ok(found);
    }
    for file in files.iter().map(|file| file.only(|name| failed.iter().any(|failed| failed == name))) {
        if file.tests.is_empty() {
            continue;
        }
        println!("once more: {}", file.name);
        let again = file.run(program, &log(suite, who, &format!("{}.again", file.name))?)?;
        for (name, _) in again.iter().filter(|(_, (result, _))| result == "ok") {
            println!("   unsteady: {name}");
        }
        found.extend(again);
    }
    Ok(found)
}

fn run(suite: &Suite, who: &str, program: &Path, file: &File) -> Result<Results> {
    let begin = std::time::Instant::now();
    let results = file.run(program, &log(suite, who, &file.name)?)?;
    let count = |wanted: &str| results.values().filter(|(result, _)| result == wanted).count();
    let (passed, failed, skipped) = (count("ok"), count("not ok"), count("skipped"));
    let seconds = begin.elapsed().as_secs();
    println!("{who}: {}: {passed} passed, {failed} failed, {skipped} skipped, {seconds} s", file.name);
    Ok(results)
}

fn log(suite: &Suite, who: &str, name: &str) -> Result<PathBuf> {
    let dir = suite.path("logs").join(who);
    std::fs::create_dir_all(&dir)?;
    Ok(dir.join(format!("{name}.tap")))
}
