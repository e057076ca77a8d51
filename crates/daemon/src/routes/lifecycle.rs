//! Containers: start, stop and everything between.

use budu_spec::docker::ApiVersion;

use crate::http::{Call, Failure, Reply, no_content};

/// `POST /containers/{id}/start`.
pub(crate) async fn start(call: Call) -> Reply {
    call.no_body()?;
    if call.query.get("checkpoint").is_some() {
        return Err(Failure::not_implemented("starting from a checkpoint"));
    }
    call.app.engine.start(&call.name).await?;
    no_content()
}

/// Signal and timeout of a stop.
fn terms(call: &Call) -> Result<(Option<&str>, Option<i64>), Failure> {
    let signal = call.query.get("signal").filter(|_| call.version >= ApiVersion::new(42));
    Ok((signal, call.query.number("t")?))
}

/// `POST /containers/{id}/stop`.
pub(crate) async fn stop(call: Call) -> Reply {
    let (signal, timeout) = terms(&call)?;
    call.app.engine.stop(&call.name, signal, timeout).await?;
    no_content()
}

/// `POST /containers/{id}/restart`.
pub(crate) async fn restart(call: Call) -> Reply {
    let (signal, timeout) = terms(&call)?;
    call.app.engine.restart(&call.name, signal, timeout).await?;
    no_content()
}

/// `POST /containers/{id}/kill`.
pub(crate) async fn kill(call: Call) -> Reply {
    call.app.engine.kill(&call.name, call.query.get("signal")).await?;
    no_content()
}

/// `POST /containers/{id}/pause`.
pub(crate) async fn pause(call: Call) -> Reply {
    call.app.engine.pause(&call.name).await?;
    no_content()
}

/// `POST /containers/{id}/unpause`.
pub(crate) async fn unpause(call: Call) -> Reply {
    call.app.engine.unpause(&call.name).await?;
    no_content()
}

/// Height and width of a terminal, both required.
pub(super) fn size(call: &Call) -> Result<(u16, u16), Failure> {
    let side = |key: &str, name: &str| {
        let text = call.query.text(key);
        let bad = |_| Failure::invalid(format!("invalid resize {name} \"{text}\": invalid syntax"));
        let value: u32 = text.parse().map_err(bad)?;
        Ok::<_, Failure>(u16::try_from(value).unwrap_or(u16::MAX))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

/// `POST /containers/{id}/resize`.
pub(crate) async fn resize(call: Call) -> Reply {
    let (rows, cols) = size(&call)?;
    call.app.engine.resize(&call.name, rows, cols).await?;
    Ok(hyper::Response::new(crate::http::Body::empty()))
}

/// `POST /containers/{id}/rename`.
pub(crate) async fn rename(call: Call) -> Reply {
    call.app.engine.rename(&call.name, call.query.text("name")).await?;
    no_content()
}

/// `DELETE /containers/{id}`.
pub(crate) async fn remove(call: Call) -> Reply {
    if call.query.flag("link") {
        call.app.engine.remove_link(&call.name).await?;
        return no_content();
    }
    call.app.engine.remove(&call.name, call.query.flag("force"), call.query.flag("v")).await?;
    no_content()
}
