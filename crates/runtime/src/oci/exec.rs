//! `exec`: a further process in a running container.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use budu_spec::oci;
use budu_sys::cgroup::Entry;
use budu_sys::process::SingleThreaded;
use lexopt::Parser;

use super::arguments::{Global, Word, flag, next, number, required, text, undefined};
use super::console::{self, Foreground};
use super::container::{Container, Status};
use super::create::path;
use super::log::Log;
use super::signals::{self, Held};
use crate::birth::{self, Newborn, Visit};
use crate::cgroup;
use crate::compile;
use crate::init::{self, Failing, failed, invalid};
use crate::plan::{About, ExecPlan};
use crate::protocol::{self, Event, Failure, FailureClass};

/// Options of `exec`.
#[derive(Debug, Default)]
struct Options {
    id: Option<String>,
    args: Vec<OsString>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    process: Option<PathBuf>,
    cwd: Option<String>,
    env: Vec<String>,
    tty: bool,
    detach: bool,
    user: Option<String>,
    additional_gids: Vec<u32>,
    process_label: Option<String>,
    apparmor: Option<String>,
    no_new_privs: bool,
    caps: Vec<String>,
    preserve_fds: u32,
    cgroups: Vec<String>,
    ignore_paused: bool,
}

fn parse(parser: &mut Parser) -> Failing<Options> {
    let mut options = Options::default();
    while let Some(word) = next(parser)? {
        let name = match word {
            Word::Flag(name) => name,
            Word::Value(id) if options.id.is_none() => {
                options.id = Some(id.into_string().map_err(|id| invalid(format!("invalid container id {id:?}")))?);
                continue;
            }
            Word::Value(program) => {
                // Whatever follows is the program's.
                options.args.push(program);
                options.args.extend(parser.raw_args()?);
                break;
            }
        };
        match name.as_str() {
            "console-socket" => options.console_socket = path(parser)?,
            "pidfd-socket" => options.pidfd_socket = path(parser)?,
            "pid-file" => options.pid_file = path(parser)?,
            "p" | "process" => options.process = path(parser)?,
            "cwd" => options.cwd = Some(text(parser)?),
            "e" | "env" => options.env.push(text(parser)?),
            "t" | "tty" => options.tty = flag(parser)?,
            "d" | "detach" => options.detach = flag(parser)?,
            "u" | "user" => options.user = Some(text(parser)?),
            "g" | "additional-gids" => options.additional_gids.push(number(parser, &name)?),
            "process-label" => options.process_label = Some(text(parser)?),
            "apparmor" => options.apparmor = Some(text(parser)?),
            "no-new-privs" => options.no_new_privs = flag(parser)?,
            "c" | "cap" => options.caps.push(text(parser)?),
            "preserve-fds" => options.preserve_fds = number(parser, &name)?,
            "cgroup" => options.cgroups.push(text(parser)?),
            "ignore-paused" => options.ignore_paused = flag(parser)?,
            other => return Err(undefined(other)),
        }
    }
    Ok(options)
}

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let options = parse(parser)?;
    let container = Container::open(global, &required(options.id.clone(), "exec")?)?;
    let refused = |message: &str| Failure { class: FailureClass::State, message: message.to_owned() };
    match container.status()? {
        Status::Stopped | Status::Creating => return Err(refused("cannot exec in a stopped container")),
        Status::Paused if !options.ignore_paused => {
            return Err(refused("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        _ => {}
    }
    let spec = container.config()?;
    let process = process(&options, &spec)?;
    console::check(process.terminal, options.detach, options.console_socket.as_deref())?;
    let socket = options.console_socket.as_deref().map(console::connect).transpose()?;
    let plan = ExecPlan {
        tty: process.terminal,
        size: process.console_size.map_or((0, 0), |size| (size.height, size.width)),
        plain_lines: !options.detach,
        process: compile::joining(&spec, &process, options.preserve_fds)?,
        ..ExecPlan::default()
    };
    if !plan.process.initial_cpus.is_empty() {
        log.debug(&format!(
            "affinity: {:#x}",
            plan.process.initial_cpus.iter().fold(0u128, |m, cpu| m | 1 << (cpu % 128))
        ));
    }
    let held = Held::all()?;
    let (born, master) = enter(log, &container, &plan, &options)?;
    let outcome = hand_over(&options, &born, socket.as_ref(), master.as_ref());
    if let Err(failure) = outcome {
        born.abort();
        return Err(failure);
    }
    if options.detach {
        return Ok(0);
    }
    let terminal = master.filter(|_| socket.is_none()).map(Foreground::new).transpose()?;
    signals::attend(born.pid.as_raw_nonzero().get(), born.pidfd.as_fd(), &held, terminal, None)
}

/// Makes the process and waits until its program runs.
fn enter(log: &Log, container: &Container, plan: &ExecPlan, options: &Options) -> Failing<(Newborn, Option<OwnedFd>)> {
    let target = container.pidfd()?.ok_or_else(|| Failure {
        class: FailureClass::State,
        message: "cannot exec in a stopped container".to_owned(),
    })?;
    let entry = entry(container, &options.cgroups)?;
    let token = SingleThreaded::check().map_err(failed("count threads"))?;
    let state = &container.state;
    let about = About {
        oci_version: state.oci_version.clone(),
        bundle: state.bundle.clone(),
        annotations: state.annotations.clone(),
    };
    let visit = Visit {
        target: target.as_fd(),
        namespaces: state.namespaces,
        entry: entry.as_ref(),
        stdio: None,
        die_with_parent: false,
        keep_keyring: state.keep_keyring,
        container: Some(init::Container { id: &state.id, about: &about, pid: state.pid }),
    };
    let born = birth::joining(&token, plan, visit)?;
    log.debug(&format!("process {} joins the container", born.pid.as_raw_nonzero()));
    let mut master = None;
    let mut buffer = [0u8; 16 << 10];
    loop {
        let (n, mut fds) =
            budu_sys::socket::receive_with_fds(&born.report, &mut buffer).map_err(failed("hear of the new process"))?;
        match buffer.get(protocol::HEADER..n).map(protocol::decode) {
            Some(Ok(Event::Created { .. })) => master = fds.pop(),
            Some(Ok(Event::Failed(failure))) => {
                born.abort();
                return Err(failure);
            }
            // Closed by exec, or by its death, which the wait will tell.
            _ => return Ok((born, master)),
        }
    }
}

/// Door to the group to be born into: the container's, or one below it.
fn entry(container: &Container, below: &[String]) -> Failing<Option<Entry>> {
    if container.state.group.is_empty() {
        return Ok(None);
    }
    let Some(layout) = cgroup::layout()? else { return Ok(None) };
    cgroup::exec_entry(&layout, &container.state.group, below, container.state.pid).map(Some)
}

/// The process to run: a file's, or the container's with what the options change.
fn process(options: &Options, spec: &oci::Spec) -> Failing<oci::Process> {
    if let Some(path) = &options.process {
        let what = format!("read the process {}", path.display());
        let bytes = std::fs::read(path).map_err(failed(&what))?;
        return oci::decode(&bytes).map_err(|e| invalid(format!("{what}: {e}")));
    }
    let words = options
        .args
        .iter()
        .map(|word| word.clone().into_string().map_err(|word| invalid(format!("argument {word:?} is not UTF-8"))));
    let args = words.collect::<Failing<Vec<String>>>()?;
    if args.is_empty() {
        return Err(invalid("exec args cannot be empty".to_owned()));
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = args;
    process.terminal = options.tty;
    process.console_size = None;
    process.env.extend(options.env.iter().cloned());
    process.no_new_privileges |= options.no_new_privs;
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(label) = &options.process_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &options.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    if !options.caps.is_empty() {
        let caps = process.capabilities.get_or_insert_default();
        for cap in &options.caps {
            for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
                set.push(cap.clone());
            }
            // Only what is inheritable can be ambient; whether anything is, the container decides.
            if !caps.inheritable.is_empty() {
                caps.ambient.push(cap.clone());
            }
        }
    }
    if let Some(user) = &options.user {
        (process.user.uid, process.user.gid) = numbers(user, process.user.gid)?;
    }
    process.user.additional_gids.extend(&options.additional_gids);
    Ok(process)
}

/// `uid[:gid]`.
fn numbers(user: &str, gid: u32) -> Failing<(u32, u32)> {
    let number = |text: &str| {
        // A sign would be read over.
        let digits = Some(text).filter(|text| text.bytes().all(|letter| letter.is_ascii_digit()));
        digits
            .unwrap_or_default()
            .parse()
            .map_err(|_| invalid(format!("--user {user:?}: want uid[:gid] as numbers up to 4294967295")))
    };
    match user.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => Ok((number(user)?, gid)),
    }
}

fn hand_over(options: &Options, born: &Newborn, socket: Option<&OwnedFd>, master: Option<&OwnedFd>) -> Failing<()> {
    if let (Some(socket), Some(master)) = (socket, master) {
        console::send(socket, master)?;
    }
    if let Some(path) = &options.pidfd_socket {
        console::send_pidfd(&console::connect(path)?, &born.pidfd)?;
    }
    match &options.pid_file {
        Some(path) => console::write_pid(path, born.pid.as_raw_nonzero().get()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(numbers("1000", 5).unwrap(), (1000, 5));
        assert_eq!(numbers("1:2", 5).unwrap(), (1, 2));
        for bad in ["", "root", "-1", "+0", "0:+0", "4294967296", "1:", ":1", "0x0"] {
            assert!(numbers(bad, 0).is_err(), "{bad}");
        }
        // A sign before a number is no number to the kernel either.
        assert!(numbers("1:2:3", 0).is_err());
    }
}
