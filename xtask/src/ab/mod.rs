//! `cargo xtask ab`: Budu and its opponents in turn, in one run, on one machine.
//!
//! Figures taken at different times say little: machines have moods. So every round runs every contender once,
//! and what counts is the ratio of medians.

mod contender;
mod daily;
mod load;
mod logs;
mod memory;
mod report;
mod runtime;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::{images, peers};

use crate::{packages, run};
use contender::{Contender, Kind};
use report::Report;

const USAGE: &str = "usage: cargo xtask ab [--case LETTERS] [--rounds N] [--containers N] [--without NAME]...

Cases:
  a  run --rm IMAGE true: command line, daemon and all
  b  create, start, wait, remove through the API, on one connection
  c  100 containers, started 8 at a time: containers per second
  d  memory of everything that belongs to 100 sleeping containers (with c; --containers 1000 for that many), and idle
  e  exec CONTAINER true: command line, daemon and all
  g  ps -a with as many containers as --containers says
  l  a container that prints 1 GB: time, and the engine's processor time (3 rounds; not among the usual cases)

OCI runtimes alone: cargo xtask ab runtime --help

Contenders: budu, dockerd, podman, floor. A binary in $BUDU_BIN is used as it is.
";

struct Options {
    cases: String,
    rounds: usize,
    containers: usize,
    without: Vec<String>,
}

/// Runs the comparison that `args` ask for and prints it.
pub(crate) fn command(args: &[String]) -> Result<()> {
    if let Some((first, rest)) = args.split_first().filter(|(first, _)| *first == "runtime") {
        return runtime::command(rest).with_context(|| first.clone());
    }
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    packages::ensure()?;
    images::ensure()?;
    build(&options)?;
    let kinds = [Kind::Floor, Kind::Budu, Kind::Dockerd, Kind::Podman];
    let wanted = kinds.into_iter().filter(|kind| !options.without.iter().any(|name| name == kind.name()));
    let mut contenders = Vec::new();
    for kind in wanted {
        let foreign = matches!(kind, Kind::Dockerd | Kind::Podman);
        if foreign && !peers::present() {
            println!("{} is left out: `cargo xtask peers` installs it", kind.name());
            continue;
        }
        contenders.push(Contender::start(kind).with_context(|| format!("start {}", kind.name()))?);
    }
    let mut report = Report::default();
    for case in options.cases.chars() {
        match case {
            'a' => run_once(&contenders, &options, &mut report)?,
            'b' => through_the_api(&contenders, &options, &mut report)?,
            'c' => many(&contenders, &options, &mut report)?,
            'd' => {}
            'l' => logs::measure(&contenders, &mut report)?,
            'e' => daily::exec(&contenders, &options, &mut report)?,
            'g' => daily::list(&contenders, &options, &mut report)?,
            other => bail!("there is no case {other}"),
        }
    }
    print!("{report}");
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options { cases: "abcdeg".to_owned(), rounds: 20, containers: 100, without: Vec::new() };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--case" => options.cases = value()?.clone(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--containers" => options.containers = value()?.parse()?,
            "--without" => options.without.push(value()?.clone()),
            _ => return Ok(None),
        }
    }
    ensure!(options.rounds > 0, "at least one round");
    Ok(Some(options))
}

fn build(options: &Options) -> Result<()> {
    run("cargo", &["build", "--quiet", "--release", "--package", "budu-testkit", "--bin", "floor"])?;
    if std::env::var_os("BUDU_BIN").is_none() && !options.without.iter().any(|name| name == "budu") {
        run("cargo", &["build", "--quiet", "--release", "--package", "budu"])?;
    }
    Ok(())
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn run_once(contenders: &[Contender], options: &Options, report: &mut Report) -> Result<()> {
    for round in 0..=options.rounds {
        for contender in contenders {
            let taken = time(|| contender.run_once())?;
            // The first round fills caches, for everybody.
            if round > 0 {
                report.time("a  run --rm IMAGE true", contender.name(), taken);
            }
        }
    }
    Ok(())
}

fn through_the_api(contenders: &[Contender], options: &Options, report: &mut Report) -> Result<()> {
    let with_api = || contenders.iter().filter_map(|one| Some((one, one.engine()?)));
    let mut connections = Vec::new();
    for (contender, engine) in with_api() {
        connections.push((contender, engine.connect()?));
    }
    for round in 0..=options.rounds {
        for (contender, connection) in &mut connections {
            let steps = load::life(connection)?;
            for (step, taken) in steps {
                if round > 0 {
                    report.time(&format!("b  {step}"), contender.name(), taken);
                }
            }
        }
    }
    Ok(())
}

fn many(contenders: &[Contender], options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.rounds.div_ceil(10);
    for _ in 0..rounds {
        for contender in contenders.iter().filter(|one| one.holds_containers()) {
            let before = memory::of(contender)?;
            let count = options.containers;
            let taken = time(|| load::start_many(contender, count, 8))?;
            report.rate("c  containers started per second, 8 at a time", contender.name(), count, taken);
            if options.cases.contains('d') {
                // What starting has used and not yet given back is not what idling costs.
                std::thread::sleep(Duration::from_secs(3));
                let after = memory::of(contender)?;
                report.memory(contender.name(), count, &before, &after);
            }
            load::remove_all(contender)?;
        }
    }
    Ok(())
}
