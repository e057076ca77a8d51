//! `kill`: sends a signal to the first process, or to all.

use std::os::fd::AsFd;

use budu_sys::cgroup::Cgroup;
use budu_sys::process;
use lexopt::Parser;
use rustix::process::Signal;

use super::arguments::{Global, Word, flag, next, positional, required, undefined};
use super::container::{Container, Status};
use crate::init::{Failing, failed, invalid};
use crate::protocol::{Failure, FailureClass};

pub(super) fn command(global: &Global, parser: &mut Parser) -> Failing<i32> {
    let (mut id, mut signal, mut all) = (None, None, false);
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "a" || name == "all" => all = flag(parser)?,
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => positional(value, &mut [&mut id, &mut signal])?,
        }
    }
    let container = Container::open(global, &required(id, "kill")?)?;
    let signal = signal.as_deref().unwrap_or("SIGTERM");
    let number = budu_spec::signal::parse(signal).ok_or_else(|| invalid(format!("unknown signal {signal:?}")))?;
    send(&container, number, all)?;
    Ok(0)
}

fn not_running() -> Failure {
    Failure { class: FailureClass::State, message: "container not running".to_owned() }
}

/// Sends a signal. With `all`, every process of the container's cgroup gets
/// it, even when the first one is gone.
fn send(container: &Container, signal: i32, all: bool) -> Failing<()> {
    let status = container.status()?;
    let group = if all || !has_own_pids(container) { container.group()? } else { None };
    if all {
        return match group {
            Some(group) => signal_all(&group, signal),
            None => Err(not_running()),
        };
    }
    if matches!(status, Status::Stopped | Status::Creating) {
        return Err(not_running());
    }
    if signal == 9
        && let Some(group) = &group
    {
        // Without a pid namespace of its own the first process takes nobody with it.
        signal_all(group, signal)?;
        return Ok(());
    }
    let pidfd = container.pidfd()?.ok_or_else(not_running)?;
    process::signal(pidfd.as_fd(), signal).map_err(failed("signal the container"))?;
    if signal == 9 && status == Status::Paused {
        // A frozen process dies only once it is thawed (cgroup v1).
        if let Some(group) = container.group()? {
            group.thaw()?;
        }
    }
    Ok(())
}

fn signal_all(group: &Cgroup, signal: i32) -> Failing<()> {
    // Zero sends nothing; it only asks.
    match Signal::from_named_raw(signal) {
        Some(signal) => Ok(group.signal_all(signal)?),
        None => Err(invalid(format!("signal {signal} cannot be sent to all processes"))),
    }
}

/// Whether the container's processes end with its first one.
pub(super) fn has_own_pids(container: &Container) -> bool {
    const CLONE_NEWPID: u64 = 0x2000_0000;
    container.state.namespaces & CLONE_NEWPID != 0
}
