//! The daemon is killed again and again while containers come, go and talk.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use budu_testkit::{Engine, wait};
use rustix::process::Signal;

use super::{Dice, Options, create, descriptors, start, state};

/// Containers that talk during the whole run, and those that come and go at the same time.
const TALKERS: usize = 4;
const WORKERS: usize = 3;
/// Counts up, so that a lost line shows.
const TALK: &str = "i=0; while :; do echo $i; i=$((i+1)); usleep 20000; done";

/// A container that was started and whose exit code is known beforehand.
struct Promise {
    id: String,
    code: i64,
}

/// Runs the subject; its figures.
pub(super) fn run(options: &Options) -> Result<String> {
    let count = options.count.unwrap_or(500);
    let engine = super::engine(options)?;
    let mut dice = Dice(options.seed);
    let talkers = (0..TALKERS).map(|_| start(&mut engine.connect()?, TALK)).collect::<Result<Vec<_>>>()?;
    let pids = pids(&engine, &talkers)?;
    let before = descriptors(&engine);
    let (stop, lives) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = Instant::now();
    let promises = std::thread::scope(|scope| -> Result<Vec<Promise>> {
        for _ in 0..WORKERS {
            scope.spawn(|| work(&engine, &stop, &lives));
        }
        let done = killing(&engine, &mut dice, count, &talkers, &pids);
        stop.store(true, Ordering::Relaxed);
        done
    })?;
    let taken = begin.elapsed();
    for Promise { id, code } in &promises {
        kept(&engine, id, *code)?;
    }
    let lines = talkers.iter().map(|id| counted(&engine, id)).sum::<Result<usize>>()?;
    let after = descriptors(&engine);
    // A connection of the last request may not be closed yet.
    ensure!(after <= before + 3, "{before} descriptors before, {after} after");
    engine.finish()?;
    Ok(format!(
        "{count} kills in {} s under {} lives of containers; {TALKERS} containers kept their processes, {} exit codes are \
         right, {lines} log lines without a gap, census equal",
        taken.as_secs(),
        lives.load(Ordering::Relaxed),
        promises.len(),
    ))
}

fn killing(engine: &Engine, dice: &mut Dice, count: usize, talkers: &[String], pids: &[i64]) -> Result<Vec<Promise>> {
    let mut promises = Vec::new();
    for round in 0..count {
        let code = i64::try_from(dice.below(250))? + 1;
        let delay = dice.below(300_000);
        let id = start(&mut engine.connect()?, &format!("usleep {delay}; exit {code}"))?;
        promises.push(Promise { id, code });
        std::thread::sleep(Duration::from_micros(dice.below(250_000)));
        engine.stop_daemon(Signal::KILL)?;
        engine.start_daemon()?;
        let now = self::pids(engine, talkers)?;
        ensure!(now == pids, "round {round}: processes were {pids:?} and are {now:?}");
        if round % 50 == 49 {
            println!("        {} kills", round + 1);
        }
    }
    Ok(promises)
}

fn pids(engine: &Engine, ids: &[String]) -> Result<Vec<i64>> {
    ids.iter().map(|id| Ok(state(engine, id)?["Pid"].as_i64().unwrap_or(0))).collect()
}

/// Makes containers live and go, whatever becomes of the daemon.
fn work(engine: &Engine, stop: &AtomicBool, lives: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let life = || -> Result<()> {
            let mut connection = engine.connect()?;
            let id = create(&mut connection, "echo said; exit 0")?;
            connection.send("POST", &format!("/containers/{id}/start"), None)?;
            connection.send("POST", &format!("/containers/{id}/wait"), None)?;
            connection.send("DELETE", &format!("/containers/{id}?force=1"), None)?;
            Ok(())
        };
        match life() {
            Ok(()) => drop(lives.fetch_add(1, Ordering::Relaxed)),
            // Nobody listens at the moment.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn kept(engine: &Engine, id: &str, code: i64) -> Result<()> {
    let ended = wait::until("the container's end", Duration::from_secs(20), || {
        state(engine, id).ok().filter(|state| state["Status"] == "exited")
    })?;
    ensure!(ended["ExitCode"] == code, "{id} ended with {code}, and the daemon says {}", ended["ExitCode"]);
    Ok(())
}

/// Lines of a talker's log, which must count up from 0.
fn counted(engine: &Engine, id: &str) -> Result<usize> {
    engine.http("POST", &format!("/containers/{id}/kill"), None)?;
    engine.http("POST", &format!("/containers/{id}/wait"), None)?;
    let mut stream = engine.stream("GET", &format!("/containers/{id}/logs?stdout=1"), None)?;
    let mut text = Vec::new();
    // Frames in chunks: put the chunks together, then take the frames apart.
    while let Some(chunk) = stream.chunk()? {
        text.extend(chunk);
    }
    let mut said = String::new();
    let mut rest = text.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        ensure!(after.len() >= length, "a frame of {id} is cut off");
        let (line, after) = after.split_at(length);
        said.push_str(&String::from_utf8_lossy(line));
        rest = after;
    }
    for (expected, line) in said.lines().enumerate() {
        ensure!(line == expected.to_string(), "line {expected} of {id}'s log is {line:?}");
    }
    Ok(said.lines().count())
}
