//! `cargo xtask reliability`: what must hold when the daemon dies, when it works for long, and when the disk is full.

mod cycles;
mod exits;
mod full_disk;
mod kills;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::http::Connection;
use budu_testkit::{Backend, Engine, images};
use serde_json::{Value, json};

use crate::packages;
use crate::stage::build_budu;

const USAGE: &str = "usage: cargo xtask reliability [SUBJECT]... [--count N] [--seed N] [--dockerd]

Subjects (all, one after the other, when none is named):
  kills      500 SIGKILLs of the daemon at random moments under load: same processes, no lost exit code, no gap in logs
  exits      1,000 containers that end while no daemon runs: every exit code is right afterwards
  cycles     10,000 times create, start, wait, remove: memory and descriptors stay flat
  full-disk  commands on a full disk: a clear error, and success as soon as there is room again

Each ends with a census of mounts, cgroups, links, firewall elements, processes and files. --count sets the number of
kills, containers or cycles; --seed repeats a run. --dockerd asks Docker's daemon, to compare. A binary in $BUDU_BIN is
used as it is.
";

/// What a run is to do.
pub(crate) struct Options {
    count: Option<usize>,
    seed: u64,
    backend: Backend,
}

/// Runs what `args` ask for.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_nanos()));
    let mut options = Options { count: None, seed: now, backend: Backend::Budu };
    let mut subjects = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--count" => options.count = Some(value()?.parse()?),
            "--seed" => options.seed = value()?.parse()?,
            "--dockerd" => options.backend = Backend::Dockerd,
            "kills" | "exits" | "cycles" | "full-disk" => subjects.push(word.as_str()),
            _ => {
                print!("{USAGE}");
                return Ok(());
            }
        }
    }
    packages::ensure()?;
    build_budu()?;
    if subjects.is_empty() {
        subjects = vec!["kills", "exits", "cycles", "full-disk"];
    }
    println!("seed {}", options.seed);
    let mut failed = Vec::new();
    for subject in subjects {
        let done = match subject {
            "kills" => kills::run(&options),
            "exits" => exits::run(&options),
            "cycles" => cycles::run(&options),
            _ => full_disk::run(&options),
        };
        match done {
            Ok(figures) => println!("ok      {subject}: {figures}"),
            Err(error) => {
                println!("FAILED  {subject}: {error:#}");
                failed.push(subject);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn engine(options: &Options) -> Result<Engine> {
    let wanted = budu_testkit::Options {
        backend: Some(options.backend),
        images: vec![images::BUSYBOX],
        ..budu_testkit::Options::default()
    };
    Engine::start(wanted)
}

/// Creates a container that runs a shell script; its id.
fn create(connection: &mut Connection, script: &str) -> Result<String> {
    let body = json!({"Image": images::BUSYBOX, "Cmd": ["sh", "-c", script], "StopTimeout": 0});
    let answer = connection.send("POST", "/containers/create", Some(&body))?;
    ensure!(answer.status == 201, "create: {}", answer.text());
    Ok(answer.json()["Id"].as_str().context("no id")?.to_owned())
}

/// Creates and starts one.
fn start(connection: &mut Connection, script: &str) -> Result<String> {
    let id = create(connection, script)?;
    let answer = connection.send("POST", &format!("/containers/{id}/start"), None)?;
    ensure!(answer.status == 204, "start: {}", answer.text());
    Ok(id)
}

fn state(engine: &Engine, id: &str) -> Result<Value> {
    let answer = engine.http("GET", &format!("/containers/{id}/json"), None)?;
    ensure!(answer.status == 200, "inspect {id}: {}", answer.text());
    Ok(answer.json()["State"].clone())
}

/// How many descriptors the daemon has open.
fn descriptors(engine: &Engine) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", engine.daemon_pid())).map_or(0, Iterator::count)
}

/// Numbers that are random enough, and the same again for the same seed.
struct Dice(u64);

impl Dice {
    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
