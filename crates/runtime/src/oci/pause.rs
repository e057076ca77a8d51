//! `pause` and `resume`: all processes of a container stand still, or go on.

use budu_sys::cgroup::Cgroup;
use lexopt::Parser;

use super::arguments::{Global, only_id};
use super::container::{Container, Status};
use crate::init::Failing;
use crate::protocol::{Failure, FailureClass};

fn refused(message: &str) -> Failure {
    Failure { class: FailureClass::State, message: message.to_owned() }
}

pub(super) fn pause(global: &Global, parser: &mut Parser) -> Failing<i32> {
    let container = Container::open(global, &only_id(parser, "pause")?)?;
    match container.status()? {
        Status::Created | Status::Running => {}
        Status::Paused => return Err(refused("container already paused")),
        Status::Creating | Status::Stopped => return Err(refused("container not running")),
    }
    group(&container)?.freeze()?;
    Ok(0)
}

pub(super) fn resume(global: &Global, parser: &mut Parser) -> Failing<i32> {
    let container = Container::open(global, &only_id(parser, "resume")?)?;
    if container.status()? != Status::Paused {
        return Err(refused("container not paused"));
    }
    group(&container)?.thaw()?;
    Ok(0)
}

fn group(container: &Container) -> Failing<Cgroup> {
    container.group()?.ok_or_else(|| refused("the container has no cgroup of its own, so it cannot be paused"))
}
