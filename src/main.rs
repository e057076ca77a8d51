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
    if let Some(name) = oci_runtime(&args) {
        return status(budu_runtime::oci::main(&name, args[1..].to_vec()));
    }
    let first = args.get(1).and_then(|arg| arg.to_str());
    status(match first {
        Some(budu_runtime::LAUNCHER_PERSONALITY) if is_launcher(&args) => budu_runtime::launcher_main(),
        Some("oci") => budu_runtime::oci::main(OCI_RUNTIME, args[2..].to_vec()),
        Some("daemon") => budu_daemon::main(args[2..].to_vec(), HELLO),
        _ => budu_cli::main(args),
    })
}

/// Statuses are 0 to 255; anything else would be a bug and reads as failure.
fn status(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(number).unwrap_or(1))
}

/// What `budu oci` calls itself when it executes itself anew.
const OCI_RUNTIME: &str = "budu oci";

/// Container managers name one file as their OCI runtime: a link to this
/// binary called `budu-oci`, or `runc`, is one. The name, if it is.
fn oci_runtime(args: &[OsString]) -> Option<String> {
    let name = args.first().map(Path::new)?.file_name()?.to_str()?;
    matches!(name, "budu-oci" | "runc" | OCI_RUNTIME).then(|| name.to_owned())
}

/// The launcher is started under a name no user types.
fn is_launcher(args: &[OsString]) -> bool {
    args.first().is_some_and(|name| name == "budu-launcher")
}
