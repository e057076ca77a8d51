//! `budu oci`: the OCI runtime's command line, as runc's.
//!
//! Containers are made by the same code as the engine's (`compile`, `birth`,
//! `init`), but without a shim: the first process is left to whoever called
//! us, as container managers (containerd, CRI-O, podman) expect. What has to
//! outlive a command is in a directory for each container, see [`container`].

mod arguments;
mod console;
mod container;
mod create;
mod delete;
mod exec;
mod hooks;
mod kill;
mod log;
mod protect;
mod run;
mod signals;
mod start;
mod state;

use std::ffi::OsString;

use arguments::Global;

use crate::init::Failing;

/// What `--help` prints.
const HELP: &str = "\
NAME:
   budu oci - OCI container runtime, with runc's command line

USAGE:
   budu oci [global options] COMMAND [command options] [arguments...]

COMMANDS:
   checkpoint  checkpoint a running container
   create      create a container
   delete      delete any resources held by the container
   events      display container events such as OOM notifications, cpu, memory, and IO usage statistics
   exec        execute new process inside the container
   features    show the enabled features
   kill        send the specified signal (default: SIGTERM) to the container's init process
   list        list containers started with the given root
   pause       suspend all processes inside the container
   ps          display the processes running inside a container
   restore     restore a container from a previous checkpoint
   resume      resume all processes that have been previously paused
   run         create and run a container
   spec        create a new specification file
   start       execute the user defined process in a created container
   state       output the state of a container
   update      update container resource constraints

GLOBAL OPTIONS:
   --debug             enable debug logging
   --log value         write the log to a file, besides errors on standard error
   --log-format value  format of the log: text or json (default: text)
   --root value        directory for the state of containers (default: /run/budu/oci)
   --systemd-cgroup    let systemd make cgroups; cgroupsPath is slice:prefix:name
   --rootless value    ignore cgroup permission errors: true, false or auto (default: auto)
   --help, -h          show this
   --version, -v       print the version
";

/// Runs one command; `args` is everything after `budu oci`. Returns the exit
/// status: the program's for `run` and `exec`, else 0 or 1.
pub fn main(args: Vec<OsString>) -> i32 {
    let mut parser = lexopt::Parser::from_args(args.iter().cloned());
    let (global, command) = match arguments::global(&mut parser) {
        Ok(Some(found)) => found,
        Ok(None) => return 0,
        Err(failure) => {
            log::Log::default().error(&failure.message);
            return 1;
        }
    };
    let log = match log::Log::open(&global) {
        Ok(log) => log,
        Err(failure) => {
            log::Log::default().error(&failure.message);
            return 1;
        }
    };
    match dispatch(&global, &log, &command, &args, &mut parser) {
        Ok(status) => status,
        Err(failure) => {
            log.error(&failure.message);
            // exec's own failures must not be taken for the program's.
            if command == "exec" { 255 } else { 1 }
        }
    }
}

fn dispatch(
    global: &Global,
    log: &log::Log,
    command: &str,
    args: &[OsString],
    parser: &mut lexopt::Parser,
) -> Failing<i32> {
    if matches!(command, "create" | "run" | "exec" | "restore") {
        protect::reexecute(args)?;
    }
    match command {
        "create" => create::command(global, log, parser),
        "delete" => delete::command(global, log, parser),
        "exec" => exec::command(global, log, parser),
        "kill" => kill::command(global, parser),
        "run" => run::command(global, log, parser),
        "start" => start::command(global, log, parser),
        "state" => state::command(global, parser),
        other => Err(crate::init::invalid(format!("{other:?} is no command; see budu oci --help"))),
    }
}
