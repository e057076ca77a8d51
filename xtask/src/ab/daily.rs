//! What people and programs do all day with containers that run: a command in one, the list of all.

use anyhow::{Context, Result, ensure};
use budu_testkit::{Engine, images};
use serde_json::json;

use super::contender::Contender;
use super::report::Report;
use super::{Options, load, time};

/// `exec` of `true`, through command line and daemon.
pub(super) fn exec(contenders: &[Contender], options: &Options, report: &mut Report) -> Result<()> {
    let held: Vec<&Contender> = contenders.iter().filter(|one| one.engine().is_some()).collect();
    for contender in &held {
        contender.client(&["run", "-d", "--name", "target", images::BUSYBOX, "sleep", "100000"])?;
    }
    for round in 0..=options.rounds {
        for contender in &held {
            let taken = time(|| contender.client(&["exec", "target", "true"]))?;
            if round > 0 {
                report.time("e  exec CONTAINER true", contender.name(), taken);
            }
        }
    }
    held.iter().try_for_each(|contender| load::remove_all(contender))
}

/// The list of many containers that have ended.
pub(super) fn list(contenders: &[Contender], options: &Options, report: &mut Report) -> Result<()> {
    let held: Vec<(&Contender, &Engine)> = contenders.iter().filter_map(|one| Some((one, one.engine()?))).collect();
    for (_, engine) in &held {
        let mut connection = engine.connect()?;
        for _ in 0..options.containers {
            let wish = json!({"Image": images::BUSYBOX, "Cmd": ["true"]});
            let answer = connection.send("POST", "/containers/create", Some(&wish))?;
            ensure!(answer.status == 201, "create: {}", answer.text());
        }
    }
    for round in 0..=options.rounds {
        for (contender, engine) in &held {
            let taken = time(|| contender.client(&["ps", "-a"]))?;
            let mut connection = engine.connect()?;
            let asked = time(|| {
                let answer = connection.send("GET", "/containers/json?all=1", None)?;
                ensure!(answer.status == 200, "list: {}", answer.text());
                Ok(())
            })?;
            if round > 0 {
                report.time(&format!("g  ps -a with {} containers", options.containers), contender.name(), taken);
                report.time("g  the same through the API", contender.name(), asked);
            }
        }
    }
    held.iter().try_for_each(|(contender, _)| load::remove_all(contender)).context("remove the list")
}
