//! `run`: create and start in one, and in the foreground wait and delete.

use std::os::fd::AsFd;

use lexopt::Parser;

use super::arguments::{Global, Word, flag, next};
use super::console::Foreground;
use super::create::{self, Options, Purpose};
use super::log::Log;
use super::signals::{self, Held};
use super::{delete, start};
use crate::init::{Failing, failed};
use crate::protocol::FailureClass;

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let mut options = Options::default();
    let (mut detach, mut keep, mut no_subreaper) = (false, false, false);
    while let Some(word) = next(parser)? {
        match &word {
            Word::Flag(name) if name == "d" || name == "detach" => detach = flag(parser)?,
            Word::Flag(name) if name == "keep" => keep = flag(parser)?,
            Word::Flag(name) if name == "no-subreaper" => no_subreaper = flag(parser)?,
            _ => options.take(word, parser)?,
        }
    }
    if detach {
        let standing = create::create(global, log, &options, Purpose::Detached)?;
        let started = start::let_go(&standing.born).and_then(|()| start::poststart(&standing.container));
        if let (Ok(()), Some(relay)) = (&started, &standing.relay)
            && let Err(failure) = relay.attend(standing.container.state.pid, &standing.born.pidfd)
        {
            log.warning(&failure.message);
        }
        return match started {
            Ok(()) => Ok(0),
            Err(failure) => {
                standing.born.abort();
                let _ = delete::destroy(standing.container, log);
                Err(failure)
            }
        };
    }
    foreground(global, log, &options, keep, no_subreaper)
}

fn foreground(global: &Global, log: &Log, options: &Options, keep: bool, no_subreaper: bool) -> Failing<i32> {
    if !no_subreaper {
        // Orphans of the container come to us and go with us, not to the host's init.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|e| failed("become a subreaper")(e.into()))?;
    }
    let standing = create::create(global, log, options, Purpose::Foreground)?;
    let held = Held::all()?;
    let outcome = standing.terminal.map(Foreground::new).transpose().and_then(|terminal| {
        start::let_go(&standing.born)?;
        start::poststart(&standing.container)?;
        let (pid, pidfd) = (standing.container.state.pid, standing.born.pidfd.as_fd());
        signals::attend(pid, pidfd, &held, terminal, standing.relay)
    });
    if outcome.is_err() {
        standing.born.abort();
    }
    if !keep {
        delete::destroy(standing.container, log)?;
    }
    outcome.or_else(|failure| match failure.class {
        // The kernel's refusal to run the program is the program's own last word.
        FailureClass::CommandNotFound => Ok(say(&failure.message, 127)),
        FailureClass::CommandNotExecutable => Ok(say(&failure.message, 126)),
        _ => Err(failure),
    })
}

fn say(message: &str, status: i32) -> i32 {
    eprintln!("{message}");
    status
}
