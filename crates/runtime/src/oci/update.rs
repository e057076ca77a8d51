//! `update`: other limits for a container that exists.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use budu_spec::oci::{self, Pids, Resources};
use budu_spec::units;
use lexopt::Parser;
use rustix::fs::FlockOperation;
use rustix::process::Pid;
use serde_json::Value;

use super::arguments::{Global, Word, next, number, positional, required, text, undefined};
use super::container::{Container, Status};
use super::limits::{is_nothing, merge, to_write};
use super::log::Log;
use super::undo::to_undo;
use crate::init::{Failing, failed, invalid};
use crate::plan::IntelRdtPlan;
use crate::protocol::{Failure, FailureClass};
use crate::{cgroup, compile};

/// Largest description of limits that is read.
const MAX_RESOURCES: u64 = 1 << 20;

/// What the command line asks for.
#[derive(Debug, Default)]
struct Request {
    id: Option<String>,
    /// `--resources`.
    file: Option<String>,
    /// From the other options.
    wish: Resources,
    l3_cache_schema: String,
    mem_bw_schema: String,
}

impl Request {
    fn parse(parser: &mut Parser) -> Failing<Request> {
        let mut request = Request::default();
        while let Some(word) = next(parser)? {
            match word {
                Word::Flag(name) => request.take(&name, parser)?,
                Word::Value(value) => positional(value, &mut [&mut request.id])?,
            }
        }
        Ok(request)
    }

    fn take(&mut self, name: &str, parser: &mut Parser) -> Failing<()> {
        let memory = self.wish.memory.get_or_insert_default();
        let cpu = self.wish.cpu.get_or_insert_default();
        match name {
            "r" | "resources" => self.file = Some(text(parser)?).filter(|path| !path.is_empty()),
            "blkio-weight" => {
                let weight: u16 = number(parser, name)?;
                self.wish.block_io.get_or_insert_default().weight = Some(weight).filter(|weight| *weight != 0);
            }
            "cpu-period" => cpu.period = given(parser, name)?,
            "cpu-quota" => cpu.quota = given(parser, name)?,
            "cpu-burst" => cpu.burst = given(parser, name)?,
            "cpu-share" => cpu.shares = given(parser, name)?,
            "cpu-rt-period" => cpu.realtime_period = given(parser, name)?,
            "cpu-rt-runtime" => cpu.realtime_runtime = given(parser, name)?,
            "cpu-idle" => cpu.idle = given(parser, name)?,
            "cpuset-cpus" => cpu.cpus = text(parser)?,
            "cpuset-mems" => cpu.mems = text(parser)?,
            "memory" => memory.limit = bytes(parser, name)?,
            "memory-reservation" => memory.reservation = bytes(parser, name)?,
            "memory-swap" => memory.swap = bytes(parser, name)?,
            "kernel-memory" => memory.kernel = bytes(parser, name)?,
            "kernel-memory-tcp" => memory.kernel_tcp = bytes(parser, name)?,
            // With no process at all nothing could be done in it any more.
            "pids-limit" => {
                let limit: i64 = number(parser, name)?;
                self.wish.pids = Some(Pids { limit: if limit == 0 { 1 } else { limit } });
            }
            "l3-cache-schema" => self.l3_cache_schema = text(parser)?,
            "mem-bw-schema" => self.mem_bw_schema = text(parser)?,
            other => return Err(undefined(other)),
        }
        Ok(())
    }
}

/// A number; an empty text counts as not given.
fn given<N: std::str::FromStr>(parser: &mut Parser, name: &str) -> Failing<Option<N>> {
    let text = text(parser)?;
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse();
    number.map(Some).map_err(|_| invalid(format!("invalid value for {name}: {text:?} is no number, or out of range")))
}

