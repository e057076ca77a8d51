//! Events: one broadcast channel and the last happenings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use budu_spec::docker::{Actor, Event};
use budu_spec::{Filters, Reference};
use tokio::sync::broadcast;

use crate::clock;

/// Events kept for `since`; Docker keeps 256.
const KEPT: usize = 1024;
/// How far a listener may fall behind before it is dropped.
const BEHIND: usize = 4096;

/// The channel all happenings go through. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Channel>);

#[derive(Debug)]
struct Channel {
    kept: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
    published: AtomicU64,
}

impl Default for Events {
    fn default() -> Events {
        let (sender, _) = broadcast::channel(BEHIND);
        Events(Arc::new(Channel { kept: Mutex::new(VecDeque::new()), sender, published: AtomicU64::new(0) }))
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
        self.0.published.fetch_add(1, Ordering::Relaxed);
        // Sent under the lock, so that a subscriber sees each event exactly once.
        let _ = self.0.sender.send(event);
    }

    /// Listens from now on, up to `until`, after the kept events that are not
    /// older than `since` (both nanoseconds). With `until` alone all kept events
    /// come first; without either none do.
    pub fn subscribe(&self, filters: Filters, since: Option<i64>, until: Option<i64>) -> EventStream {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let past = match since.or(until.map(|_| 0)) {
            Some(since) => kept.iter().filter(|e| e.time_nano >= since).cloned().collect(),
            None => VecDeque::new(),
        };
        EventStream { past, receiver: self.0.sender.subscribe(), filters, until }
    }

    /// How many events there have been.
    pub fn published(&self) -> u64 {
        self.0.published.load(Ordering::Relaxed)
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.0.sender.receiver_count()
    }
}

/// A listener's events. One that falls more than 4096 events behind is at its
/// end: a gap that nobody hears of would be worse.
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
        let next = match left {
            None => self.receiver.recv().await,
            Some(nanos) => {
                tokio::time::timeout(std::time::Duration::from_nanos(nanos), self.receiver.recv()).await.ok()?
            }
        };
        if let Err(broadcast::error::RecvError::Lagged(missed)) = &next {
            tracing::warn!(missed, "a listener to events was too slow and is let go");
        }
        next.ok()
    }
}

/// Objects that events are filtered by, as ids or names.
const OBJECTS: &[&str] = &["daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"];
/// Actions that carry a detail after a colon, and are filtered for without it.
const DETAILED: &[&str] = &["health_status", "exec_create", "exec_start"];

/// Tells whether an event passes the filters. As in Docker an object is wished
/// for by the beginning of its id or name, and one that is wished for lets pass
/// whatever has such an id or name, of whatever type.
fn passes(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.actor.attributes.get(key).map_or("", String::as_str);
    let name = attribute("name");
    let object = |kind: &&str| {
        let wishes = filters.values(kind);
        wishes.is_empty()
            || wishes.iter().any(|w| event.actor.id.starts_with(w.as_str()) || name.starts_with(w.as_str()))
    };
    filters.allows("type", &event.kind)
        && filters.allows("scope", &event.scope)
        && action(filters.values("event"), &event.action)
        && image(filters.values("image"), event)
        && OBJECTS.iter().all(object)
        && filters.labels_match(&event.actor.attributes)
}

fn action(wishes: &[String], action: &str) -> bool {
    let fuzzy = wishes.iter().any(|w| DETAILED.contains(&w.as_str()));
    wishes.is_empty() || wishes.iter().any(|w| w == action || fuzzy && action.starts_with(w.as_str()))
}

/// An image event is about its image, a container event about the container's.
fn image(wishes: &[String], event: &Event) -> bool {
    let key = if event.kind == "image" { "name" } else { "image" };
    let name = event.actor.attributes.get(key).map_or("", String::as_str);
    let untagged = |name: &str| name.parse::<Reference>().map(|r| r.familiar_name()).unwrap_or_default();
    let names = [event.actor.id.clone(), name.to_owned(), untagged(&event.actor.id), untagged(name)];
    wishes.is_empty() || wishes.iter().any(|wish| !wish.is_empty() && names.contains(wish))
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
        let mut stream = events.subscribe(Filters::default(), Some(0), Some(clock::now()));
        assert_eq!(stream.next().await.unwrap().action, "start");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn only_the_last_256_are_kept() {
        let events = Events::default();
        for i in 0..KEPT + 44 {
            events.publish("container", &i.to_string(), "x", BTreeMap::new());
        }
        let mut stream = events.subscribe(Filters::default(), Some(0), Some(clock::now()));
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
            (r#"{"container":["we"]}"#, true),
            (r#"{"image":["nginx:1"]}"#, true),
            (r#"{"image":["ngin"]}"#, false),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
            (r#"{"label":["tier=b"]}"#, false),
            (r#"{"container":["other"]}"#, false),
            (r#"{"event":["exec_start"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"image":["nginx"]}"#, true),
            (r#"{"label":["tier=a"]}"#, true),
            (r#"{"type":["network"]}"#, false),
        ] {
            assert_eq!(passes(&Filters::parse(json).unwrap(), &event), want, "{json}");
        }
    }
}
