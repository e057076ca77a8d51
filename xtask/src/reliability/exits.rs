//! Containers that end while no daemon runs.

use std::time::Duration;

use anyhow::{Result, ensure};
use budu_testkit::wait;
use rustix::process::Signal;

use super::{Dice, Options, start, state};

/// How many end at a time.
const BATCH: usize = 50;

/// Runs the subject; its figures.
pub(super) fn run(options: &Options) -> Result<String> {
    let count = options.count.unwrap_or(1000);
    let engine = super::engine(options)?;
    let mut dice = Dice(options.seed);
    let (mut right, mut wrong) = (0, Vec::new());
    while right + wrong.len() < count {
        let mut batch = Vec::new();
        let mut connection = engine.connect()?;
        for _ in 0..BATCH.min(count - right - wrong.len()) {
            let code = i64::try_from(dice.below(256))?;
            // All end when we say so, after the daemon is dead.
            let id = start(&mut connection, &format!("while [ ! -e /go ]; do usleep 10000; done; exit {code}"))?;
            let pid = state(&engine, &id)?["Pid"].as_i64().unwrap_or(0);
            batch.push((id, code, pid));
        }
        engine.stop_daemon(Signal::KILL)?;
        for (_, _, pid) in &batch {
            std::fs::write(format!("/proc/{pid}/root/go"), "")?;
        }
        wait::until("the containers' ends", Duration::from_secs(60), || {
            let gone = |pid: &i64| !std::path::Path::new(&format!("/proc/{pid}")).exists();
            batch.iter().all(|(_, _, pid)| gone(pid)).then_some(())
        })?;
        engine.start_daemon()?;
        for (id, code, _) in batch {
            let ended = wait::until("the container's end", Duration::from_secs(20), || {
                state(&engine, &id).ok().filter(|state| state["Status"] == "exited")
            })?;
            if ended["ExitCode"] == code {
                right += 1
            } else {
                wrong.push(format!("{code}: {}", ended["ExitCode"]))
            }
            engine.http("DELETE", &format!("/containers/{id}"), None)?;
        }
    }
    ensure!(wrong.is_empty(), "{right} right, {} wrong: {}", wrong.len(), wrong.join(", "));
    engine.finish()?;
    Ok(format!("{right} exit codes are right, census equal"))
}
