//! `cargo xtask nightly`: what takes too long for every change, one suite after the other.

use std::process::Command;

use anyhow::{Result, ensure};

/// Arguments of the commands, in order.
const SUITES: &[&[&str]] = &[
    &["test"],
    &["vm-test"],
    &["conformance", "runc"],
    &["conformance", "contest"],
    &["conformance", "engines"],
    &["fuzz", "--seconds", "60"],
];

/// Runs every suite, whatever becomes of the others, and ends with a line for each.
pub(crate) fn command() -> Result<()> {
    let own = std::env::current_exe()?;
    let mut lines = Vec::new();
    let mut failed = 0;
    for suite in SUITES {
        println!("== {}", suite.join(" "));
        let status = Command::new(&own).args(*suite).current_dir(crate::top()).status()?;
        failed += usize::from(!status.success());
        lines.push(format!("{:8}{}", if status.success() { "ok" } else { "FAILED" }, suite.join(" ")));
    }
    println!("{}", lines.join("\n"));
    ensure!(failed == 0, "{failed} of {} suites failed", SUITES.len());
    Ok(())
}
