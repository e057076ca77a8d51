//! `stats`.

use std::collections::HashMap;
use std::time::Duration;

use budu_spec::docker::{ContainerStats, ContainerSummary};
use budu_spec::id::truncate;
use budu_spec::units::{human_bytes, human_size};

use super::Command;
use crate::cli::Cli;
use crate::client::{Call, Query, escape};
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::{Listing, put};

/// `stats`.
#[derive(Debug, clap::Args)]
pub(super) struct Stats {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Print with a Go template, or 'table', 'table TEMPLATE', 'json'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show one result and end
    #[arg(long)]
    no_stream: bool,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    args: Vec<String>,
}

const HEADS: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// Between samples.
const PAUSE: Duration = Duration::from_secs(1);

impl Command for Stats {
    const ABOUT: &'static str = "Show what containers use";
    const USAGE: &'static str = "[OPTIONS] [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let listing = Listing { table: TABLE, quiet: TABLE, heads: HEADS };
        let wished = self.format.clone().filter(|format| !format.is_empty());
        let wished = wished.unwrap_or_else(|| cli.config.stats_format.clone());
        let format = listing.format(&wished, false)?;
        let mut before: HashMap<String, ContainerStats> = HashMap::new();
        for name in self.names(cli).await? {
            let sample = sample(cli, &name).await?;
            before.insert(name, sample);
        }
        if !self.no_stream {
            put("\x1b[2J\x1b[H")?;
        }
        loop {
            tokio::time::sleep(PAUSE).await;
            let mut rows = Vec::new();
            let mut now = HashMap::new();
            for name in self.names(cli).await? {
                let sample = match sample(cli, &name).await {
                    Ok(sample) => sample,
                    // Gone between the list and the look.
                    Err(error) if error.is_status(404) && (self.args.is_empty() || !self.no_stream) => continue,
                    Err(error) => return Err(error),
                };
                rows.push(row(&name, &sample, before.get(&name), !self.no_trunc));
                now.insert(name, sample);
            }
            before = now;
            let text = listing.render(&format, &rows)?;
            if self.no_stream {
                put(&text)?;
                return Ok(0);
            }
            // Over what was there; what is left of longer lines and of more lines goes.
            put(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))?;
        }
    }
}

impl Stats {
    /// Whom to look at: those that were named, else those that run.
    async fn names(&self, cli: &Cli) -> Result<Vec<String>, Error> {
        if !self.args.is_empty() {
            return Ok(self.args.clone());
        }
        let query = Query::new("/containers/json").flag("all", self.all);
        let list: Vec<ContainerSummary> = cli.client()?.json(Call::get(query)).await?;
        Ok(list.into_iter().map(|container| container.id).collect())
    }
}

async fn sample(cli: &Cli, name: &str) -> Result<ContainerStats, Error> {
    let query = Query::new(format!("/containers/{}/stats", escape(name))).set("stream", "0").set("one-shot", "1");
    cli.client()?.json(Call::get(query)).await
}

fn row(name: &str, now: &ContainerStats, before: Option<&ContainerStats>, cut: bool) -> Data {
    let idle = now.memory_stats.limit == 0;
    let used = memory(now);
    let limit = now.memory_stats.limit as f64;
    let percent = |value: f64| format!("{value:.2}%");
    let both = |a: u64, b: u64| format!("{} / {}", human_size(a as f64, 3), human_size(b as f64, 3));
    let networks = || now.networks.iter().flat_map(|networks| networks.values());
    let blocks = |letter: char| -> u64 {
        let entries = now.blkio_stats.io_service_bytes_recursive.iter().flatten();
        entries.filter(|entry| entry.op.to_ascii_lowercase().starts_with(letter)).map(|entry| entry.value).sum()
    };
    let id = if cut { truncate(&now.id).to_owned() } else { now.id.clone() };
    let or = |text: String| if idle { "--".to_owned() } else { text };
    let pair = |text: String| if idle { "-- / --".to_owned() } else { text };
    let fields = [
        ("BlockIO", pair(both(blocks('r'), blocks('w')))),
        ("CPUPerc", or(percent(before.map_or(0.0, |before| processors(now, before))))),
        ("Container", name.to_owned()),
        ("ID", id),
        ("MemPerc", or(percent(if limit > 0.0 { used / limit * 100.0 } else { 0.0 }))),
        ("MemUsage", pair(format!("{} / {}", human_bytes(used), human_bytes(limit)))),
        ("Name", now.name.trim_start_matches('/').to_owned()),
        ("NetIO", pair(both(networks().map(|n| n.rx_bytes).sum(), networks().map(|n| n.tx_bytes).sum()))),
        ("PIDs", or(now.pids_stats.current.to_string())),
    ];
    Data::Row(fields.into_iter().map(|(name, text)| (name.to_owned(), Data::text(text))).collect())
}

/// Bytes in use without the part of the page cache that would go first.
fn memory(stats: &ContainerStats) -> f64 {
    let memory = &stats.memory_stats;
    let idle = memory.stats.get("total_inactive_file").or_else(|| memory.stats.get("inactive_file"));
    let idle = idle.copied().filter(|idle| *idle < memory.usage).unwrap_or(0);
    (memory.usage - idle) as f64
}

/// Per cent of one processor.
fn processors(now: &ContainerStats, before: &ContainerStats) -> f64 {
    let (now, before) = (&now.cpu_stats, &before.cpu_stats);
    let own = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage) as f64;
    let all = now.system_cpu_usage.saturating_sub(before.system_cpu_usage) as f64;
    let count = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64,
        count => count as f64,
    };
    if own > 0.0 && all > 0.0 { own / all * count * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let mut before = ContainerStats::default();
        before.cpu_stats.system_cpu_usage = 1000;
        let mut now = before.clone();
        now.cpu_stats.system_cpu_usage = 3000;
        now.cpu_stats.cpu_usage.total_usage = 500;
        now.cpu_stats.online_cpus = 2;
        now.memory_stats.usage = 100;
        now.memory_stats.stats.insert("inactive_file".into(), 40);
        assert!((processors(&now, &before) - 50.0).abs() < 0.001);
        assert!((memory(&now) - 60.0).abs() < 0.001);
    }
}
