//! `GET /events`.

use budu_engine::EventStream;
use budu_spec::docker::{ApiVersion, Event};
use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};

use super::streams::instant;
use crate::http::{Body, Call, Failure, Reply, typed};

/// Types that a client can ask for by name: a line per event, or RFC 7464.
const TYPES: &[&str] = &["application/jsonl", "application/x-ndjson", SEQUENCE];
const SEQUENCE: &str = "application/json-seq";

/// `GET /events`.
pub(crate) async fn events(call: Call) -> Reply {
    let (since, until) = (instant(&call, "since")?, instant(&call, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let (since, until) = (call.query.text("since"), call.query.text("until"));
        return Err(Failure::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let events = call.app.engine.events().subscribe(call.filters()?, since, until);
    let version = call.version;
    let kind = wished(&call.headers).unwrap_or(match version < ApiVersion::new(52) {
        true => "application/json",
        false => "application/jsonl",
    });
    let lines = stream::unfold(events, move |mut events: EventStream| async move {
        loop {
            let event = events.next().await?;
            // Nobody built images in those days.
            if version >= ApiVersion::new(46) || event.kind != "image" || event.action != "create" {
                return Some((line(&event, version, kind), events));
            }
        }
    });
    Ok(typed(StatusCode::OK, kind, Body::stream(lines)))
}

/// The first type of the `Accept` header that is one of ours, to the letter.
fn wished(headers: &HeaderMap) -> Option<&'static str> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|text| text.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim())
        .find_map(|kind| TYPES.iter().find(|known| **known == kind).copied())
}

/// One event with the fields older clients read.
fn line(event: &Event, version: ApiVersion, kind: &str) -> Bytes {
    let mut event = event.clone();
    if version < ApiVersion::new(52) && matches!(event.kind.as_str(), "container" | "image") {
        event.status.clone_from(&event.action);
        event.id.clone_from(&event.actor.id);
        if event.kind == "container" {
            event.from = event.actor.attributes.get("image").cloned().unwrap_or_default();
        }
    }
    let mut bytes = if kind == SEQUENCE { vec![0x1e] } else { Vec::new() };
    // Writing to memory does not fail, and an event is always JSON.
    let _ = serde_json::to_writer(&mut bytes, &event);
    bytes.push(b'\n');
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use budu_spec::docker::Actor;

    #[test]
    fn events_carry_the_old_fields_for_old_clients() {
        let actor = Actor { id: "abc".into(), attributes: [("image".to_owned(), "x".to_owned())].into() };
        let event = Event { kind: "container".into(), action: "die".into(), actor, ..Event::default() };
        let value = |minor, kind| -> serde_json::Value {
            let text = line(&event, ApiVersion::new(minor), kind);
            serde_json::from_slice(text.strip_prefix(b"\x1e").unwrap_or(&text)).unwrap()
        };
        let old = value(51, "application/json");
        assert_eq!((&old["status"], &old["id"], &old["from"]), (&"die".into(), &"abc".into(), &"x".into()));
        assert!(value(52, "application/jsonl").get("status").is_none());
        assert!(line(&event, ApiVersion::new(52), SEQUENCE).starts_with(b"\x1e{"));
    }

    #[test]
    fn types_are_taken_to_the_letter() {
        let headers = |text: &str| HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())]);
        assert_eq!(wished(&headers("text/html, application/json-seq;q=0.5, */*")), Some(SEQUENCE));
        assert_eq!(wished(&headers("*/*")), None);
        assert_eq!(wished(&headers("application/json")), None);
    }
}
