//! `GET /containers/{id}/stats`.

use std::time::Duration;

use budu_engine::{Engine, Error};
use budu_spec::docker::{ApiVersion, ContainerStats};
use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::http::{Body, Call, Failure, Reply, ok, typed};

/// Between samples.
const PAUSE: Duration = Duration::from_secs(1);

/// `GET /containers/{id}/stats`.
pub(crate) async fn stats(call: Call) -> Reply {
    let (engine, name, version) = (call.app.engine.clone(), call.name.clone(), call.version);
    let first = sample(&engine, &name, version).await?;
    let streams = call.query.get("stream").is_none() || call.query.flag("stream");
    let one_shot = call.query.flag("one-shot") && version >= ApiVersion::new(41);
    if streams && one_shot {
        return Err(Failure::invalid("cannot have stream=true and one-shot=true"));
    }
    if streams {
        return Ok(typed(StatusCode::OK, "application/json", Body::stream(samples(engine, name, version, first))));
    }
    if one_shot || !engine.is_running(&name) {
        return ok(&first);
    }
    sleep(PAUSE).await;
    let second = sample(&engine, &name, version).await?;
    ok(&after(second, &first))
}

/// Samples without end, until the container is gone or the client is.
fn samples(
    engine: Engine,
    name: String,
    version: ApiVersion,
    first: ContainerStats,
) -> impl futures_util::Stream<Item = Bytes> {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = (engine, name, ticks, Some(first), None::<ContainerStats>);
    stream::unfold(start, move |(engine, name, mut ticks, first, before)| async move {
        ticks.tick().await;
        let now = match first {
            Some(first) => first,
            None => sample(&engine, &name, version).await.ok()?,
        };
        let shown = match &before {
            Some(before) => after(now.clone(), before),
            None => now.clone(),
        };
        let mut bytes = serde_json::to_vec(&shown).ok()?;
        bytes.push(b'\n');
        Some((Bytes::from(bytes), (engine, name, ticks, None, Some(now))))
    })
}

async fn sample(engine: &Engine, name: &str, version: ApiVersion) -> Result<ContainerStats, Failure> {
    let (engine, name) = (engine.clone(), name.to_owned());
    let work = move || engine.stats(&name);
    let sampled: Result<ContainerStats, Error> =
        tokio::task::spawn_blocking(work).await.map_err(|error| Failure::internal(error.to_string()))?;
    let mut stats = sampled?;
    stats.os_type = (version >= ApiVersion::new(52)).then(|| "linux".to_owned());
    Ok(stats)
}

/// A sample with what the one before it said about processors.
fn after(now: ContainerStats, before: &ContainerStats) -> ContainerStats {
    ContainerStats { preread: before.read.clone(), precpu_stats: before.cpu_stats.clone(), ..now }
}
