//! What the contenders are made to do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use budu_testkit::http::Connection;
use budu_testkit::{Engine, images};
use serde_json::json;

use super::contender::Contender;

/// One container's life through the API: each step and the whole, with the time it took.
pub(super) fn life(connection: &mut Connection) -> Result<Vec<(&'static str, Duration)>> {
    let whole = Instant::now();
    let mut steps = Vec::new();
    let mut step = Instant::now();
    let mut done = |name, steps: &mut Vec<_>| {
        steps.push((name, step.elapsed()));
        step = Instant::now();
    };
    let body = json!({"Image": images::BUSYBOX, "Cmd": ["true"]});
    let answer = connection.send("POST", "/containers/create", Some(&body))?;
    ensure!(answer.status == 201, "create: {}", answer.text());
    let id = answer.json()["Id"].as_str().context("no id")?.to_owned();
    done("create", &mut steps);
    let answer = connection.send("POST", &format!("/containers/{id}/start"), None)?;
    ensure!(answer.status == 204, "start: {}", answer.text());
    done("start", &mut steps);
    let answer = connection.send("POST", &format!("/containers/{id}/wait"), None)?;
    ensure!(answer.status == 200 && answer.json()["StatusCode"] == 0, "wait: {}", answer.text());
    done("wait", &mut steps);
    let answer = connection.send("DELETE", &format!("/containers/{id}"), None)?;
    ensure!(answer.status == 204, "remove: {}", answer.text());
    done("remove", &mut steps);
    steps.push(("create + start + wait + remove", whole.elapsed()));
    Ok(steps)
}

/// Starts `count` sleeping containers, `width` at a time.
pub(super) fn start_many(contender: &Contender, count: usize, width: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..width)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut connection = contender.engine().map(Engine::connect).transpose()?;
                    while next.fetch_add(1, Ordering::Relaxed) < count {
                        match &mut connection {
                            Some(connection) => start_by_api(connection)?,
                            None => contender.client(&["run", "-d", images::BUSYBOX, "sleep", "100000"])?,
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

fn start_by_api(connection: &mut Connection) -> Result<()> {
    let body = json!({"Image": images::BUSYBOX, "Cmd": ["sleep", "100000"]});
    let answer = connection.send("POST", "/containers/create", Some(&body))?;
    ensure!(answer.status == 201, "create: {}", answer.text());
    let id = answer.json()["Id"].as_str().context("no id")?.to_owned();
    let answer = connection.send("POST", &format!("/containers/{id}/start"), None)?;
    ensure!(answer.status == 204, "start: {}", answer.text());
    Ok(())
}

/// Removes every container, without measuring it.
pub(super) fn remove_all(contender: &Contender) -> Result<()> {
    let Some(engine) = contender.engine() else {
        return contender.client(&["rm", "-f", "-a", "-t", "0"]);
    };
    let list = engine.http("GET", "/containers/json?all=1", None)?.json();
    for container in list.as_array().into_iter().flatten() {
        let id = container["Id"].as_str().unwrap_or_default();
        let answer = engine.http("DELETE", &format!("/containers/{id}?force=1"), None)?;
        ensure!(answer.status == 204, "remove: {}", answer.text());
    }
    Ok(())
}
