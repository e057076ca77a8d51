//! A container that prints a gigabyte: how long it takes, and what the engine spends on it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use budu_testkit::{Engine, images, wait};
use serde_json::json;

use super::contender::Contender;
use super::report::Report;

const ROUNDS: usize = 3;
const BYTES: u64 = 1_000_000_000;
const LIMIT: Duration = Duration::from_secs(600);

/// Measures every engine in turn.
pub(super) fn measure(contenders: &[Contender], report: &mut Report) -> Result<()> {
    for _ in 0..ROUNDS {
        for (contender, engine) in contenders.iter().filter_map(|one| Some((one, one.engine()?))) {
            let (taken, spent) = print_much(contender, engine).with_context(|| contender.name())?;
            report.time("l  1 GB of output, elapsed", contender.name(), taken);
            report.time("l  1 GB of output, processor time of the engine", contender.name(), spent);
        }
    }
    Ok(())
}

fn print_much(contender: &Contender, engine: &Engine) -> Result<(Duration, Duration)> {
    let dir = engine.path("client");
    let done = dir.join("printed");
    let _ = fs::remove_file(&done);
    // Lines of 100 bytes; afterwards it stays, so that its shim can still be asked what it spent.
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -c {BYTES}; touch /flag/printed; exec sleep 100000");
    let body = json!({
        "Image": images::BUSYBOX,
        "Cmd": ["sh", "-c", script],
        "HostConfig": {
            "Binds": [format!("{}:/flag", dir.display())],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "5"}},
        },
    });
    let created = engine.http("POST", "/containers/create", Some(&body))?;
    ensure!(created.status == 201, "create: {}", created.text());
    let id = created.json()["Id"].as_str().context("no id")?.to_owned();
    let before = spent(contender)?;
    let begin = Instant::now();
    let started = engine.http("POST", &format!("/containers/{id}/start"), None)?;
    ensure!(started.status == 204, "start: {}", started.text());
    wait::until("a gigabyte", LIMIT, || done.exists().then_some(()))?;
    let taken = begin.elapsed();
    let spent = spent(contender)?.saturating_sub(before);
    let removed = engine.http("DELETE", &format!("/containers/{id}?force=1"), None)?;
    ensure!(removed.status == 204, "remove: {}", removed.text());
    Ok((taken, spent))
}

/// Processor time of an engine's own processes so far.
fn spent(contender: &Contender) -> Result<Duration> {
    let cage = contender.cage().context("nothing to measure")?;
    let home = fs::read_link("/proc/self/ns/pid")?;
    let mut ticks = 0;
    for pid in cage.processes() {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let Ok(namespace) = fs::read_link(dir.join("ns/pid")) else { continue };
        let Ok(text) = fs::read_to_string(dir.join("stat")) else { continue };
        if namespace == home {
            ticks += of_stat(&text);
        }
    }
    // What /proc tells is in hundredths of a second on every Linux, proc(5).
    Ok(Duration::from_millis(ticks * 10))
}

/// User and system time of a `/proc/PID/stat` line, in ticks.
fn of_stat(text: &str) -> u64 {
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| after_name.split(' ').nth(number - 3).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    field(14) + field(15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process() {
        let line = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 25 0 0 20 0 1 0 100 1000 10";
        assert_eq!(of_stat(line), 75);
    }
}
