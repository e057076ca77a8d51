//! Many short lives, and what they cost the daemon.

use std::time::Instant;

use anyhow::{Result, ensure};
use budu_testkit::Engine;

use super::{Options, create, descriptors};

/// How much the daemon's memory may grow from the first tenth to the end, in bytes: caches fill, leaks go on.
const GROWTH: u64 = 2 << 20;

/// Runs the subject; its figures.
pub(super) fn run(options: &Options) -> Result<String> {
    let count = options.count.unwrap_or(10_000);
    let engine = super::engine(options)?;
    let mut connection = engine.connect()?;
    let begin = Instant::now();
    let (mut memory, mut open) = (Vec::new(), Vec::new());
    let tenth = count.div_ceil(10).max(1);
    for round in 1..=count {
        let id = create(&mut connection, "exit 0")?;
        for (method, target) in [("POST", "/start"), ("POST", "/wait"), ("DELETE", "")] {
            let answer = connection.send(method, &format!("/containers/{id}{target}"), None)?;
            ensure!(answer.status < 300, "{method} {target}: {}", answer.text());
        }
        if round % tenth == 0 || round == count {
            memory.push(anonymous(&engine));
            open.push(descriptors(&engine));
            println!(
                "        {round} lives: {} KB, {} descriptors",
                memory[memory.len() - 1] >> 10,
                open[open.len() - 1]
            );
        }
    }
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    ensure!(last < first + GROWTH, "the daemon's memory grew from {} KB to {} KB", first >> 10, last >> 10);
    ensure!(open[open.len() - 1] <= open[0] + 8, "descriptors: {open:?}");
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    drop(connection);
    engine.finish()?;
    Ok(format!(
        "{count} lives, {rate:.0} per second; {} KB after a tenth, {} KB at the end; census equal",
        first >> 10,
        last >> 10
    ))
}

/// Memory of the daemon in bytes. Pages of its file do not count: whose they are depends on who else runs it.
fn anonymous(engine: &Engine) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", engine.daemon_pid())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}
