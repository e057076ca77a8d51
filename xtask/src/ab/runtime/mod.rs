//! `cargo xtask ab runtime`: OCI runtimes in turn. Budu, crun and runc make, start and delete the same bundles.
//!
//! All of them run in one cage with the peers' root directory, from which crun and runc also take their libraries,
//! so whatever that costs, it costs everybody. The [meter](../../../crates/testkit/src/bin/meter.rs) calls them.

mod bundle;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use budu_testkit::{Backend, Cage, peers};
use serde_json::Value;

use super::contender::tempdir;
use super::report::Report;
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

/// Where everything happens.
struct Stage {
    // Order matters: the cage ends before its directory is removed.
    cage: Cage,
    dir: tempdir::Dir,
}

/// Runs the comparison that `args` ask for and prints it.
pub(super) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    packages::ensure()?;
    ensure!(peers::present(), "crun and runc are not there: `cargo xtask peers` installs them");
    run("cargo", &["build", "--quiet", "--release", "--package", "budu-testkit", "--bin", "meter"])?;
    if std::env::var_os("BUDU_BIN").is_none() && !options.without.iter().any(|name| name == "budu") {
        run("cargo", &["build", "--quiet", "--release", "--package", "budu"])?;
    }
    let stage = Stage::new()?;
    let runtimes = stage.runtimes(&options)?;
    let mut report = Report::default();
    for (kind, bundle) in stage.bundles(options.plain)? {
        one_by_one(&stage, &runtimes, &options, kind, &bundle, &mut report)?;
        side_by_side(&stage, &runtimes, &options, kind, &bundle, &mut report)?;
    }
    for _ in 0..10 {
        for runtime in &runtimes {
            let lines = stage.meter(&["once", "10", &runtime.program, "--version"], runtime.name)?;
            for line in lines {
                report.time("--version", runtime.name, Duration::from_micros(line[0]));
                report.megabytes("--version: peak memory", runtime.name, line[1] * 1024);
            }
        }
    }
    print!("{report}");
    let floor = stage.meter(&["once", "10", "/bin/true"], "floor")?;
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

impl Stage {
    fn new() -> Result<Stage> {
        let dir = tempdir::Dir::new()?;
        let meter = std::env::current_exe()?.with_file_name("meter");
        std::fs::copy(&meter, dir.path().join("meter")).with_context(|| format!("copy {}", meter.display()))?;
        let cage = Cage::new(&peers::world(dir.path()))?;
        Ok(Stage { cage, dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `argv` in the cage to its end; what it printed.
    fn finish(&self, argv: &[&str], log: &str) -> Result<String> {
        let log = self.path().join(log);
        let pid = self.start(argv, &log)?;
        self.end(pid, argv, &log)
    }

    fn start(&self, argv: &[&str], log: &Path) -> Result<u32> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        std::fs::write(log, "")?;
        self.cage.spawn(&argv, &[("PATH".to_owned(), path.to_owned())], log)
    }

    fn end(&self, pid: u32, argv: &[&str], log: &Path) -> Result<String> {
        let code = self.cage.wait_exit(pid, LIMIT)?;
        let said = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
        ensure!(code == 0, "{argv:?}: exit code {code}\n{said}");
        Ok(said)
    }

    /// Runs the meter; the numbers of each line it printed.
    fn meter(&self, args: &[&str], log: &str) -> Result<Vec<Vec<u64>>> {
        let meter = self.path().join("meter").display().to_string();
        Ok(numbers(&self.finish(&[&[meter.as_str()], args].concat(), log)?))
    }

    /// The runtimes that take part.
    fn runtimes(&self, options: &Options) -> Result<Vec<Runtime>> {
        let mut runtimes = Vec::new();
        for name in ["budu", "crun", "runc"] {
            if options.without.iter().any(|without| without == name) {
                continue;
            }
            if name != "budu" {
                runtimes.push(Runtime { name, program: name.to_owned() });
            } else if let Some(program) = self.budu()? {
                runtimes.push(Runtime { name, program });
            }
        }
        ensure!(!runtimes.is_empty(), "nobody takes part");
        Ok(runtimes)
    }

    /// Budu under the name that makes it a runtime; absent when it is none.
    fn budu(&self) -> Result<Option<String>> {
        let binary = Backend::budu_binary();
        std::fs::copy(&binary, self.path().join("budu")).with_context(|| format!("copy {}", binary.display()))?;
        let link = self.path().join("budu-oci");
        std::os::unix::fs::symlink("budu", &link)?;
        let program = link.display().to_string();
        // Every runtime names the specification that it follows; a Docker command line does not.
        if self.finish(&[&program, "--version"], "version").is_ok_and(|said| said.contains("spec:")) {
            return Ok(Some(program));
        }
        println!("budu is left out: {} has no `oci` command yet", binary.display());
        Ok(None)
    }

    fn bundles(&self, plain: bool) -> Result<Vec<(&'static str, PathBuf)>> {
        let made = self.path().join("spec");
        std::fs::create_dir(&made)?;
        self.finish(&["runc", "spec", "--bundle", &made.display().to_string()], "spec.log")?;
        let config: Value = serde_json::from_slice(&std::fs::read(made.join("config.json"))?)?;
        let mut bundles = vec![("runc spec", bundle::make(self.path(), "plain", config)?)];
        if !plain {
            let config = bundle::as_docker_does(self.path())?;
            bundles.push(("like Docker", bundle::make(self.path(), "docker", config)?));
        }
        Ok(bundles)
    }

    /// Arguments of the meter for `count` lives in a row, named after `runtime` and `worker`.
    fn lives(&self, runtime: &Runtime, count: usize, bundle: &Path, worker: usize) -> Vec<String> {
        let path = |name: &str| self.path().join(name).display().to_string();
        let name = format!("{}-{worker}", runtime.name);
        let words = [&path("meter"), "lives", &count.to_string(), &bundle.display().to_string(), &path(""), &name];
        // On a tmpfs, as /run is everywhere.
        let root = format!("/run/ab-{}", runtime.name);
        words.into_iter().chain([runtime.program.as_str(), "--root", &root]).map(str::to_owned).collect()
    }
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
            let argv = stage.lives(runtime, 1, bundle, 0);
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            let lines = numbers(&stage.finish(&argv, runtime.name)?);
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
                let argv = stage.lives(runtime, each, bundle, worker);
                let log = stage.path().join(format!("{}.{worker}", runtime.name));
                let words: Vec<&str> = argv.iter().map(String::as_str).collect();
                workers.push((stage.start(&words, &log)?, argv.clone(), log));
            }
            for (pid, argv, log) in workers {
                let words: Vec<&str> = argv.iter().map(String::as_str).collect();
                for life in numbers(&stage.end(pid, &words, &log)?) {
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
