//! `cargo xtask ab runtime`: OCI runtimes in turn. Budu, crun and runc make, start and delete the same bundles.
//!
//! All of them run in one cage with the peers' root directory, from which crun and runc also take their libraries,
//! so whatever that costs, it costs everybody. The [meter](../../../crates/testkit/src/bin/meter.rs) calls them.

mod bundle;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::report::Report;
use crate::stage::{Stage, build_budu};
use crate::{packages, run};

const USAGE: &str = "usage: cargo xtask ab runtime [--rounds N] [--without NAME]... [--plain]

Measures: create + start + delete of a busybox container that runs `true` (the configuration of `runc spec`, and the
one that Docker's daemon writes; --plain leaves the latter out), one after another and 8 at a time; the peak memory of
each step; `--version`. Runtimes: budu, crun, runc. A binary in $BUDU_BIN is used as it is.
";

/// How many at a time, when many.
const WIDTH: usize = 8;
/// Time limit for one batch of lives.
const LIMIT: Duration = Duration::from_secs(300);

struct Options {
    rounds: usize,
    without: Vec<String>,
    plain: bool,
}

/// A runtime under measurement.
struct Runtime {
    name: &'static str,
    program: String,
}

/// Runs the comparison that `args` ask for and prints it.
pub(super) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    packages::ensure()?;
    run("cargo", &["build", "--quiet", "--release", "--package", "budu-testkit", "--bin", "meter"])?;
    if !options.without.iter().any(|name| name == "budu") {
        build_budu()?;
    }
    let stage = Stage::new()?;
    place_meter(&stage)?;
    let runtimes = runtimes(&stage, &options)?;
    let mut report = Report::default();
    for (kind, bundle) in bundles(&stage, options.plain)? {
        one_by_one(&stage, &runtimes, &options, kind, &bundle, &mut report)?;
        side_by_side(&stage, &runtimes, &options, kind, &bundle, &mut report)?;
    }
    for _ in 0..10 {
        for runtime in &runtimes {
            let lines = meter(&stage, &["once", "10", &runtime.program, "--version"])?;
            for line in lines {
                report.time("--version", runtime.name, Duration::from_micros(line[0]));
                report.megabytes("--version: peak memory", runtime.name, line[1] * 1024);
            }
        }
    }
    print!("{report}");
    let floor = meter(&stage, &["once", "10", "/bin/true"])?;
    let least = floor.iter().map(|line| line[1]).max().unwrap_or_default() as f64 * 1024.0 / 1e6;
    println!("peak memory of /bin/true, measured the same way: {least:.2} MB");
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options { rounds: 20, without: Vec::new(), plain: false };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--without" => options.without.push(value()?.clone()),
            "--plain" => options.plain = true,
            _ => return Ok(None),
        }
    }
    ensure!(options.rounds > 0, "at least one round");
    Ok(Some(options))
}

/// Puts the meter on the stage.
fn place_meter(stage: &Stage) -> Result<()> {
    let meter = std::env::current_exe()?.with_file_name("meter");
    std::fs::copy(&meter, stage.path().join("meter")).with_context(|| format!("copy {}", meter.display()))?;
    Ok(())
}

/// Runs the meter; the numbers of each line it printed.
fn meter(stage: &Stage, args: &[&str]) -> Result<Vec<Vec<u64>>> {
    let meter = stage.path().join("meter").display().to_string();
    Ok(numbers(&stage.finish(&[&[meter.as_str()], args].concat(), LIMIT)?))
}

/// The runtimes that take part.
fn runtimes(stage: &Stage, options: &Options) -> Result<Vec<Runtime>> {
    let mut runtimes = Vec::new();
    for name in ["budu", "crun", "runc"] {
        if options.without.iter().any(|without| without == name) {
            continue;
        }
        match stage.runtime(Some(name).filter(|name| *name != "budu")) {
            Ok(program) => runtimes.push(Runtime { name, program }),
            Err(why) => println!("{name} is left out: {why:#}"),
        }
    }
    ensure!(!runtimes.is_empty(), "nobody takes part");
    Ok(runtimes)
}