/// A size with a unit, or -1 for no limit.
fn bytes(parser: &mut Parser, name: &str) -> Failing<Option<i64>> {
    let text = text(parser)?;
    match text.as_str() {
        "" => Ok(None),
        "-1" => Ok(Some(-1)),
        size => {
            units::parse_bytes(size).map(Some).map_err(|error| invalid(format!("invalid value for {name}: {error}")))
        }
    }
}

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let request = Request::parse(parser)?;
    let mut container = Container::open(global, &required(request.id.clone(), "update")?)?;
    let wish = match &request.file {
        Some(file) => read(file)?,
        None => request.wish.clone(),
    };
    if wish.memory.as_ref().is_some_and(|memory| memory.kernel.is_some() || memory.kernel_tcp.is_some()) {
        log.warning("Kernel memory settings are ignored and will be removed");
    }
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(refused("container not running"));
    }
    // Two updates at once would forget each other's limits.
    rustix::fs::flock(&container.dir, FlockOperation::LockExclusive)
        .map_err(|e| failed("lock the container")(e.into()))?;
    schemata(&mut container, &request)?;
    apply(&container, log, &wish)?;
    Ok(0)
}

fn refused(message: &str) -> Failure {
    Failure { class: FailureClass::State, message: message.to_owned() }
}

/// Limits as JSON, from a file or, with `-`, standard input.
fn read(file: &str) -> Failing<Resources> {
    let mut text = Vec::new();
    let result = match file {
        "-" => io::stdin().take(MAX_RESOURCES).read_to_end(&mut text),
        path => File::open(path).and_then(|file| file.take(MAX_RESOURCES).read_to_end(&mut text)),
    };
    result.map_err(failed(&format!("read the limits in {file}")))?;
    decode(&text).map_err(|e| invalid(format!("limits in {file}: {}", e.message)))
}

fn decode(text: &[u8]) -> Failing<Resources> {
    /// Tells a limit that is not given from none.
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Given {
        pids: Option<GivenPids>,
    }
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct GivenPids {
        limit: Option<i64>,
    }
    let wrong = |e: oci::DecodeError| invalid(e.to_string());
    let mut wish: Resources = oci::decode(text).map_err(wrong)?;
    let given: Given = oci::decode(text).map_err(wrong)?;
    if given.pids.is_none_or(|pids| pids.limit.is_none()) {
        wish.pids = None;
    }
    Ok(wish)
}

/// Changes the cgroup, then what is kept of the configuration.
fn apply(container: &Container, log: &Log, wish: &Resources) -> Failing<()> {
    if is_nothing(wish) {
        return Ok(());
    }
    let old = container.config()?.linux.and_then(|linux| linux.resources).unwrap_or_default();
    let mut all = old.clone();
    merge(&mut all, wish);
    let state = &container.state;
    let layout = cgroup::layout()?.filter(|_| !state.group.is_empty());
    let layout = layout.ok_or_else(|| refused("the container has no cgroup of its own, so it cannot be limited"))?;
    let write =
        |resources: &Resources| cgroup::update(&layout, &state.cgroup, &state.group, &compile::resources(resources)?);
    let writing = to_write(&all, wish);
    if state.cgroup.systemd && cgroup::is_v2(&layout) && is_idle_with_weight(&writing) {
        log.warning("unable to apply both CPUWeight and CpuIdle to systemd, ignoring CPUWeight");
    }
    if let Err(failure) = write(&writing) {
        // Some of it may have been done.
        if let Err(again) = write(&to_undo(&old, &writing)) {
            log.warning(&format!("Setting back cgroup configs failed due to error: {}", again.message));
        }
        return Err(failure);
    }
    keep(container, &["linux", "resources"], serde_json::to_value(&all).expect("plain data always encodes"))
}

/// Both of two limits that exclude each other, by number or by file.
fn is_idle_with_weight(wish: &Resources) -> bool {
    let by_number = wish.cpu.as_ref().is_some_and(|cpu| cpu.idle == Some(1) && cpu.shares.unwrap_or(0) != 0);
    let idle = wish.unified.get("cpu.idle").is_some_and(|idle| idle.trim() == "1");
    by_number || (idle && wish.unified.contains_key("cpu.weight"))
}

