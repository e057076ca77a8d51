//! The page itself: text, a line per figure.

use std::fmt::{Display, Write};

use budu_engine::{Pressure, Usage};

use super::counters::{BUCKETS, Kind};
use crate::{App, VERSION, host};

/// A page in the making.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family of figures.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (key, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{key}=\"{}\"", escape(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }

    /// Figures with a label for each of several things.
    fn several<T>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        things: &[T],
        labels: impl Fn(&T) -> Vec<(&str, &str)>,
        value: impl Fn(&T) -> Option<f64>,
    ) {
        self.family(name, kind, help);
        for thing in things {
            if let Some(value) = value(thing) {
                self.line(name, &labels(thing), value);
            }
        }
    }
}

/// A label's value as the format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes the page.
pub(super) fn page(app: &App) -> String {
    let mut page = Page::default();
    engine(&mut page, app);
    timers(&mut page, app);
    process(&mut page);
    containers(&mut page, &app.engine.usage().unwrap_or_default());
    let name =
        ("budu_host_pressure_seconds_total", "counter", "Time in which tasks of the machine waited for a resource");
    page.several(name, &Pressure::of_the_machine(), pressure_labels, seconds_of_pressure);
    page.0
}

fn engine(page: &mut Page, app: &App) {
    let (facts, tally) = (&app.host, app.engine.tally());
    let name = "engine_daemon_engine_info";
    page.family(name, "gauge", "The information related to the engine and the OS it is running on");
    let labels = [
        ("architecture", host::arch()),
        ("commit", env!("BUDU_COMMIT")),
        ("daemon_id", &app.id),
        ("graphdriver", "overlayfs"),
        ("kernel", &facts.kernel),
        ("os", &facts.system),
        ("os_type", "linux"),
        ("os_version", &facts.system_version),
        ("version", VERSION),
    ];
    page.line(name, &labels, 1);
    page.single(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        facts.cpus,
    );
    page.single(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        facts.memory,
    );
    let name = "engine_daemon_container_states_containers";
    page.family(name, "gauge", "The count of containers in various states");
    for (state, count) in [("paused", tally.paused), ("running", tally.running), ("stopped", tally.stopped)] {
        page.line(name, &[("state", state)], count);
    }
    let events = app.engine.events();
    page.single("engine_daemon_events_total", "counter", "The number of events logged", events.published());
    page.single(
        "engine_daemon_events_subscribers_total",
        "gauge",
        "The number of current subscribers to events",
        events.listeners(),
    );
}

fn timers(page: &mut Page, app: &App) {
    for (kind, name, label, what) in [
        (Kind::Container, "container_actions", "action", "process each container action"),
        (Kind::Network, "network_actions", "action", "process each network action"),
        (Kind::Image, "image_actions", "action", "process each image action"),
        (Kind::Host, "host_info_functions", "function", "call functions gathering info about the host"),
    ] {
        let name = format!("engine_daemon_{name}_seconds");
        page.family(&name, "histogram", &format!("The number of seconds it takes to {what}"));
        for (action, times) in app.metrics.times(kind) {
            let own = (label, action);
            for (end, count) in BUCKETS.iter().zip(times.buckets) {
                page.line(&format!("{name}_bucket"), &[own, ("le", &end.to_string())], count);
            }
            page.line(&format!("{name}_bucket"), &[own, ("le", "+Inf")], times.count);
            page.line(&format!("{name}_sum"), &[own], times.sum);
            page.line(&format!("{name}_count"), &[own], times.count);
        }
    }
}

/// The daemon as a process, by the names every Prometheus library uses.
fn process(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields of proc(5) from the third on; the second may contain anything.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let pages = rustix::param::page_size() as u64;
    let cpu = (field(14) + field(15)) as f64 / ticks;
    page.single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu);
    page.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", field(24) * pages);
    page.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    page.single("process_open_fds", "gauge", "Number of open file descriptors.", open);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    page.single("process_max_fds", "gauge", "Maximum number of open file descriptors.", limit);
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok()).unwrap_or(0.0);
    let start = boot + field(22) as f64 / ticks;
    page.single("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", start);
}

fn containers(page: &mut Page, usage: &[Usage]) {
    /// One figure of a container.
    type Figure = fn(&Usage) -> Option<f64>;
    let figures: [(&str, &str, &str, Figure); 9] = [
        ("cpu_seconds_total", "counter", "Processor time", |u| Some(u.cpu_ns as f64 / 1e9)),
        ("cpu_throttled_seconds_total", "counter", "Time without processor for want of quota", |u| {
            Some(u.throttled_ns as f64 / 1e9)
        }),
        ("memory_usage_bytes", "gauge", "Memory charged, page cache included", |u| Some(u.memory as f64)),
        ("memory_working_set_bytes", "gauge", "Memory charged without idle page cache", |u| Some(u.working_set as f64)),
        ("memory_limit_bytes", "gauge", "Memory limit, where there is one", |u| u.memory_limit.map(|n| n as f64)),
        ("pids", "gauge", "Tasks", |u| Some(u.pids as f64)),
        ("disk_read_bytes_total", "counter", "Bytes read from disks", |u| Some(u.read_bytes as f64)),
        ("disk_written_bytes_total", "counter", "Bytes written to disks", |u| Some(u.written_bytes as f64)),
        ("info", "gauge", "Running containers", |_| Some(1.0)),
    ];
    for (name, kind, help, figure) in figures {
        page.several((&format!("budu_container_{name}"), kind, help), usage, labels, figure);
    }
    let name = "budu_container_pressure_seconds_total";
    page.family(name, "counter", "Time in which tasks of a container waited for a resource");
    for one in usage {
        for pressure in &one.pressure {
            let labels: Vec<_> = labels(one).into_iter().chain(pressure_labels(pressure)).collect();
            page.line(name, &labels, pressure.total_us as f64 / 1e6);
        }
    }
}

fn labels(usage: &Usage) -> Vec<(&str, &str)> {
    vec![("id", &usage.id), ("name", &usage.name), ("image", &usage.image)]
}

fn pressure_labels(pressure: &Pressure) -> Vec<(&str, &str)> {
    vec![("resource", pressure.resource), ("share", pressure.share)]
}

fn seconds_of_pressure(pressure: &Pressure) -> Option<f64> {
    Some(pressure.total_us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_containers() {
        let usage = Usage {
            id: "abc".into(),
            name: "we\"b".into(),
            image: "nginx".into(),
            cpu_ns: 1_500_000_000,
            pressure: vec![Pressure { resource: "io", share: "some", total_us: 500_000 }],
            ..Usage::default()
        };
        let mut page = Page::default();
        containers(&mut page, &[usage]);
        let labels = r#"id="abc",name="we\"b",image="nginx""#;
        for line in [
            "# TYPE budu_container_cpu_seconds_total counter".to_owned(),
            format!("budu_container_cpu_seconds_total{{{labels}}} 1.5"),
            format!("budu_container_pressure_seconds_total{{{labels},resource=\"io\",share=\"some\"}} 0.5"),
        ] {
            assert!(page.0.lines().any(|found| found == line), "{line} in {}", page.0);
        }
        // No limit, no figure.
        assert!(!page.0.contains("budu_container_memory_limit_bytes{"));
    }
}
