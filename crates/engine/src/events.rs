//! Events: one broadcast channel and the last 256 happenings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use budu_spec::Filters;
use budu_spec::docker::{Actor, Event};
use budu_spec::filter::FilterError;
use tokio::sync::broadcast;

use crate::clock;

/// Events kept for `since`, as many as Docker keeps.
const KEPT: usize = 256;

/// Filter keys of `GET /events`.
const KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The channel all happenings go through. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Channel>);

#[derive(Debug)]
struct Channel {
    kept: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Events {
        let (sender, _) = broadcast::channel(KEPT);
        Events(Arc::new(Channel { kept: Mutex::new(VecDeque::new()), sender }))
    }
}

impl Events {
    /// Tells everybody what happened to `id`.
    pub fn publish(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = clock::now();
        let event = Arc::new(Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local".to_owned(),
            time: now / 1_000_000_000,
            time_nano: now,
            ..Event::default()
        });
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        // Sent under the lock, so that a subscriber sees each event exactly once.
        let _ = self.0.sender.send(event);
    }

    /// Listens from now on, after the kept events that are not older than
    /// `since` (nanoseconds), up to `until`. Without `since` nothing is replayed.
    pub fn subscribe(
        &self,
        filters: Filters,
        since: Option<i64>,
        until: Option<i64>,
    ) -> Result<EventStream, FilterError> {
        filters.check_keys(KEYS)?;
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let past = match since {
            Some(since) => kept.iter().filter(|e| e.time_nano >= since).cloned().collect(),
            None => VecDeque::new(),
        };
        Ok(EventStream { past, receiver: self.0.sender.subscribe(), filters, until })
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.0.sender.receiver_count()
    }
}

/// A listener's events. A listener that falls more than 256 events behind
/// loses the oldest.
#[derive(Debug)]
pub struct EventStream {
    past: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
    filters: Filters,
    until: Option<i64>,
}

impl EventStream {
    /// Returns the next event that passes the filters; `None` when `until` is over.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => self.receive().await?,
            };
            if self.until.is_some_and(|until| event.time_nano > until) {
                return None;
            }
            if passes(&self.filters, &event) {
                return Some(event);
            }
        }
    }

    async fn receive(&mut self) -> Option<Arc<Event>> {
        let left = self.until.map(|until| u64::try_from(until - clock::now()).unwrap_or(0));
        loop {
            let next = match left {
                None => self.receiver.recv().await,
                Some(nanos) => {
                    tokio::time::timeout(std::time::Duration::from_nanos(nanos), self.receiver.recv()).await.ok()?
                }
            };
            match next {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Tells whether an event passes the filters.
fn passes(filters: &Filters, event: &Event) -> bool {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    let object = |kind: &str| {
        let wishes = filters.values(kind);
        wishes.is_empty()
            || (event.kind == kind
                && wishes.iter().any(|w| w == name || (!w.is_empty() && event.actor.id.starts_with(w.as_str()))))
    };
    let image = || {
        let wishes = filters.values("image");
        let of = if event.kind == "image" {
            event.actor.id.as_str()
        } else {
            event.actor.attributes.get("image").map_or("", String::as_str)
        };
        wishes.is_empty() || wishes.iter().any(|w| w == of || w == name || of.split(':').next() == Some(w.as_str()))
    };
    let action = || {
        let wishes = filters.values("event");
        let short = event.action.split(':').next().unwrap_or_default();
        wishes.is_empty() || wishes.iter().any(|w| *w == event.action || w == short)
    };
    filters.allows("type", &event.kind)
        && filters.allows("scope", &event.scope)
        && action()
        && image()
        && ["container", "network", "volume", "daemon", "plugin", "service", "node", "secret", "config"]
            .into_iter()
            .all(object)
        && filters.labels_match(&event.actor.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[tokio::test]
    async fn since_replays_and_until_ends() {
        let events = Events::default();
        events.publish("container", "start", "abc", attributes(&[("name", "web")]));
        let mut stream = events.subscribe(Filters::default(), Some(0), Some(clock::now())).unwrap();
        assert_eq!(stream.next().await.unwrap().action, "start");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn only_the_last_256_are_kept() {
        let events = Events::default();
        for i in 0..300 {
            events.publish("container", &i.to_string(), "x", BTreeMap::new());
        }
        let mut stream = events.subscribe(Filters::default(), Some(0), Some(clock::now())).unwrap();
        assert_eq!(stream.next().await.unwrap().action, "44");
    }

    #[test]
    fn filters_by_name_prefix_label_image_and_action() {
        let event = Event {
            kind: "container".into(),
            action: "exec_start: sh".into(),
            actor: Actor {
                id: "abcdef".into(),
                attributes: attributes(&[("name", "web"), ("image", "nginx:1"), ("tier", "a")]),
            },
            scope: "local".into(),
            ..Event::default()
        };
        for (json, want) in [
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["other"]}"#, false),
            (r#"{"event":["exec_start"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"image":["nginx"]}"#, true),
            (r#"{"label":["tier=a"]}"#, true),
            (r#"{"type":["network"]}"#, false),
        ] {
            assert_eq!(passes(&Filters::parse(json).unwrap(), &event), want, "{json}");
        }
        assert!(Events::default().subscribe(Filters::parse(r#"{"nope":["x"]}"#).unwrap(), None, None).is_err());
    }
}
