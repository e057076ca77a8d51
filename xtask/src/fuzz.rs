//! `cargo xtask fuzz`: the tests of `crates/runtime/tests/fuzz`, for longer.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::top;

const USAGE: &str = "usage: cargo xtask fuzz [TARGET] [--seconds N] [--seed N] [--case N]

Documents and files that are almost right, against everything in the runtime that reads them.

  TARGET       one of config, config_text, process, resources, seccomp, docker_profile, mountinfo, cgroup_files,
               cgroup_words, state; all of them when none is named
  --seconds N  for each target (60)
  --seed N     other cases than those of seed 1
  --case N     that one case alone, as a failure names it
";

/// Runs the command.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "--package", "budu-runtime", "--test", "fuzz", "--"]).current_dir(top());
    cargo.env("BUDU_FUZZ_SECONDS", "60");
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = match arg.as_str() {
            "--seconds" => "BUDU_FUZZ_SECONDS",
            "--seed" => "BUDU_FUZZ_SEED",
            "--case" => "BUDU_FUZZ_CASE",
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(());
            }
            flag if flag.starts_with('-') => bail!("{flag} is no option\n{USAGE}"),
            target => {
                cargo.args(["--exact", target]);
                continue;
            }
        };
        let value: u64 =
            args.next().context("an option wants a number")?.parse().context("an option wants a number")?;
        cargo.env(name, value.to_string());
    }
    let status = cargo.status()?;
    ensure!(status.success(), "fuzzing found something: {status}");
    Ok(())
}
