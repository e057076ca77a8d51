//! Answers that take their time: events, logs, attach, wait.

use budu_engine::{AttachOptions, EventStream, LogOptions, WaitCondition};
use budu_spec::docker::{ApiVersion, Event};
use budu_spec::units::parse_time;
use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use jiff::Timestamp;

use crate::http::{Body, Call, Failure, Reply, content_type, typed};

/// A time parameter in nanoseconds; `0` and nothing mean no limit.
fn instant(call: &Call, key: &str) -> Result<Option<i64>, Failure> {
    match call.query.get(key) {
        None | Some("0") => Ok(None),
        Some(text) => {
            let time = parse_time(text, Timestamp::now())?;
            Ok(Some(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
        }
    }
}

/// `GET /events`.
pub(crate) async fn events(call: Call) -> Reply {
    let (since, until) = (instant(&call, "since")?, instant(&call, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Failure::invalid("`since` time cannot be after `until` time"));
    }
    // A limit in the future needs no replay, one in the past needs only that.
    let since = if until.is_some() { since.or(Some(i64::MAX)) } else { since };
    let events = call.app.engine.events().subscribe(call.filters()?, since, until)?;
    let version = call.version;
    let lines = stream::unfold(events, move |mut events: EventStream| async move {
        let event = events.next().await?;
        Some((line(&event, version), events))
    });
    Ok(typed(StatusCode::OK, "application/json", Body::stream(lines)))
}

/// One event with the fields older clients read.
fn line(event: &Event, version: ApiVersion) -> Bytes {
    let mut event = event.clone();
    if version < ApiVersion::new(52) && matches!(event.kind.as_str(), "container" | "image") {
        event.status.clone_from(&event.action);
        event.id.clone_from(&event.actor.id);
        if event.kind == "container" {
            event.from = event.actor.attributes.get("image").cloned().unwrap_or_default();
        }
    }
    let mut bytes = serde_json::to_vec(&event).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

/// `GET /containers/{id}/logs`.
pub(crate) async fn logs(call: Call) -> Reply {
    let query = &call.query;
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        since: instant(&call, "since")?,
        until: instant(&call, "until")?,
        // Anything that is no number means all, as in Docker.
        tail: query.get("tail").and_then(|t| t.parse().ok()),
    };
    let log = call.app.engine.logs(&call.name, options)?;
    let kind = content_type(log.tty(), call.version);
    let pieces = stream::unfold(log, |mut log| async move { log.next().await.map(|piece| (piece, log)) });
    Ok(typed(StatusCode::OK, kind, Body::stream(pieces)))
}

/// `POST /containers/{id}/attach`.
pub(crate) async fn attach(call: Call) -> Reply {
    let query = &call.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.text("detachKeys").to_owned(),
    };
    let session = call.app.engine.attach(&call.name, options).await?;
    let kind = content_type(session.tty(), call.version);
    call.hijack(kind, |channel| async move {
        session.run(channel.reader, channel.writer).await;
    })
}

/// `POST /containers/{id}/wait`.
pub(crate) async fn wait(call: Call) -> Reply {
    // Clients before 1.30 do not send a condition; one that does means it.
    let condition: WaitCondition = call.query.text("condition").parse()?;
    let exit = call.app.engine.wait(&call.name, condition)?;
    let body = Body::later(async move {
        let mut bytes = serde_json::to_vec(&exit.await).unwrap_or_default();
        bytes.push(b'\n');
        bytes.into()
    });
    Ok(typed(StatusCode::OK, "application/json", body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use budu_spec::docker::Actor;

    #[test]
    fn events_carry_the_old_fields_too() {
        let actor = Actor { id: "abc".into(), attributes: [("image".to_owned(), "x".to_owned())].into() };
        let event = Event { kind: "container".into(), action: "die".into(), actor, ..Event::default() };
        let text = line(&event, ApiVersion::new(51));
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&value["status"], &value["id"], &value["from"]), (&"die".into(), &"abc".into(), &"x".into()));
    }
}
