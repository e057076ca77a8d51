//! What the guest said: lines of test programs between marks of ours.

use super::suite::Suite;

/// Start of a line that is meant for us and not for the reader.
const MARK: &str = "@@";

/// One program's result.
#[derive(Debug, Default)]
struct Part {
    name: String,
    passed: i64,
    failed: i64,
    skipped: i64,
    /// The program's exit status; `None` while it runs or when it never ended.
    status: Option<i32>,
    seconds: String,
}

/// Results of everything that ran.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    parts: Vec<Part>,
    boot: Option<String>,
    ended: bool,
}

impl Outcome {
    /// Takes in one line. Says whether the reader should see it.
    pub(super) fn line(&mut self, line: &str) -> bool {
        let Some(mark) = line.strip_prefix(MARK) else {
            self.output(line.trim());
            return true;
        };
        let words: Vec<&str> = mark.split_whitespace().collect();
        match (words.as_slice(), self.parts.last_mut()) {
            (["boot", uptime], _) => self.boot = Some((*uptime).to_owned()),
            (["begin", name], _) => {
                println!("--- {name}");
                self.parts.push(Part { name: (*name).to_owned(), ..Part::default() });
            }
            (["end", status, seconds], Some(part)) => {
                part.status = status.parse().ok();
                part.seconds = (*seconds).to_owned();
            }
            (["done"], _) => self.ended = true,
            _ => return true,
        }
        false
    }

    fn output(&mut self, line: &str) {
        let Some(part) = self.parts.last_mut() else { return };
        if let Some(result) = line.strip_prefix("test result: ") {
            part.passed += count(result, "passed");
            part.failed += count(result, "failed");
            part.skipped += count(result, "ignored");
        } else if let Some(result) = line.strip_prefix("e2e: ") {
            // This harness knows of skips, and its totals stand for those above.
            (part.passed, part.failed, part.skipped) =
                (count(result, "passed"), count(result, "failed"), count(result, "skipped"));
        } else if line.starts_with("skipped: ") {
            // A test that prints this has returned early: the harness counts it as passed.
            part.passed -= 1;
            part.skipped += 1;
        }
    }

    /// The guest's uptime at the moment it was ready, once.
    pub(super) fn take_boot(&mut self) -> Option<String> {
        self.boot.take()
    }

    /// A line for each program, and one for each suite of which nothing was heard.
    pub(super) fn print(&self, wanted: &[Suite]) {
        println!();
        for part in &self.parts {
            let status = match part.status {
                Some(0) => String::new(),
                Some(124 | 137) => ", stopped: it took too long".to_owned(),
                Some(status) => format!(", exit status {status}"),
                None => ", did not end".to_owned(),
            };
            let Part { name, passed, failed, skipped, seconds, .. } = part;
            println!("{name:<28} {passed} passed, {failed} failed, {skipped} skipped, {seconds} s{status}");
        }
        for suite in wanted.iter().filter(|suite| !self.heard_of(suite)) {
            println!("{:<28} did not run", suite.name());
        }
    }

    fn heard_of(&self, suite: &Suite) -> bool {
        self.parts.iter().any(|part| part.name.split('.').next() == Some(suite.name()))
    }

    /// Whether all that was wanted ran to its end without a failure.
    pub(super) fn good(&self, wanted: &[Suite]) -> bool {
        self.ended
            && wanted.iter().all(|suite| self.heard_of(suite))
            && self.parts.iter().all(|part| part.failed == 0 && part.status == Some(0))
    }

    /// The closing line. A program that broke off counts as one failure if it told of none.
    pub(super) fn total(&self) -> String {
        let broken = self.parts.iter().filter(|part| part.status != Some(0) && part.failed == 0).count();
        let sum = |of: fn(&Part) -> i64| self.parts.iter().map(of).sum::<i64>();
        let (passed, skipped) = (sum(|part| part.passed), sum(|part| part.skipped));
        let failed = sum(|part| part.failed) + i64::try_from(broken).unwrap_or(i64::MAX);
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The number before `word` in `ok. 3 passed; 1 failed; …` or `3 passed, 1 failed, …`.
fn count(text: &str, word: &str) -> i64 {
    let parts = text.split([';', '.', ',']).map(str::trim);
    let mut found = parts.filter_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    found.next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        text.lines().for_each(|line| {
            outcome.line(line);
        });
        outcome
    }

    const SYS: &str = "@@begin sys.budu_sys\ntest a ... ok\nskipped: no freezer\n\
        test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n@@end 0 4\n";

    #[test]
    fn results_are_counted() {
        let outcome = said(&format!("@@boot 15.2\n{SYS}@@done\n"));
        assert_eq!(outcome.total(), "2 passed, 0 failed, 2 skipped");
        assert!(outcome.good(&[Suite::parse("sys").expect("known")]));
        assert!(!outcome.good(&[Suite::Engine]), "what never ran is not good");
    }

    #[test]
    fn what_breaks_off_is_a_failure() {
        let outcome = said(&format!("{SYS}@@begin runtime.shim\ntest b ... ok\n"));
        assert_eq!(outcome.total(), "2 passed, 1 failed, 2 skipped");
        assert!(!outcome.good(&[]));
        let outcome = said("@@begin sys.x\ntest result: ok. 1 passed; 0 failed\n@@end 139 0\n@@done\n");
        assert_eq!(outcome.total(), "1 passed, 1 failed, 0 skipped");
        assert!(!outcome.good(&[]));
    }

    #[test]
    fn totals_of_the_end_to_end_tests_replace_the_harness_s() {
        let outcome = said(
            "@@begin e2e.e2e\ntest result: ok. 5 passed; 0 failed\nskipped: x: why\n\
             e2e: 5 passed, 0 failed, 1 skipped\n@@end 0 9\n@@done\n",
        );
        assert_eq!(outcome.total(), "5 passed, 0 failed, 1 skipped");
    }
}