/// Puts a member into the kept configuration; all others stay as they are.
fn keep(container: &Container, path: &[&str], value: Value) -> Failing<()> {
    let what = failed("read the container's configuration");
    let bytes = std::fs::read(container.path.join("config.json")).map_err(&what)?;
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|e| what(e.into()))?;
    let mut place = &mut config;
    for name in path {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[*name];
    }
    *place = value;
    container.save_config(config.to_string().as_bytes())
}

/// Cache and memory bandwidth, which have groups of their own.
fn schemata(container: &mut Container, request: &Request) -> Failing<()> {
    let lines: Vec<String> = [&request.l3_cache_schema, &request.mem_bw_schema]
        .into_iter()
        .filter(|line| !line.is_empty())
        .cloned()
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    for (line, what) in [
        (&request.l3_cache_schema, "Intel RDT/CAT: l3 cache schema is not enabled"),
        (&request.mem_bw_schema, "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ] {
        if !line.is_empty() && !Path::new("/sys/fs/resctrl").exists() {
            return Err(invalid(what.to_owned()));
        }
    }
    let id = container.state.id.clone();
    match &mut container.state.cgroup.intel_rdt {
        Some(plan) => {
            let change = IntelRdtPlan { schemata: lines.clone(), ..plan.clone() };
            cgroup::update_rdt(&change, &id)?;
            plan.schemata.extend(lines);
        }
        none => {
            let plan = IntelRdtPlan { group: id.clone(), schemata: lines, ..IntelRdtPlan::default() };
            let pid = Pid::from_raw(container.state.pid).ok_or_else(|| refused("container not running"))?;
            cgroup::enter_rdt(Some(&plan), &id, pid)?;
            *none = Some(plan);
        }
    }
    container.save()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(words: &[&str]) -> Failing<Request> {
        Request::parse(&mut Parser::from_args(words))
    }

    fn wish(words: &[&str]) -> Value {
        serde_json::to_value(parse(words).unwrap().wish).unwrap()
    }

    #[test]
    fn options_become_limits() {
        let all = wish(&[
            "c",
            "--cpu-period",
            "900000",
            "--cpu-quota=-1",
            "--cpu-share",
            "200",
            "--memory",
            "50M",
            "--memory-swap",
            "-1",
            "--memory-reservation",
            "33554432",
            "--pids-limit",
            "10",
            "--cpuset-cpus",
            "0-1",
            "--blkio-weight",
            "100",
            "--cpu-idle",
            "1",
        ]);
        let expected = json!({
            "cpu": {"period": 900_000, "quota": -1, "shares": 200, "cpus": "0-1", "idle": 1},
            "memory": {"limit": 52_428_800, "swap": -1, "reservation": 33_554_432},
            "pids": {"limit": 10}, "blockIO": {"weight": 100},
        });
        assert_eq!(all, expected);
        assert_eq!(wish(&["--pids-limit", "0"])["pids"], json!({"limit": 1}));
        assert_eq!(wish(&["--memory", "", "--cpu-quota", ""]), json!({"memory": {}, "cpu": {}}));
    }

    #[test]
    fn values_that_are_none_are_refused() {
        for bad in [
            ["--memory", "-5"],
            ["--memory", "5x"],
            ["--cpu-period", "-1"],
            ["--cpu-quota", "1.5"],
            ["--pids-limit", "many"],
            ["--blkio-weight", "70000"],
            ["--cpu-idle", "yes"],
            ["--nothing", "1"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        assert!(parse(&["a", "b"]).unwrap_err().message.contains("unexpected argument"));
        assert!(parse(&["--memory", "x"]).unwrap_err().message.starts_with("invalid value for memory: "));
    }

    #[test]
    fn limits_are_read_as_go_reads_them() {
        let read = decode(br#"{"CPU": {"Cpus": "1"}, "pids": {}, "memory": {"limit": 7, "swap": null}} more"#).unwrap();
        assert_eq!(read.cpu.unwrap().cpus, "1");
        assert_eq!(read.pids, None);
        assert_eq!(read.memory.unwrap().limit, Some(7));
        let message = decode(br#"{"cpu": {"quota": "much"}}"#).unwrap_err().message;
        assert!(message.starts_with("cpu.quota: "), "{message}");
        assert!(decode(b"nonsense").is_err());
    }
}
