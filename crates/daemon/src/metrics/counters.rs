//! What is counted while requests are served.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets that Prometheus' own libraries use, seconds.
pub(super) const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Requests that are timed: method and pattern, whose action it is, its name.
const TIMED: &[(&str, &str, Kind, &str)] = &[
    ("POST", "/containers/create", Kind::Container, "create"),
    ("POST", "/containers/{id}/start", Kind::Container, "start"),
    ("DELETE", "/containers/{id}", Kind::Container, "delete"),
    ("GET", "/containers/{id}/changes", Kind::Container, "changes"),
    ("POST", "/commit", Kind::Container, "commit"),
    ("POST", "/networks/create", Kind::Network, "create"),
    ("DELETE", "/networks/{id}", Kind::Network, "delete"),
    ("POST", "/networks/{id}/connect", Kind::Network, "connect"),
    ("POST", "/networks/{id}/disconnect", Kind::Network, "disconnect"),
    ("DELETE", "/images/{name}", Kind::Image, "delete"),
    ("POST", "/images/{name}/tag", Kind::Image, "tag"),
    ("GET", "/info", Kind::Host, "system_info"),
    ("GET", "/version", Kind::Host, "system_version"),
];

/// Whose action it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Container,
    Network,
    Image,
    Host,
}

/// How long actions took.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Times {
    /// Actions up to each of [`BUCKETS`].
    pub(super) buckets: [u64; BUCKETS.len()],
    /// All of them.
    pub(super) count: u64,
    /// Seconds.
    pub(super) sum: f64,
}

/// What was counted since the start.
#[derive(Debug)]
pub(crate) struct Counters(Mutex<BTreeMap<(Kind, &'static str), Times>>);

impl Default for Counters {
    /// As in Docker, the actions of containers are there from the start.
    fn default() -> Counters {
        let known = TIMED.iter().filter(|(_, _, kind, _)| *kind == Kind::Container);
        Counters(Mutex::new(known.map(|(_, _, kind, action)| ((*kind, *action), Times::default())).collect()))
    }
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Kind, &'static str), Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request for `pattern` was served.
    pub(crate) fn note(&self, method: &str, pattern: &str, took: Duration) {
        let Some((_, _, kind, action)) = TIMED.iter().find(|(m, p, _, _)| *m == method && *p == pattern) else {
            return;
        };
        let seconds = took.as_secs_f64();
        let mut all = self.lock();
        let times = all.entry((*kind, *action)).or_default();
        times.count += 1;
        times.sum += seconds;
        for (bucket, end) in times.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= end);
        }
    }

    /// Times by action.
    pub(super) fn times(&self, kind: Kind) -> Vec<(&'static str, Times)> {
        let all = self.lock();
        all.iter().filter(|((k, _), _)| *k == kind).map(|((_, action), times)| (*action, times.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let counters = Counters::default();
        counters.note("POST", "/containers/{id}/start", Duration::from_millis(30));
        counters.note("POST", "/containers/{id}/start", Duration::from_secs(20));
        counters.note("GET", "/nope", Duration::ZERO);
        let times = counters.times(Kind::Container);
        let (_, start) = times.iter().find(|(action, _)| *action == "start").unwrap();
        assert_eq!((start.count, start.buckets[2], start.buckets[3], start.buckets[10]), (2, 0, 1, 1));
        assert!(times.iter().any(|(action, times)| *action == "commit" && times.count == 0));
    }
}
