//! `cargo xtask conformance contest`: youki's contest suite against a runtime, measured by what runc passes.
//!
//! The suite is another project's: its programs are brought along, not built here. Each of its groups runs in a cage of
//! its own, so that one that gives up or hangs takes nothing else along.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use budu_testkit::cache_dir;
use serde_json::{Value, json};

use super::verdict::{self, Results};
use crate::packages;
use crate::stage::{Stage, build_budu};

const USAGE: &str = "usage: cargo xtask conformance contest [--runtime PATH] [--suite DIR] [--group NAME]... [--fresh]

Runs youki's contest suite with runc, once (--fresh: again), and with the runtime (Budu when not given; a name without
a slash is one of the peers' own), and prints what runc passes and the runtime does not.

DIR (suites/contest in the cache when not given) holds what the suite's authors build and ship: the programs `contest`
and `runtimetest`, and `bundle.tar.gz`.
";

/// What the suite consists of.
const FILES: [&str; 3] = ["contest", "runtimetest", "bundle.tar.gz"];
/// Failures that we accept, with reasons.
const EXCEPTIONS: &str = "docs/conformance/contest-exceptions.toml";
/// A group that gives up on machines without control groups v2 alone, unless its tests are asked for one by one.
const EXEC: [&str; 10] = [
    "capabilities_by_flag_test_case1",
    "capabilities_by_flag_test_case2",
    "cgroup_test",
    "ignore_paused_test",
    "mount_test",
    "new_privileges_test",
    "no_capabilities_test",
    "preserve_fds_test",
    "some_capabilities_test",
    "unset_bounding_capabilities_test",
];
/// Stands for the tests of a group that gave up before it told about any.
const ALL: &str = "::(all)";
/// The group whose tests are steps of one story.
const STORY: &str = "lifecycle";
/// Time limit of one group. The longest needs a minute with runc on two cores.
const LIMIT: Duration = Duration::from_secs(180);
/// With more failures than this, timing is not what is wrong.
const FEW: usize = 25;

struct Options {
    runtime: Option<String>,
    suite: PathBuf,
    groups: Vec<String>,
    fresh: bool,
}

/// Runs what `args` ask for.
pub(super) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    for file in FILES {
        let path = options.suite.join(file);
        ensure!(path.exists(), "youki's contest suite is not complete: {} is missing", path.display());
    }
    packages::ensure()?;
    if options.runtime.is_none() {
        build_budu()?;
    }
    let groups = if options.groups.is_empty() { groups(&options.suite)? } else { options.groups.clone() };
    let expected = baseline(&options, &groups)?;
    let who = options.runtime.as_deref().unwrap_or("budu");
    println!("{who}: {} groups", groups.len());
    let mut found = run_groups(&options, options.runtime.as_deref(), &groups)?;
    let failed = verdict::missing(&expected, &found);
    if failed.len() <= FEW {
        once_more(&options, options.runtime.as_deref(), &failed, &mut found)?;
        found.retain(|name, _| !name.ends_with(ALL));
    }
    verdict::counts("runc", &expected);
    verdict::counts(who, &found);
    verdict::judge(["runc", who], &expected, &found, EXCEPTIONS)
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let suite = cache_dir().join("suites/contest");
    let mut options = Options { runtime: None, suite, groups: Vec::new(), fresh: false };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--runtime" => options.runtime = Some(value()?.clone()),
            "--suite" => options.suite = PathBuf::from(value()?),
            "--group" => options.groups.push(value()?.clone()),
            "--fresh" => options.fresh = true,
            _ => return Ok(None),
        }
    }
    Ok(Some(options))
}

/// A stage with the suite on it.
fn stage(suite: &Path) -> Result<Stage> {
    let stage = Stage::new()?;
    for file in FILES {
        std::fs::copy(suite.join(file), stage.path().join(file)).with_context(|| format!("copy {file}"))?;
    }
    std::fs::create_dir(stage.path().join("tmp"))?;
    Ok(stage)
}

/// Runs the suite's program; everything it says. It looks for the bundle in its working directory.
fn contest(stage: &Stage, args: &[&str]) -> Result<String> {
    let dir = stage.path().display().to_string();
    let script = "cd \"$0\" && exec ./contest \"$@\"";
    let argv = [&["sh", "-c", script, &dir], args].concat();
    let tmp = stage.path().join("tmp").display().to_string();
    // Everybody is asked what runc is asked: some tests expect a way of youki's that runc does not share.
    let env = [("TMPDIR", tmp.as_str()), ("RUNTIME_KIND", "runc")];
    let ended = stage.end(&stage.start(&argv, &env)?, LIMIT)?;
    Ok(format!("{}\n# {}\n", ended.said, ended.how()))
}

fn groups(suite: &Path) -> Result<Vec<String>> {
    let said = contest(&stage(suite)?, &["list"])?;
    let name = |line: &&str| !line.is_empty() && line.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let groups: Vec<String> = said.lines().filter(name).map(str::to_owned).collect();
    ensure!(!groups.is_empty(), "the suite lists no groups:\n{said}");
    Ok(groups)
}

