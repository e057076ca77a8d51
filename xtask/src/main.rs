//! Developer commands: `cargo xtask COMMAND`.
#![forbid(unsafe_code)]

mod ab;
mod conformance;
mod differential;
mod fuzz;
mod nightly;
mod order;
mod packages;
mod peers;
mod reliability;
mod stage;
mod test;
mod tidy;
mod vm;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

const USAGE: &str = "usage: cargo xtask COMMAND

  test [--quick]   everything: format, lints, tidy, unit, kernel and end-to-end tests
                   (--quick leaves the end-to-end tests out)
  e2e [ARGS]       the end-to-end tests alone; ARGS go to them (a filter, --list, ...);
                   BUDU_E2E_BACKEND=dockerd runs them against Docker's own daemon
  tidy             the rules of the source tree
  images           make the images that tests pull
  peers            install dockerd and podman from Debian forky, to compare with
  vm-test [SUITE]  kernel tests in a Debian 12 with control groups v2, in QEMU; see `cargo xtask vm-test --help`
  ab [ARGS]        Budu against dockerd, podman and the floor, in turn; see `cargo xtask ab --help`
  reliability [SUBJECT]  kills, exits without a daemon, many lives, a full disk; see `cargo xtask reliability --help`
  fuzz [TARGET]    broken documents against the runtime, for longer than the tests; see `cargo xtask fuzz --help`
  conformance SUITE  other people's tests of an engine or an OCI runtime; see `cargo xtask conformance --help`
  differential     the same requests to dockerd and to Budu, answers compared; see `cargo xtask differential --help`
  nightly          all of these suites one after the other: test, vm-test, conformance, fuzz
  order            puts together in the binary what `budu oci` runs: writes link/order.ld

Things that are slow to make are kept in $BUDU_CACHE, else ~/.cache/budu.
";

fn main() -> ExitCode {
    budu_testkit::enter_if_caged();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = args.split_first().map_or(("help", &args[..]), |(c, r)| (c.as_str(), r));
    let done = match command {
        "test" => test::everything(rest.iter().any(|arg| arg == "--quick")),
        "e2e" => test::end_to_end(rest),
        "tidy" => tidy::command(),
        "images" => packages::ensure().and_then(|()| budu_testkit::images::ensure()),
        "peers" => packages::ensure().and_then(|()| peers::install()),
        "vm-test" => vm::command(rest),
        "ab" => ab::command(rest),
        "differential" => differential::command(rest),
        "conformance" => conformance::command(rest),
        "reliability" => reliability::command(rest),
        "fuzz" => fuzz::command(rest),
        "nightly" => nightly::command(),
        "order" => order::command(),
        _ => {
            print!("{USAGE}");
            return ExitCode::from(u8::from(command != "help" && command != "--help"));
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the source tree. Cargo says where it runs us from: the binary itself may have been built in another
/// checkout that shares the build cache.
fn top() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().unwrap_or(&own).to_owned()
}

/// Runs a program in the source tree, its output going where ours goes.
fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).current_dir(top()).status()?;
    ensure!(status.success(), "`{program} {}`: {status}", args.join(" "));
    Ok(())
}
