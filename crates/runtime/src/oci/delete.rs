//! `delete`: removes what is left of a container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use budu_sys::process;
use lexopt::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::arguments::{Global, Word, flag, next, positional, required, undefined};
use super::container::{self, Container, STATE, Status};
use super::kill::has_own_pids;
use super::log::Log;
use super::{hooks, removal};
use crate::cgroup;
use crate::init::{Failing, failed};
use crate::protocol::{Failure, FailureClass};

/// How long a killed process may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let (mut id, mut force) = (None, false);
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "f" || name == "force" => force = flag(parser)?,
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => positional(value, &mut [&mut id])?,
        }
    }
    let id = required(id, "delete")?;
    let container = match Container::open(global, &id) {
        Ok(container) => container,
        Err(failure) if failure.class == FailureClass::State => {
            clear(global, &id)?;
            return if force { Ok(0) } else { Err(failure) };
        }
        Err(failure) => return Err(failure),
    };
    match container.status()? {
        Status::Stopped => {}
        Status::Creating => return forget(container, global).map(|()| 0),
        Status::Created => end(&container)?,
        _ if force => end(&container)?,
        other => {
            let message = format!("cannot delete container {id} that is not stopped: {}", other.as_str());
            return Err(Failure { class: FailureClass::State, message });
        }
    }
    destroy(container, log)?;
    Ok(0)
}

/// Removes what is left of a creation that was cut off so early that there is a directory, but no state.
fn clear(global: &Global, id: &str) -> Failing<()> {
    let path = global.root.join(id);
    let Ok(directory) = container::open_directory(&path) else { return Ok(()) };
    await_maker(&directory, id)?;
    if path.join(STATE).exists() {
        return Err(made_meanwhile(id));
    }
    removal::remove(&path).map_err(failed(&format!("remove {}", path.display())))
}

/// Waits until nobody makes the container any more, who was cut off or takes long.
fn await_maker(directory: &OwnedFd, id: &str) -> Failing<()> {
    let mut pauses = PATIENCE.as_millis() / PAUSE.as_millis();
    // Nothing announces that a lock is given up.
    while container::is_being_made(directory) {
        if pauses == 0 {
            let message = format!("cannot delete container {id}: it is being created");
            return Err(Failure { class: FailureClass::State, message });
        }
        std::thread::sleep(PAUSE);
        pauses -= 1;
    }
    Ok(())
}

fn made_meanwhile(id: &str) -> Failure {
    let message = format!("cannot delete container {id}: it has been created meanwhile");
    Failure { class: FailureClass::State, message }
}

/// Removes what is left of a creation that was cut off before there was a
/// first process, or before it could be told which it is. That one ends by
/// itself when it finds nobody to report to.
fn forget(container: Container, global: &Global) -> Failing<()> {
    await_maker(&container.dir, &container.state.id)?;
    // It may stand by now.
    let container = Container::open(global, &container.state.id)?;
    if container.state.pid != 0 {
        return Err(made_meanwhile(&container.state.id));
    }
    if !container.state.group.is_empty()
        && let Some(layout) = cgroup::layout()?
    {
        cgroup::remove_idle(&layout, &container.state.group)?;
    }
    cgroup::leave_rdt(container.state.cgroup.intel_rdt.as_ref(), &container.state.id)?;
    container.remove()
}

/// Kills the container and waits for its end.
fn end(container: &Container) -> Failing<()> {
    let group = container.group()?;
    let pidfd = container.pidfd()?;
    if let Some(pidfd) = &pidfd {
        let _ = process::signal(pidfd.as_fd(), 9);
    }
    if let Some(group) = &group {
        if !has_own_pids(container) {
            let _ = group.kill_all();
        }
        group.thaw()?;
    }
    let Some(pidfd) = pidfd else { return Ok(()) };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    if poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready == 0) {
        let message =
            format!("the container's first process did not end within {} s of being killed", PATIENCE.as_secs());
        return Err(Failure { class: FailureClass::Internal, message });
    }
    Ok(())
}

/// Removes group and state of a container that has ended, then runs its poststop hooks.
pub(super) fn destroy(container: Container, log: &Log) -> Failing<()> {
    // Of two who end it, a foreground `run` and a `delete`, say, the second has nothing left to do.
    if !container.seize()? {
        return Ok(());
    }
    if !container.state.group.is_empty()
        && let Some(layout) = cgroup::layout()?
    {
        cgroup::remove(&layout, &container.state.group)?;
    }
    cgroup::leave_rdt(container.state.cgroup.intel_rdt.as_ref(), &container.state.id)?;
    container.unmount_root()?;
    let outcome = hooks::poststop(&container, log);
    container.remove()?;
    outcome
}
