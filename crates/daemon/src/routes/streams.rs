//! Answers that take their time: logs, attach, wait.

use budu_engine::{AttachOptions, LogOptions, WaitCondition};
use budu_spec::docker::ApiVersion;
use budu_spec::units::parse_time;
use futures_util::stream;
use hyper::StatusCode;
use jiff::Timestamp;

use crate::http::{Body, Call, Failure, Reply, content_type, ok, typed};

/// A time parameter in nanoseconds; `0` and nothing mean no limit.
pub(super) fn instant(call: &Call, key: &str) -> Result<Option<i64>, Failure> {
    match call.query.get(key) {
        None | Some("0") => Ok(None),
        Some(text) => {
            let time = parse_time(text, Timestamp::now())?;
            Ok(Some(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
        }
    }
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
        plain: false,
    };
    let session = call.app.engine.attach(&call.name, options).await?;
    let kind = content_type(session.tty(), call.version);
    call.hijack(kind, |channel| async move {
        session.run(channel).await;
    })
}

/// `GET /containers/{id}/attach/ws`.
pub(crate) async fn attach_websocket(call: Call) -> Reply {
    let query = &call.query;
    // Before 1.42 everything was attached, whatever was asked for.
    let wants = |key: &str| call.version < ApiVersion::new(42) || query.flag(key);
    let options = AttachOptions {
        stdin: wants("stdin"),
        stdout: wants("stdout"),
        stderr: wants("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.text("detachKeys").to_owned(),
        plain: true,
    };
    let session = call.app.engine.attach(&call.name, options).await?;
    call.websocket(|channel| async move {
        session.run(channel).await;
    })
}

/// `POST /containers/{id}/wait`.
pub(crate) async fn wait(call: Call) -> Reply {
    // Clients before 1.30 do not send a condition; one that does means it.
    let condition: WaitCondition = call.query.text("condition").parse()?;
    let exit = call.app.engine.wait(&call.name, condition)?;
    if call.version < ApiVersion::new(30) && call.query.get("condition").is_none() {
        // They take the answer's head for the exit.
        return ok(&exit.await);
    }
    let body = Body::later(async move {
        let mut bytes = serde_json::to_vec(&exit.await).unwrap_or_default();
        bytes.push(b'\n');
        bytes.into()
    });
    Ok(typed(StatusCode::OK, "application/json", body))
}
