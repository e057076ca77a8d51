//! `cargo xtask test`: every check there is, and one line at the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::{packages, run, tidy, top};

/// What came of a number of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: i64,
    failed: i64,
    skipped: i64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Takes in one line of a test program's output.
    fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.add(Tally {
                passed: count(result, "passed"),
                failed: count(result, "failed"),
                skipped: count(result, "ignored"),
            });
        } else if line.starts_with("skipped: ") {
            // A test that prints this has returned early: the harness counts it as passed.
            self.passed -= 1;
            self.skipped += 1;
        }
    }
}

/// The number before `word` in `ok. 3 passed; 1 failed; …`.
fn count(text: &str, word: &str) -> i64 {
    let parts = text.split([';', '.']).map(str::trim);
    let mut found = parts.filter_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    found.next().unwrap_or(0)
}

/// Runs everything; fails when anything failed.
pub(crate) fn everything(quick: bool) -> Result<()> {
    let mut tally = Tally::default();
    packages::ensure()?;
    let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    check(&mut tally, "format", || run("cargo", &["fmt", "--all", "--check"]));
    check(&mut tally, "tidy", tidy::command);
    check(&mut tally, "lints", || run("cargo", &lints));
    let unit = ["test", "--quiet", "--workspace", "--exclude", "budu", "--no-fail-fast", "--", "--show-output"];
    tally.add(count_tests(&unit)?);
    tally.add(count_tests(&["test", "--quiet", "--package", "budu", "--bins", "--no-fail-fast"])?);
    if !quick {
        budu_testkit::images::ensure()?;
        tally.add(count_tests(&["test", "--quiet", "--package", "budu", "--test", "e2e"])?);
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    ensure!(tally.failed == 0, "{} failed", tally.failed);
    Ok(())
}

/// Runs the end-to-end tests with arguments of their own.
pub(crate) fn end_to_end(args: &[String]) -> Result<()> {
    packages::ensure()?;
    budu_testkit::images::ensure()?;
    let mut all = vec!["test", "--quiet", "--package", "budu", "--test", "e2e", "--"];
    all.extend(args.iter().map(String::as_str));
    run("cargo", &all)
}

fn check(tally: &mut Tally, name: &str, work: impl FnOnce() -> Result<()>) {
    match work() {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            println!("{name}: {error:#}");
            tally.failed += 1;
        }
    }
}

/// Runs `cargo ARGS`, shows what it prints, and counts.
fn count_tests(args: &[&str]) -> Result<Tally> {
    let mut child = Command::new("cargo").args(args).current_dir(top()).stdout(Stdio::piped()).spawn()?;
    let mut tally = Tally::default();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            tally.line(&line);
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // It did not even get to run its tests, or something outside a test went wrong.
        println!("`cargo {}`: {status}", args.join(" "));
        tally.failed += 1;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally
    }

    #[test]
    fn counts_add_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                    test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s";
        assert_eq!(tally(text), Tally { passed: 13, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_skip_is_not_a_pass() {
        let text = "---- cgroup::v2 stdout ----\nskipped: no cgroup v2 controllers here\n\n\
                    test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(tally(text), Tally { passed: 3, failed: 0, skipped: 1 });
    }

    #[test]
    fn other_lines_do_not_count() {
        assert_eq!(tally("running 3 tests\n3 passed\nok. 5 passed"), Tally::default());
    }
}
