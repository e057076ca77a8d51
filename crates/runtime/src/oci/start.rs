//! `start`: lets the program of a created container run.

use std::io::Read;
use std::os::fd::AsFd;

use budu_spec::oci;
use budu_sys::process;
use lexopt::Parser;
use rustix::fs::{Mode, OFlags};

use super::arguments::{Global, only_id};
use super::container::{Container, GO, NEWS, Status};
use super::hooks;
use super::log::Log;
use crate::birth::Newborn;
use crate::compile;
use crate::init::{Failing, START, failed};
use crate::protocol::{self, Event, Failure, FailureClass};

pub(super) fn command(global: &Global, _log: &Log, parser: &mut Parser) -> Failing<i32> {
    let container = Container::open(global, &only_id(parser, "start")?)?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(refused("cannot start a container that has stopped")),
        Status::Running | Status::Paused => return Err(refused("cannot start an already running container")),
        Status::Creating => return Err(refused("cannot start a container that is being created")),
    }
    if container.state.programless {
        return Err(refused("process property must not be empty"));
    }
    let what = failed("open the container's gate");
    let open = |name: &str, flags: OFlags| {
        rustix::fs::openat(&container.dir, name, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| what(e.into()))
    };
    // The news first: its end tells of success, so it must be read from the beginning.
    let news = open(NEWS, OFlags::RDONLY)?;
    let go = open(GO, OFlags::WRONLY)?;
    rustix::io::write(&go, &[START]).map_err(|e| what(e.into()))?;
    container.remove_gate();
    drop(go);
    rustix::io::ioctl_fionbio(&news, false).map_err(|e| what(e.into()))?;
    let mut said = Vec::new();
    std::fs::File::from(news).read_to_end(&mut said).map_err(failed("hear of the program's start"))?;
    if let Some(Ok(Event::Failed(failure))) = said.get(protocol::HEADER..).map(protocol::decode) {
        return Err(failure);
    }
    poststart(&container)?;
    Ok(0)
}

fn refused(message: &str) -> Failure {
    Failure { class: FailureClass::State, message: message.to_owned() }
}

/// Lets a first process go whose reporting socket is ours, and waits until its
/// program runs.
pub(super) fn let_go(born: &Newborn) -> Failing<()> {
    let what = failed("start the container's program");
    budu_sys::socket::send_with_fds(&born.report, &[START], &[]).map_err(&what)?;
    let mut buffer = [0u8; 16 << 10];
    let (n, _) = budu_sys::socket::receive_with_fds(&born.report, &mut buffer).map_err(&what)?;
    match buffer.get(protocol::HEADER..n).map(protocol::decode) {
        Some(Ok(Event::Failed(failure))) => Err(failure),
        // Closed by exec.
        _ => Ok(()),
    }
}

/// Runs the poststart hooks. One that fails ends the container (runtime.md
/// "Lifecycle", step 9).
pub(super) fn poststart(container: &Container) -> Failing<()> {
    if !container.state.poststart {
        return Ok(());
    }
    let hooks = compile::hooks(&container.config()?)?;
    let outcome = hooks::run("poststart", &hooks.poststart, container, oci::Status::Running);
    if outcome.is_err()
        && let Some(pidfd) = container.pidfd()?
    {
        let _ = process::signal(pidfd.as_fd(), 9);
    }
    outcome
}
