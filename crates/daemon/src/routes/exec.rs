//! Exec instances.

use budu_engine::{Error, ExecStarted};
use budu_runtime::protocol;
use budu_spec::docker::{ApiVersion, ExecCreate, ExecStart, IdAnswer};
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;

use super::lifecycle::size;
use crate::http::{Body, Call, Reply, content_type, json, ok};

/// `POST /containers/{id}/exec`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let wish: ExecCreate = call.json().await?;
    let id = call.app.engine.exec_create(&call.name, wish)?;
    json(StatusCode::CREATED, &IdAnswer { id })
}

/// `POST /exec/{id}/start`.
pub(crate) async fn start(mut call: Call) -> Reply {
    let mut wish: ExecStart = call.json().await?;
    let engine = call.app.engine.clone();
    engine.exec_startable(&call.name)?;
    // As Docker, the stream has the form the request names, even when the process has a terminal and this says no.
    let tty = wish.tty;
    if call.version < ApiVersion::new(42) {
        wish.console_size = None;
    }
    if wish.detach {
        engine.exec_start(&call.name, &wish).await?;
        return Ok(hyper::Response::new(Body::empty()));
    }
    // The connection is handed over first: clients that read the answer's head
    // through a buffer would lose what the program says in the same moment.
    let (kind, id) = (content_type(tty, call.version), call.name.clone());
    call.hijack(kind, move |mut channel| async move {
        match engine.exec_start(&id, &wish).await {
            Ok(ExecStarted::Attached(session)) => session.run(channel).await,
            Ok(ExecStarted::Detached) => {}
            // From here on failures can only be told in the stream.
            Err(error) => {
                let text = format!("{error}\r\n");
                if !tty {
                    // A command that cannot run is reported where its output would be, as Docker does.
                    let command = matches!(error, Error::Command { .. });
                    let stream = if command { protocol::STDOUT } else { protocol::STDERR };
                    let _ = channel.writer.write_all(&protocol::header(stream, text.len())).await;
                }
                let _ = channel.writer.write_all(text.as_bytes()).await;
                let _ = channel.writer.shutdown().await;
            }
        }
    })
}

/// `POST /exec/{id}/resize`.
pub(crate) async fn resize(call: Call) -> Reply {
    let (rows, cols) = size(&call)?;
    call.app.engine.exec_resize(&call.name, rows, cols).await?;
    Ok(hyper::Response::new(Body::empty()))
}

/// `GET /exec/{id}/json`.
pub(crate) async fn inspect(call: Call) -> Reply {
    ok(&call.app.engine.exec_inspect(&call.name)?)
}
