//! `budu oci`: the OCI runtime's command line, as runc's.
//!
//! Containers are made by the same code as the engine's (`compile`, `birth`,
//! `init`), but without a shim: the first process is left to whoever called
//! us, as container managers (containerd, CRI-O, podman) expect. What has to
//! outlive a command is in a directory for each container, see [`container`].

mod arguments;
mod checkpoint;
mod console;
mod container;
mod create;
mod criu;
mod delete;
mod events;
mod exec;
mod features;
mod help;
mod hooks;
mod kill;
pub(crate) mod limits;
mod list;
mod log;
mod notify;
mod output;
mod pause;
mod protect;
mod ps;
mod removal;
mod restore;
mod run;
mod signals;
mod spec;
mod start;
mod state;
pub(crate) mod undo;
mod update;

use std::ffi::OsString;

use arguments::Global;

use crate::init::Failing;

/// Runs one command; `name` is what the runtime was called by, `args`
/// everything after it. Returns the exit status: the program's for `run` and
/// `exec`, else 0 or 1.
pub fn main(name: &str, args: Vec<OsString>) -> i32 {
    let mut parser = lexopt::Parser::from_args(args.iter().cloned());
    let (global, command) = match arguments::global(&mut parser, name) {
        Ok(Some(found)) => found,
        Ok(None) => return 0,
        Err(failure) => {
            log::Log::default().error(&failure.message);
            return 1;
        }
    };
    if wants_help(&mut parser) {
        return match help::of_command(name, &command) {
            Some(text) => {
                print!("{text}");
                0
            }
            None => {
                println!("No help topic for '{command}'");
                3
            }
        };
    }
    let log = match log::Log::open(&global) {
        Ok(log) => log,
        Err(failure) => {
            log::Log::default().error(&failure.message);
            return 1;
        }
    };
    match dispatch(name, &global, &log, &command, &args, &mut parser) {
        Ok(status) => status,
        Err(failure) => {
            log.error(&told(name, &command, &failure.message));
            // exec's own failures must not be taken for the program's.
            if command == "exec" { 255 } else { 1 }
        }
    }
}

/// A failure's message with what failed, in runc's words where callers look for them.
fn told(name: &str, command: &str, message: &str) -> String {
    match command {
        "create" | "run" | "restore" => {
            format!("{name} {command} failed: unable to start container process: {message}")
        }
        "exec" => format!("exec failed: unable to start container process: {message}"),
        _ => message.to_owned(),
    }
}

/// Whether help is all that is asked of a command.
fn wants_help(parser: &mut lexopt::Parser) -> bool {
    let words = parser.try_raw_args();
    words.is_some_and(|words| words.peek().is_some_and(|word| word == "-h" || word == "--help"))
}

fn dispatch(
    name: &str,
    global: &Global,
    log: &log::Log,
    command: &str,
    args: &[OsString],
    parser: &mut lexopt::Parser,
) -> Failing<i32> {
    if matches!(command, "create" | "run" | "exec" | "restore") {
        protect::reexecute(name, args)?;
        // A container runs where its cgroup lets it, whatever we were bound to.
        let _ = budu_sys::scheduling::reset_affinity();
    }
    match command {
        "checkpoint" => checkpoint::command(global, log, parser),
        "create" => create::command(global, log, parser),
        "delete" => delete::command(global, log, parser),
        "events" => events::command(global, log, parser),
        "exec" => exec::command(global, log, parser),
        "features" => features::command(parser),
        "kill" => kill::command(global, parser),
        "list" => list::command(global, parser),
        "pause" => pause::pause(global, parser),
        "ps" => ps::command(global, parser),
        "restore" => restore::command(global, log, parser),
        "resume" => pause::resume(global, parser),
        "run" => run::command(global, log, parser),
        "spec" => spec::command(parser),
        "start" => start::command(global, log, parser),
        "state" => state::command(global, parser),
        "update" => update::command(global, log, parser),
        other => Err(crate::init::invalid(format!("{other:?} is no command; see --help"))),
    }
}
