//! What people type: Docker's command line, spoken to any Docker Engine API.
//!
//! Arguments become one API request or a few; answers become text. The crate knows the words of
//! the API (`budu_spec`) and the user's terminal and files; it never knows how a container is made,
//! and works against any daemon that speaks the API.
//!
//! - a command is one file below `commands`, implementing one small trait;
//! - `create` turns the flags of `run` into the body of a create request;
//! - `client` owns connections, API versions and hijacking; `autostart` brings a daemon to life when
//!   nobody answers on the default socket;
//! - `template` and `table` print what `--format` asks for.
//!
//! ```no_run
//! let status = budu_cli::main(std::env::args_os().collect());
//! std::process::exit(status);
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attach;
mod autostart;
mod cli;
mod client;
mod commands;
mod config;
mod confirm;
mod context;
mod create;
mod credentials;
mod data;
mod detach;
mod error;
mod files;
mod flags;
mod help;
mod host;
mod payload;
mod progress;
mod table;
mod template;
mod terminal;
mod transport;

use std::ffi::OsString;

use error::Error;

/// Runs the command that `args` (with the program's name first) spell, and returns the exit status.
pub fn main(args: Vec<OsString>) -> i32 {
    let program = program_name(args.first());
    let mut rest = Vec::with_capacity(args.len().saturating_sub(1));
    for arg in args.into_iter().skip(1) {
        match arg.into_string() {
            Ok(arg) => rest.push(arg),
            Err(arg) => {
                eprintln!("{program}: argument {} is not valid UTF-8", arg.display());
                return 1;
            }
        }
    }
    match dispatch(program, &rest) {
        Ok(code) => code,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() && !error.is_broken_pipe() {
                eprintln!("{text}");
            }
            error.code()
        }
    }
}

/// `docker` when called so (also through a link), else our own name.
fn program_name(first: Option<&OsString>) -> &'static str {
    let name = first.map(std::path::Path::new).and_then(|path| path.file_name());
    if name.is_some_and(|name| name == "docker") { "docker" } else { "budu" }
}

fn dispatch(program: &'static str, args: &[String]) -> Result<i32, Error> {
    if args.first().is_some_and(|arg| arg == autostart::DETACHED) {
        return Err(autostart::become_daemon());
    }
    let (cli, rest) = match cli::Cli::parse(program, args)? {
        cli::Parsed::Done => return Ok(0),
        cli::Parsed::Run(cli, rest) => (cli, rest),
    };
    let call = match commands::find(&cli, rest)? {
        commands::Found::Done => return Ok(0),
        commands::Found::Call(call) => call,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(format_args!("start the event loop: {error}")))?;
    let result = runtime.block_on(call.run(&cli));
    // A thread may still sit in a read of standard input: do not wait for it.
    runtime.shutdown_background();
    result
}