fn bundles(stage: &Stage, plain: bool) -> Result<Vec<(&'static str, PathBuf)>> {
    let made = stage.path().join("spec");
    std::fs::create_dir(&made)?;
    stage.finish(&["runc", "spec", "--bundle", &made.display().to_string()], LIMIT)?;
    let config: Value = serde_json::from_slice(&std::fs::read(made.join("config.json"))?)?;
    let mut bundles = vec![("runc spec", bundle::make(stage.path(), "plain", config)?)];
    if !plain {
        let config = bundle::as_docker_does(stage.path())?;
        bundles.push(("like Docker", bundle::make(stage.path(), "docker", config)?));
    }
    Ok(bundles)
}

/// Command line of the meter for `count` lives in a row, named after `runtime` and `worker`.
fn lives(stage: &Stage, runtime: &Runtime, count: usize, bundle: &Path, worker: usize) -> Vec<String> {
    let path = |name: &str| stage.path().join(name).display().to_string();
    let name = format!("{}-{worker}", runtime.name);
    let words = [&path("meter"), "lives", &count.to_string(), &bundle.display().to_string(), &path(""), &name];
    // On a tmpfs, as /run is everywhere.
    let root = format!("/run/ab-{}", runtime.name);
    words.into_iter().chain([runtime.program.as_str(), "--root", &root]).map(str::to_owned).collect()
}

fn numbers(text: &str) -> Vec<Vec<u64>> {
    text.lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect()).collect()
}

/// Steps of a life, in the order in which the meter prints them.
const STEPS: [&str; 4] = ["create", "start", "process ends", "delete"];

fn one_by_one(
    stage: &Stage,
    runtimes: &[Runtime],
    options: &Options,
    kind: &str,
    bundle: &Path,
    report: &mut Report,
) -> Result<()> {
    for round in 0..=options.rounds {
        for runtime in runtimes {
            let lines = numbers(&stage.finish(&lives(stage, runtime, 1, bundle, 0), LIMIT)?);
            let life = lines.first().filter(|line| line.len() == 10).context("the meter printed nothing")?;
            // The first round fills caches, for everybody.
            if round == 0 {
                continue;
            }
            for (at, step) in STEPS.iter().enumerate() {
                report.time(&format!("{kind}: {}  {step}", at + 1), runtime.name, Duration::from_micros(life[2 * at]));
                if *step == "process ends" {
                    continue;
                }
                report.megabytes(&format!("{kind}: peak memory, {step}"), runtime.name, life[2 * at + 1] * 1024);
            }
            report.megabytes(&format!("{kind}: peak memory, container's process"), runtime.name, life[5] * 1024);
            let peak = [1, 3, 5, 7].iter().map(|at| life[*at]).max().unwrap_or_default();
            report.megabytes(&format!("{kind}: peak memory of all"), runtime.name, peak * 1024);
            report.time(&format!("{kind}: create + start + delete"), runtime.name, Duration::from_micros(life[8]));
        }
    }
    Ok(())
}

fn side_by_side(
    stage: &Stage,
    runtimes: &[Runtime],
    options: &Options,
    kind: &str,
    bundle: &Path,
    report: &mut Report,
) -> Result<()> {
    let each = 5;
    for _ in 0..options.rounds.div_ceil(each) {
        for runtime in runtimes {
            let begin = Instant::now();
            let mut workers = Vec::new();
            for worker in 0..WIDTH {
                workers.push(stage.start(&lives(stage, runtime, each, bundle, worker), &[])?);
            }
            for worker in workers {
                let ended = stage.end(&worker, LIMIT)?;
                ensure!(ended.code == Some(0), "{}: {}\n{}", runtime.name, ended.how(), ended.said);
                for life in numbers(&ended.said) {
                    let case = format!("{kind}: create + start + delete, {WIDTH} at a time");
                    report.time(&case, runtime.name, Duration::from_micros(life[8]));
                }
            }
            let case = format!("{kind}: lives per second, {WIDTH} at a time");
            report.rate(&case, runtime.name, each * WIDTH, begin.elapsed());
        }
    }
    Ok(())
}
