//! The command line against a daemon that remembers what it was asked, alone and next to the real
//! `docker` command.

mod differential;
mod fake;
mod flows;
mod terminal;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The program under test, which cargo builds as an example next to the tests.
fn client() -> PathBuf {
    let mut path = std::env::current_exe().expect("path of the test");
    path.pop();
    path.pop();
    path.push("examples/client");
    assert!(path.exists(), "{} is missing: run `cargo test -p budu-cli`, which builds it", path.display());
    path
}

/// Runs `program` against `host` with this input.
fn run(program: &std::path::Path, host: &str, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("DOCKER_HOST", host)
        .env("DOCKER_CONFIG", "/nonexistent")
        .env("FROM_OUTSIDE", "yes")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the program");
    // A program that does not read its input closes the pipe; that is its right.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("wait for the program")
}

/// Standard output, standard error and status as one text.
fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}--\n{}--\n{}", text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}
