//! The task that probes one running container.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use budu_spec::docker::HealthResult;

use super::action::{Action, act};
use super::{Check, judge, probe, word};
use crate::container::Container;
use crate::container::record::Status;
use crate::{Engine, clock};

/// Begins to probe a container that runs, if it asks for it.
pub(in crate::container) fn start(engine: &Engine, container: &Arc<Container>) {
    let Some(check) = Check::of(&container.record().config) else { return };
    let (engine, watched) = (engine.clone(), Arc::clone(container));
    let task = tokio::spawn(async move { watch(engine, watched, check).await });
    let earlier = container.prober.lock().unwrap_or_else(PoisonError::into_inner).replace(task.abort_handle());
    if let Some(earlier) = earlier {
        earlier.abort();
    }
}

/// Probes no more.
pub(in crate::container) fn stop(container: &Container) {
    if let Some(task) = container.prober.lock().unwrap_or_else(PoisonError::into_inner).take() {
        task.abort();
    }
}

async fn watch(engine: Engine, container: Arc<Container>, check: Check) {
    let started = container.state().started_at;
    let age = |now: i64| Duration::from_nanos(u64::try_from(now - started).unwrap_or(0));
    loop {
        let pause = check.pause(age(clock::now()), super::name(&container.state()));
        tokio::time::sleep(pause).await;
        // Frozen programs answer nothing; that is not their fault.
        if container.state().status == Status::Paused {
            continue;
        }
        let before = age(clock::now());
        let result = probe::run(&engine, &container, &check).await;
        if container.state().status == Status::Running {
            settle(&engine, &container, &check, result, before);
        }
    }
}

fn settle(engine: &Engine, container: &Arc<Container>, check: &Check, result: HealthResult, age: Duration) {
    let status = {
        let mut state = container.state();
        let Some(health) = &mut state.health else { return };
        if !judge(health, check, result, age) {
            return;
        }
        health.status.clone()
    };
    engine.keep_state(container, false);
    engine.tell(container, &format!("health_status: {status}"), &[]);
    if status == word::UNHEALTHY
        && let Some(action) = Action::of(&container.record().config)
    {
        act(engine, container, action);
    }
}
