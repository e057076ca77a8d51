//! `cargo xtask conformance engines`: containerd and podman with a runtime of our choice underneath.
//!
//! Each engine runs in a cage of its own and is driven by its own command line, step by step. The steps are small shell
//! scripts, because that is how people call these programs; they know nothing of the runtime, and runc passes them all.

mod containerd;
mod podman;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::images;

use crate::packages;
use crate::stage::{Stage, build_budu};

const USAGE: &str = "usage: cargo xtask conformance engines [--runtime PATH] [--engine NAME] [--verbose] [FILTER]

Drives containerd and podman with the runtime (Budu when not given; a name without a slash is one of the peers' own).
FILTER leaves out the steps whose names do not contain it, except those that prepare others (marked `+`).
";

/// Time limit of one step.
const LIMIT: Duration = Duration::from_secs(60);

/// Something to do and what must come of it.
struct Step {
    /// What a user would call it; with `+` in front when later steps need it.
    name: &'static str,
    /// Shell script, run with `-e` and the engine's prelude.
    script: &'static str,
    /// Expected exit code.
    code: i32,
    /// Expected part of the output.
    says: &'static str,
}

/// The usual step: success, and `says` in the output.
const fn step(name: &'static str, script: &'static str, says: &'static str) -> Step {
    Step { name, script, code: 0, says }
}

/// A step that ends with an exit code of its own.
const fn fails(name: &'static str, code: i32, script: &'static str, says: &'static str) -> Step {
    Step { name, script, code, says }
}

/// An engine and what it is asked to do.
struct Engine {
    name: &'static str,
    /// Shell functions for its steps. `$R` is the runtime, `$D` the stage's directory, `$N` a name for the step's container.
    prelude: &'static str,
    /// Starts what must run in the background, if anything.
    daemon: Option<fn(&Stage) -> Result<()>>,
    steps: &'static [Step],
}

struct Options {
    runtime: Option<String>,
    engine: Option<String>,
    filter: String,
    verbose: bool,
}

/// Runs what `args` ask for.
pub(super) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    packages::ensure()?;
    images::ensure()?;
    if options.runtime.is_none() {
        build_budu()?;
    }
    let (mut passed, mut failed) = (0, Vec::new());
    let wanted = |engine: &&Engine| options.engine.as_deref().is_none_or(|name| name == engine.name);
    for engine in [containerd::ENGINE, podman::ENGINE].iter().filter(wanted) {
        let (good, bad) = drive(engine, &options)?;
        passed += good;
        failed.extend(bad);
    }
    let who = options.runtime.as_deref().unwrap_or("budu");
    println!("{who}: {passed} steps ok, {} failed", failed.len());
    ensure!(passed + failed.len() > 0, "no step was taken");
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options { runtime: None, engine: None, filter: String::new(), verbose: false };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--runtime" => options.runtime = Some(value()?.clone()),
            "--engine" => options.engine = Some(value()?.clone()),
            "--verbose" => options.verbose = true,
            filter if !filter.starts_with('-') => options.filter = filter.to_owned(),
            _ => return Ok(None),
        }
    }
    Ok(Some(options))
}

/// Takes an engine through its steps: how many went well, and the names of the others.
fn drive(engine: &Engine, options: &Options) -> Result<(usize, Vec<String>)> {
    let stage = Stage::new()?;
    let runtime = stage.runtime(options.runtime.as_deref())?;
    image(&stage)?;
    if let Some(daemon) = engine.daemon {
        daemon(&stage).with_context(|| format!("start {}", engine.name))?;
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (number, step) in engine.steps.iter().enumerate() {
        let prepares = step.name.starts_with('+');
        if !prepares && !step.name.contains(&options.filter) {
            continue;
        }
        let name = format!("{} {}", engine.name, step.name.trim_start_matches('+'));
        match take(&stage, engine, step, &[("R", &runtime), ("N", &format!("step{number}"))])? {
            Ok(said) => {
                println!("ok      {name}");
                if options.verbose {
                    println!("{}", indented(&said));
                }
                passed += 1;
            }
            Err(complaint) => {
                println!("FAILED  {name}\n{}", indented(&complaint));
                failed.push(name);
            }
        }
    }
    Ok((passed, failed))
}

/// Takes one step: what it printed, or what is wrong with it.
fn take(stage: &Stage, engine: &Engine, step: &Step, env: &[(&str, &str)]) -> Result<Result<String, String>> {
    let script = format!("{}\n{}", engine.prelude, step.script);
    // A step that hangs is ended from inside, with everything that has not left its process group.
    let seconds = LIMIT.as_secs().to_string();
    let argv = ["timeout", "-s", "KILL", &seconds, "sh", "-ec", &script];
    let dir = stage.path().display().to_string();
    let env = [&[("D", dir.as_str())], env].concat();
    let ended = stage.end(&stage.start(&argv, &env)?, LIMIT + Duration::from_secs(5))?;
    if ended.code == Some(step.code) && ended.said.contains(step.says) {
        return Ok(Ok(ended.said));
    }
    let wanted = format!("expected exit code {} and {:?}", step.code, step.says);
    Ok(Err(format!("{}\n{wanted}, but {}:\n{}", step.script.trim(), ended.how(), ended.said)))
}

/// Puts the busybox image on the stage, as a tar file in OCI format.
fn image(stage: &Stage) -> Result<()> {
    let (layout, tar) = (images::busybox_layout().display().to_string(), stage.path().join("busybox.tar"));
    let tar = tar.display().to_string();
    crate::run("tar", &["-C", &layout, "-cf", &tar, "oci-layout", "index.json", "blobs"])
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("        {line}")).collect();
    lines.join("\n")
}
