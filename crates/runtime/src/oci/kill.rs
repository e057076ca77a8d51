//! `kill`: sends a signal to the first process, or to all.

use std::os::fd::AsFd;

use budu_sys::cgroup::Cgroup;
use budu_sys::process;
use lexopt::Parser;
use rustix::process::Signal;

use super::arguments::{Global, Word, flag, next, positional, required, undefined};
use super::container::{Container, Status};
use crate::birth::CLONE_NEWPID;
use crate::init::{Failing, failed, invalid};
use crate::protocol::{Failure, FailureClass};

const SIGKILL: i32 = 9;
/// Annotation of containers made of images.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

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
    // What the image wants to be stopped by, config.md "Annotations".
    let wish = container.state.annotations.get(STOP_SIGNAL).filter(|wish| !wish.is_empty());
    let signal = signal.as_deref().or(wish.map(String::as_str)).unwrap_or("SIGTERM");
    let number = match signal {
        // Asks only, kill(2).
        "0" => 0,
        _ => budu_spec::signal::parse(signal).ok_or_else(|| invalid(format!("unknown signal {signal:?}")))?,
    };
    if all {
        send_to_all(&container, number)?
    } else {
        send(&container, number)?
    }
    Ok(0)
}

fn not_running() -> Failure {
    Failure { class: FailureClass::State, message: "container not running".to_owned() }
}

/// Every process of the container's cgroup gets it, even when the first one is
/// gone. None at all is fine.
fn send_to_all(container: &Container, signal: i32) -> Failing<()> {
    match container.group()? {
        Some(group) => signal_all(&group, signal),
        None if container.status()? == Status::Stopped => Ok(()),
        None => Err(invalid("the container has no cgroup of its own: only its first process can be found".to_owned())),
    }
}

/// Sends a signal to the first process. Where that one takes nobody with it,
/// having no pid namespace of its own, SIGKILL is for all.
fn send(container: &Container, signal: i32) -> Failing<()> {
    let status = container.status()?;
    if signal == SIGKILL
        && !has_own_pids(container)
        && let Some(group) = container.group()?
    {
        return signal_all(&group, signal);
    }
    if matches!(status, Status::Stopped | Status::Creating) {
        return Err(not_running());
    }
    let pidfd = container.pidfd()?.ok_or_else(not_running)?;
    process::signal(pidfd.as_fd(), signal).map_err(failed("signal the container"))?;
    if signal == SIGKILL
        && status == Status::Paused
        && let Some(group) = container.group()?
    {
        // A frozen process dies only once it is thawed (cgroup v1).
        group.thaw()?;
    }
    Ok(())
}

fn signal_all(group: &Cgroup, signal: i32) -> Failing<()> {
    match Signal::from_named_raw(signal) {
        Some(Signal::KILL) => Ok(group.kill_all()?),
        Some(signal) => Ok(group.signal_all(signal)?),
        None if signal == 0 => Ok(()),
        None => Err(invalid(format!("signal {signal} cannot be sent to all processes"))),
    }
}

/// Whether the container's processes end with its first one.
pub(super) fn has_own_pids(container: &Container) -> bool {
    container.state.namespaces & CLONE_NEWPID != 0
}
