//! List: many containers, a row each.

use std::collections::BTreeMap;
use std::sync::Arc;

use budu_spec::docker::{ApiVersion, ContainerSummary, EndpointSettings, HealthSummary, SummaryHostConfig};
use budu_spec::filter::FilterError;
use budu_spec::{Filters, units};

use super::record::{Record, State, Status};
use super::{Container, inspect, ports};
use crate::{Engine, Error, clock};

/// Filter keys of `GET /containers/json`.
const KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Which containers, and how much about them.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Not only those that run.
    pub all: bool,
    /// The newest ones, running or not; 0 is all.
    pub limit: usize,
    /// Walk the writable layers.
    pub size: bool,
    /// Filters.
    pub filters: Filters,
}

impl Engine {
    /// Lists containers, newest first.
    ///
    /// # Errors
    /// [`Error::Filter`], and [`Error::NoSuchContainer`] for `before` and `since`.
    pub fn list(&self, options: &ListOptions, version: ApiVersion) -> Result<Vec<ContainerSummary>, Error> {
        let filters = &options.filters;
        let wish = Wish::new(self, filters)?;
        let mut rows: Vec<(Arc<Container>, Arc<Record>, State)> =
            self.all().into_iter().map(|c| (Arc::clone(&c), c.record(), c.state().clone())).collect();
        rows.sort_by_key(|(_, record, _)| std::cmp::Reverse(record.created));
        let every = options.all || options.limit > 0 || !filters.values("status").is_empty();
        let left = rows.iter().any(|(_, _, state)| inspect::has_left(state));
        let ids = if every && left { self.network_ids() } else { BTreeMap::new() };
        let mut list = Vec::new();
        for (container, record, state) in rows {
            if options.limit > 0 && list.len() == options.limit {
                break;
            }
            if (!every && !state.status.is_running()) || !wish.takes(&record, &state) {
                continue;
            }
            let mut row = summary(&record, &state, version);
            row.network_settings.networks = brief_networks(&record, &state, version, &ids);
            if options.size {
                let (own, all) = self.sizes(&container)?;
                // Of an empty layer Docker says nothing in a list.
                (row.size_rw, row.size_root_fs) = (own.filter(|size| *size != 0), all);
            }
            list.push(row);
        }
        Ok(list)
    }
}

/// The networks of a row: without what was asked for, as Docker's lists have them.
fn brief_networks(
    record: &Record,
    state: &State,
    version: ApiVersion,
    ids: &BTreeMap<String, String>,
) -> BTreeMap<String, EndpointSettings> {
    let mut networks = inspect::networks_of(record, state, version, ids);
    for settings in networks.values_mut() {
        (settings.links, settings.aliases, settings.dns_names) = (None, None, None);
        settings.driver_opts = None;
    }
    networks
}

/// Filters with their references resolved.
struct Wish<'a> {
    filters: &'a Filters,
    before: Option<i64>,
    since: Option<i64>,
    ancestors: Option<Vec<String>>,
    exited: Vec<i32>,
}

impl Wish<'_> {
    fn new<'a>(engine: &Engine, filters: &'a Filters) -> Result<Wish<'a>, Error> {
        filters.check_keys(KEYS)?;
        let bad = |key: &str, value: &str, reason: String| FilterError::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            reason,
        };
        for (key, what, words) in [
            ("status", "state", &["created", "running", "paused", "restarting", "removing", "exited", "dead"][..]),
            ("health", "health", &["none", "starting", "healthy", "unhealthy"]),
        ] {
            if let Some(value) = filters.values(key).iter().find(|v| !words.contains(&v.as_str())) {
                let why = format!("invalid value for {what} ({value}): must be one of {}", words.join(", "));
                return Err(bad(key, value, why).into());
            }
        }
        let created = |key: &str| -> Result<Option<i64>, Error> {
            filters.values(key).first().map(|name| engine.find(name).map(|c| c.record().created)).transpose()
        };
        let ancestors = filters.values("ancestor");
        let resolve = |name: &String| engine.images().resolve(name).map_or_else(|_| name.clone(), |i| i.id.to_string());
        let number = |text: &String| {
            let why = || format!("strconv.Atoi: parsing \"{text}\": invalid syntax");
            text.parse::<i32>().map_err(|_| bad("exited", text, why()))
        };
        filters.flag("is-task")?;
        Ok(Wish {
            filters,
            before: created("before")?,
            since: created("since")?,
            ancestors: (!ancestors.is_empty()).then(|| ancestors.iter().map(resolve).collect()),
            exited: filters.values("exited").iter().map(number).collect::<Result<_, _>>()?,
        })
    }

    fn takes(&self, record: &Record, state: &State) -> bool {
        let filters = self.filters;
        let name = format!("/{}", record.name);
        let names = filters.values("name");
        (filters.values("id").is_empty()
            || filters.values("id").iter().any(|id| record.id.as_str().starts_with(id.as_str())))
            && (names.is_empty() || filters.matches("name", &name) || filters.matches("name", &record.name))
            && filters.labels_match(&record.config.labels)
            && filters.allows("status", state.status.word())
            && filters.allows("health", super::health::name(state))
            && filters.allows("isolation", "default")
            && !filters.values("is-task").iter().any(|v| v == "true" || v == "1")
            && (self.exited.is_empty() || (state.status == Status::Exited && self.exited.contains(&state.exit_code)))
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
            && self.ancestors.as_ref().is_none_or(|a| a.contains(&record.image_id) || a.contains(&record.config.image))
            && inspect::is_on(record, state, filters.values("network"))
            && self.volume(record)
            && self.port(record, state)
    }

    fn volume(&self, record: &Record) -> bool {
        let wishes = self.filters.values("volume");
        wishes.is_empty()
            || record
                .points
                .iter()
                .any(|p| [&p.name, &p.source, &p.target].into_iter().any(|text| wishes.contains(text)))
    }

    fn port(&self, record: &Record, state: &State) -> bool {
        let published: Vec<_> = state.sandbox.iter().flat_map(|s| &s.ports).collect();
        let wished = |key: &str, have: &dyn Fn(&str) -> bool| {
            let wishes = self.filters.values(key);
            wishes.is_empty() || wishes.iter().any(|w| have(w))
        };
        let full = |w: &str| if w.contains('/') { w.to_owned() } else { format!("{w}/tcp") };
        wished("publish", &|w| published.iter().any(|p| format!("{}/{}", p.host_port, p.protocol) == full(w)))
            && wished("expose", &|w| {
                record.config.exposed_ports.iter().flatten().any(|(port, _)| full(port) == full(w))
            })
    }
}

