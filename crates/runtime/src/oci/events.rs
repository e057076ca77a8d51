//! `events`: what a container uses, once or again and again, and each time
//! it runs out of memory.

use std::time::{Duration, Instant};

use budu_spec::units;
use lexopt::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::arguments::{Global, Word, flag, next, positional, required, text, undefined};
use super::container::{Container, Status};
use super::log::Log;
use super::output::print;
use crate::cgroup;
use crate::cgroup::metrics::Event;
use crate::init::{Failing, failed, invalid};
use crate::protocol::{Failure, FailureClass};

const INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let (mut id, mut once, mut interval) = (None, false, INTERVAL);
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "stats" => once = flag(parser)?,
            Word::Flag(name) if name == "interval" => interval = duration(&text(parser)?)?,
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => positional(value, &mut [&mut id])?,
        }
    }
    let container = Container::open(global, &required(id, "events")?)?;
    if container.status()? == Status::Stopped {
        return Err(refused(format!("container with id {} is not running", container.state.id)));
    }
    if once {
        print(&stats(&container)?)?;
    } else {
        watch(&container, log, interval)?;
    }
    Ok(0)
}

fn refused(message: String) -> Failure {
    Failure { class: FailureClass::State, message }
}

fn duration(text: &str) -> Failing<Duration> {
    let nanoseconds =
        units::parse_duration(text).map_err(|e| invalid(format!("invalid value {text:?} for flag -interval: {e}")))?;
    match u64::try_from(nanoseconds) {
        Ok(nanoseconds) if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(invalid("duration interval must be greater than 0".to_owned())),
    }
}

fn no_group() -> Failure {
    refused("the container has no cgroup of its own, so nothing is measured".to_owned())
}

/// What it has used until now, as a line of JSON.
fn stats(container: &Container) -> Failing<String> {
    let state = &container.state;
    if state.group.is_empty() {
        return Err(no_group());
    }
    let layout = cgroup::layout()?.ok_or_else(no_group)?;
    let data = cgroup::metrics(&layout, &state.cgroup, &state.id, &state.group)?;
    Ok(line(&Event { kind: "stats", id: &state.id, data: Some(data) }))
}

fn line(event: &Event<'_>) -> String {
    let mut line = serde_json::to_string(event).expect("plain data always encodes");
    line.push('\n');
    line
}

/// Goes on until the group is removed (cgroup v1) or empty (v2).
fn watch(container: &Container, log: &Log, interval: Duration) -> Failing<()> {
    let group = container.group()?.ok_or_else(no_group)?;
    let watch = group.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = Timespec::try_from(next.saturating_duration_since(Instant::now()))
            .map_err(|_| invalid("duration interval is too long".to_owned()))?;
        let mut fds = [PollFd::new(&watch, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => {
                next += interval;
                match stats(container) {
                    Ok(line) => print(&line)?,
                    // It is being removed; the watch is about to tell.
                    Err(_) if !container.is_alive() => {}
                    Err(failure) => log.error(&failure.message),
                }
            }
            Ok(_) => {
                let news = watch.take().map_err(|e| failed("watch the container's cgroup")(e.into()))?;
                if news.out_of_memory {
                    print(&line(&Event { kind: "oom", id: &container.state.id, data: None }))?;
                }
                if news.ended {
                    return Ok(());
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed("wait for events")(e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_positive() {
        assert_eq!(duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        for bad in ["", "5", "0", "0s", "-1s", "x"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lack_of_memory_has_no_data() {
        let event = Event { kind: "oom", id: "a", data: None };
        assert_eq!(line(&event), "{\"type\":\"oom\",\"id\":\"a\"}\n");
    }
}
