//! One binary, several personalities. Which one it is, is decided here from
//! the name it was called by and its first argument, before anything heavy
//! starts: the launcher must stay tiny, since every shim is a copy of it.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Payload of the built-in image `hello`.
static HELLO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello"));

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if is_oci_runtime(&args) {
        return status(budu_runtime::oci::main(args[1..].to_vec()));
    }
    let first = args.get(1).and_then(|arg| arg.to_str());
    status(match first {
        Some(budu_runtime::LAUNCHER_PERSONALITY) if is_launcher(&args) => budu_runtime::launcher_main(),
        Some("oci") => budu_runtime::oci::main(args[2..].to_vec()),
        Some("daemon") => budu_daemon::main(args[2..].to_vec(), HELLO),
        _ => budu_cli::main(args),
    })
}

/// Statuses are 0 to 255; anything else would be a bug and reads as failure.
fn status(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(number).unwrap_or(1))
}

/// Container managers name one file as their OCI runtime: a link to this
/// binary called `budu-oci`, or `runc`, is one.
fn is_oci_runtime(args: &[OsString]) -> bool {
    let name = args.first().map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| name == "budu-oci" || name == "runc")
}

/// The launcher is started under a name no user types.
fn is_launcher(args: &[OsString]) -> bool {
    args.first().is_some_and(|name| name == "budu-launcher")
}