fn run_groups(options: &Options, runtime: Option<&str>, groups: &[String]) -> Result<Results> {
    let mut results = Results::new();
    for group in groups {
        let mut found = Results::new();
        if group == "exec" {
            for test in EXEC {
                found.extend(run_group(options, runtime, &format!("{group}::{test}"))?);
            }
        } else {
            found = run_group(options, runtime, group)?;
        }
        let failed = found.values().filter(|(result, _)| result == "not ok").count();
        println!("   {group}: {} tests, {failed} failed", found.len());
        results.extend(found);
    }
    Ok(results)
}

/// Asks again for tests that failed, each alone: they wait fixed times, and a group's tests run beside each other.
fn once_more(options: &Options, runtime: Option<&str>, failed: &[String], results: &mut Results) -> Result<()> {
    if !failed.is_empty() {
        println!("{}: {} tests once more, alone", runtime.unwrap_or("budu"), failed.len());
    }
    for name in failed {
        // Names with spaces cannot be asked for, nor those of a group that told none.
        let whole = |group: &&str| *group == STORY || name.contains(' ') || name.ends_with(ALL);
        let group = name.split("::").next().filter(whole);
        let again = run_group(options, runtime, group.unwrap_or(name))?;
        if name.ends_with(ALL) {
            results.remove(name);
        } else if again.get(name).is_some_and(|(result, _)| result == "ok") {
            println!("   unsteady: {name}");
        }
        results.extend(again);
    }
    Ok(())
}

/// Runs `selection`, a group or `group::test`.
fn run_group(options: &Options, runtime: Option<&str>, selection: &str) -> Result<Results> {
    let stage = stage(&options.suite)?;
    let program = stage.runtime(runtime)?;
    let runtimetest = stage.path().join("runtimetest").display().to_string();
    let said = contest(&stage, &["run", "--runtime", &program, "--runtimetest", &runtimetest, "-t", selection])?;
    let mut results = read(&said);
    if results.is_empty() {
        // It gave up before it printed anything.
        let told = |line: &&str| line.contains("panicked") || line.starts_with("# ") || line.starts_with("called ");
        let why: Vec<&str> = said.lines().filter(told).collect();
        let name = if selection.contains("::") { selection.to_owned() } else { format!("{selection}{ALL}") };
        results.insert(name, ("not ok".to_owned(), why.join("; ")));
    }
    Ok(results)
}

/// Results in what the suite printed: `1 / 2 : name : ok`, between lines that name the group.
fn read(said: &str) -> Results {
    let mut results = Results::new();
    let mut group = "";
    let mut last: Option<String> = None;
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("# Start group ") {
            group = name;
        } else if line.starts_with("# ") {
            last = None;
        } else if let Some((name, result)) = outcome(line) {
            let name = format!("{group}::{name}");
            results.insert(name.clone(), (result.to_owned(), String::new()));
            last = Some(name);
        } else if let Some((_, why)) = last.as_ref().and_then(|name| results.get_mut(name)) {
            why.push_str(line.trim());
            why.push(' ');
        }
    }
    results
}

fn outcome(line: &str) -> Option<(&str, &str)> {
    let (counter, rest) = line.split_once(" : ")?;
    let counts = counter.split(" / ").all(|number| number.parse::<u32>().is_ok());
    let (name, result) = rest.rsplit_once(" : ")?;
    let known = ["ok", "not ok", "skipped"].contains(&result);
    (counts && known).then_some((name, result))
}

/// What runc makes of the suite, from the cache where possible.
fn baseline(options: &Options, groups: &[String]) -> Result<Results> {
    let path = options.suite.join("runc.json");
    let size = std::fs::metadata(options.suite.join(FILES[0]))?.len();
    let version = Stage::new()?.finish(&["runc", "--version"], LIMIT)?;
    let cached = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let mut results = Results::new();
    if let Some(cached) = cached.filter(|cached| cached["runc"] == version.trim() && cached["contest"] == size) {
        results = serde_json::from_value(cached["results"].clone())?;
    }
    let known = |group: &String| results.keys().any(|name| name.starts_with(&format!("{group}::")));
    let needed: Vec<String> = groups.iter().filter(|group| options.fresh || !known(group)).cloned().collect();
    if !needed.is_empty() {
        println!("runc: {} groups", needed.len());
        let mut found = run_groups(options, Some("runc"), &needed)?;
        let failed = found.iter().filter(|(_, (result, _))| result == "not ok").map(|(name, _)| name.clone());
        once_more(options, Some("runc"), &failed.collect::<Vec<_>>(), &mut found)?;
        results.extend(found);
        let cached = json!({"runc": version.trim(), "contest": size, "results": results});
        std::fs::write(&path, serde_json::to_vec_pretty(&cached)?)?;
    }
    results.retain(|name, _| groups.iter().any(|group| name.starts_with(&format!("{group}::"))));
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let said = "noise\n# Start group a\n1 / 2 : one : ok\n2 / 2 : the other : not ok\n\tbad : thing\n# End group a\n\n\
                    # Start group b\n1 / 1 : x : skipped\n\twhy\n# End group b\n";
        let results = read(said);
        assert_eq!(results["a::one"].0, "ok");
        assert_eq!(results["a::the other"], ("not ok".to_owned(), "bad : thing ".to_owned()));
        assert_eq!(results["b::x"].0, "skipped");
        assert_eq!(results.len(), 3);
    }
}