fn summary(record: &Record, state: &State, version: ApiVersion) -> ContainerSummary {
    let published = state.sandbox.as_ref().map_or(&[][..], |s| &s.ports);
    // Words with blanks are quoted, the way clients have always shown them.
    let quoted = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let command: Vec<String> = std::iter::once(record.path.clone()).chain(record.args.iter().map(quoted)).collect();
    ContainerSummary {
        id: record.id.to_string(),
        names: vec![format!("/{}", record.name)],
        image: record.config.image.clone(),
        image_id: record.image_id.clone(),
        command: command.join(" "),
        created: record.created / 1_000_000_000,
        ports: if state.sandbox.is_some() { ports::summary(&record.config, published) } else { Vec::new() },
        labels: record.config.labels.clone(),
        state: state.status.word().to_owned(),
        status: status(state, clock::now()),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone().filter(|_| version >= ApiVersion::new(46)),
        },
        why: super::why::line(state),
        health: (version >= ApiVersion::new(52)).then(|| HealthSummary {
            status: super::health::name(state).to_owned(),
            failing_streak: state.health.as_ref().map_or(0, |health| health.failing_streak),
        }),
        mounts: super::mounts::shapes(&record.points),
        ..ContainerSummary::default()
    }
}

/// The words of the STATUS column.
fn status(state: &State, now: i64) -> String {
    let ago = |then: i64| units::human_duration((now - then) / 1_000_000_000);
    match state.status {
        Status::Running => match &state.health {
            None => format!("Up {}", ago(state.started_at)),
            Some(health) => {
                let prefix = if health.status == "starting" { "health: " } else { "" };
                format!("Up {} ({prefix}{})", ago(state.started_at), health.status)
            }
        },
        Status::Paused => format!("Up {} (Paused)", ago(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, ago(state.finished_at)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Exited if state.finished_at != 0 => {
            format!("Exited ({}) {} ago", state.exit_code, ago(state.finished_at))
        }
        Status::Created | Status::Exited => "Created".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    fn takes(json: &str, record: &Record, state: &State) -> bool {
        let filters = Filters::parse(json).unwrap();
        let wish = Wish { filters: &filters, before: None, since: None, ancestors: None, exited: Vec::new() };
        wish.takes(record, state)
    }

    #[test]
    fn filters() {
        let mut web = record("web-1");
        web.config.labels.insert("tier".into(), "front".into());
        web.host_config.network_mode = "bridge".into();
        let state = State { status: Status::Running, ..State::default() };
        let prefix = format!(r#"{{"id":["{}"]}}"#, web.id.short());
        for (json, want) in [
            ("{}", true),
            (prefix.as_str(), true),
            (r#"{"id":["zz"]}"#, false),
            (r#"{"name":["web"]}"#, true),
            (r#"{"name":["^/web-1$"]}"#, true),
            (r#"{"name":["^web-1$"]}"#, true),
            (r#"{"name":["db"]}"#, false),
            (r#"{"label":["tier=front"]}"#, true),
            (r#"{"label":["tier=back"]}"#, false),
            (r#"{"status":["running","paused"]}"#, true),
            (r#"{"status":["exited"]}"#, false),
            (r#"{"network":["bridge"]}"#, true),
            (r#"{"network":["host"]}"#, false),
            (r#"{"is-task":["true"]}"#, false),
            (r#"{"health":["healthy"]}"#, false),
        ] {
            assert_eq!(takes(json, &web, &state), want, "{json}");
        }
    }

    #[test]
    fn status_words() {
        let second = 1_000_000_000;
        let at = |status, exit_code| State {
            status,
            exit_code,
            started_at: 100 * second,
            finished_at: 100 * second,
            ..State::default()
        };
        for (state, want) in [
            (at(Status::Running, 0), "Up 5 minutes"),
            (at(Status::Paused, 0), "Up 5 minutes (Paused)"),
            (at(Status::Exited, 3), "Exited (3) 5 minutes ago"),
            (at(Status::Restarting, 1), "Restarting (1) 5 minutes ago"),
            (State::default(), "Created"),
        ] {
            assert_eq!(status(&state, 400 * second), want);
        }
    }
}
