//! `start`: lets the program of a created container run.

use std::io::Read;
use std::os::fd::AsFd;

use budu_spec::oci;
use budu_sys::process;
use lexopt::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::arguments::{Global, only_id};
use super::container::{self, Container, GO, NEWS, Status, has_executed};
use super::hooks;
use super::log::Log;
use super::notify::Manager;
use crate::birth::Newborn;
use crate::compile;
use crate::init::{Failing, START, failed};
use crate::protocol::{self, Event, Failure, FailureClass};

const PAUSED: &str = "cannot start a container in the paused state";
/// A first process that takes longer to execute may be one that is frozen.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

pub(super) fn command(global: &Global, _log: &Log, parser: &mut Parser) -> Failing<i32> {
    let container = Container::open(global, &only_id(parser, "start")?)?;
    // Of two who start it the second finds no gate any more. While it is made it stays locked, and is refused anyway.
    if container.state.pid != 0 && !container.seize()? {
        return Err(container::unknown());
    }
    // Whether it is frozen is asked only when it does not answer.
    if container.state.pid == 0 || !container.is_alive() || !container.waits() {
        return Err(refused(match container.status()? {
            Status::Stopped => "cannot start a container that has stopped",
            Status::Paused => PAUSED,
            Status::Creating => "cannot start a container in the creating state",
            Status::Created | Status::Running => "cannot start an already running container",
        }));
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
    let go = open(GO, OFlags::RDWR)?;
    let relay = Manager::of_environment().map(|manager| manager.listen(&container)).transpose()?;
    rustix::io::write(&go, &[START]).map_err(|e| what(e.into()))?;
    let answers = poll(&mut [PollFd::new(&news, PollFlags::IN)], Some(&PATIENCE)).is_ok_and(|ready| ready > 0);
    // Whatever was taken from the gate is on its way.
    if !answers && container.is_frozen()? && rustix::io::read(&go, &mut [0u8]).is_ok() {
        return Err(refused(PAUSED));
    }
    container.remove_gate();
    container.release()?;
    rustix::io::ioctl_fionbio(&news, false).map_err(|e| what(e.into()))?;
    let mut said = Vec::new();
    std::fs::File::from(news).read_to_end(&mut said).map_err(failed("hear of the program's start"))?;
    if let Some(Ok(Event::Failed(failure))) = said.get(protocol::HEADER..).map(protocol::decode) {
        return Err(failure);
    }
    // Once it is reaped only the gate can tell: nobody went through it who left in it what lets go. Who is killed
    // between gate and program, and reaped before we look, counts as started: nothing tells it from a short program.
    let went = || rustix::io::read(&go, &mut [0u8]).is_err();
    if !container.has_executed().unwrap_or_else(went) {
        return Err(killed());
    }
    poststart(&container)?;
    if let (Some(relay), Some(pidfd)) = (relay, container.pidfd()?) {
        relay.attend(container.state.pid, pidfd)?;
    }
    Ok(0)
}

/// What the end of the news means when nothing was executed.
fn killed() -> Failure {
    let message = "the container's first process was killed before it executed its program".to_owned();
    Failure { class: FailureClass::Internal, message }
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
        // Closed by exec, or by its death; until we reap it there is something to tell by.
        _ if has_executed(born.pid.as_raw_nonzero().get()) == Some(false) => Err(killed()),
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
