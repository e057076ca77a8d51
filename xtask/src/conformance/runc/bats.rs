//! One `.bats` file, run in a cage, and what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use budu_testkit::{Cage, Mount, World};

use crate::conformance::verdict::Results;
use crate::stage::Dir;

/// Search path of the tests.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Runs the tests on a terminal, which a container in the foreground needs. Their output must not go there: it would
/// come back with other line ends. Nothing ever comes from it either, not even its end, which would look like typing.
const SCRIPT: &str =
    r#"mkfifo "$TMPDIR/keyboard" && exec script --quiet --return --command "$BATS" /dev/null 0<>"$TMPDIR/keyboard""#;
/// Runs the tests.
const BATS: &str = r#"exec bats --tap ${FILTER:+--filter "$FILTER"} "$FILE" >>"$LOG" 2>&1"#;
/// Time limit of one test. The longest needs half a minute with runc.
const LIMIT: Duration = Duration::from_secs(120);

/// A file of the suite and those of its tests that are wanted.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Its path.
    pub(super) path: PathBuf,
    /// Its name without the ending.
    pub(super) name: String,
    /// Names of tests, in order.
    pub(super) tests: Vec<String>,
    whole: bool,
}

impl File {
    /// All files in `dir`, by name.
    pub(super) fn all(dir: &Path) -> Result<Vec<File>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "bats") {
                let name = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
                let tests = names(&fs::read_to_string(&path)?);
                files.push(File { path, name, tests, whole: true });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// The same file with only the tests that `wanted` accepts by their full name.
    pub(super) fn only(&self, wanted: impl Fn(&str) -> bool) -> File {
        let tests: Vec<String> = self.tests.iter().filter(|test| wanted(&self.full(test))).cloned().collect();
        let whole = self.whole && tests.len() == self.tests.len();
        File { tests, whole, ..self.clone() }
    }

    /// The name of a test in results and exceptions.
    pub(super) fn full(&self, test: &str) -> String {
        format!("{}::{test}", self.name)
    }

    /// Runs the tests with `runtime`. After one that hangs, the others are run without it. `kept` gets all output.
    pub(super) fn run(&self, runtime: &Path, kept: &Path) -> Result<Results> {
        let dir = Dir::new()?;
        // Somebody else may be running the same file.
        let log = dir.path().join("tap");
        let mut results = Results::new();
        let mut left = self.clone();
        while !left.tests.is_empty() {
            fs::File::options().create(true).append(true).open(&log)?;
            let ended = left.once(runtime, &log)?;
            fs::copy(&log, kept)?;
            let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            for (test, result) in read(&said) {
                results.insert(self.full(&test), result);
            }
            let stuck = left.tests.iter().find(|test| !results.contains_key(&self.full(test))).cloned();
            let Some(stuck) = stuck else { break };
            let why = if ended { "no result" } else { "did not end in time" };
            results.insert(self.full(&stuck), ("not ok".to_owned(), why.to_owned()));
            left = left.only(|name| !results.contains_key(name));
        }
        Ok(results)
    }

    /// Runs the tests once; whether it came to an end.
    fn once(&self, runtime: &Path, log: &Path) -> Result<bool> {
        let dir = Dir::new()?;
        let link = dir.path().join("runc");
        std::os::unix::fs::symlink(runtime, &link)?;
        let cage = Cage::new(&world())?;
        let tests: Vec<String> = self.tests.iter().map(|test| escape(test)).collect();
        let filter = if self.whole { String::new() } else { format!("^({}) *$", tests.join("|")) };
        let text = |path: &Path| path.display().to_string();
        let env = [
            ("PATH", PATH.to_owned()),
            ("HOME", "/root".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("TMPDIR", text(dir.path())),
            ("RUNC", text(&link)),
            ("BATS", BATS.to_owned()),
            ("LOG", text(log)),
            ("FILTER", filter),
            ("FILE", text(&self.path)),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let argv = ["sh", "-c", SCRIPT].map(str::to_owned);
        let pid = cage.spawn(&argv, &env, &dir.path().join("terminal"))?;
        let ended = wait(&cage, pid, log);
        thaw(&cage);
        Ok(ended)
    }
}

/// The machine itself, but for places outside of their own directory where tests of checkpoints write.
fn world() -> World {
    let place = |path: &str| Mount::Tmpfs { target: PathBuf::from(path), bytes: 1 << 20 };
    let criu = Path::new("/usr/sbin/criu").exists().then(|| [place("/etc/criu"), place("/run/netns")]);
    World { mounts: criu.into_iter().flatten().collect(), ..World::default() }
}

/// Waits for the end as long as there is news, in form of results, once in a while.
fn wait(cage: &Cage, pid: u32, log: &Path) -> bool {
    let mut known = 0;
    let mut since = Instant::now();
    while since.elapsed() < LIMIT {
        if cage.wait_exit(pid, Duration::from_secs(1)).is_ok() {
            return true;
        }
        let size = fs::metadata(log).map_or(0, |meta| meta.len());
        if size != known {
            (known, since) = (size, Instant::now());
        }
    }
    false
}

/// What is frozen does not die.
fn thaw(cage: &Cage) {
    for dir in cage.cgroups() {
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            if dir.join(file).exists() {
                let _ = fs::write(dir.join(file), word);
            }
        }
    }
}

/// Names of the tests in a file.
fn names(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("@test \"")?.rsplit_once("\" {")?.0.trim().to_owned());
    text.lines().filter_map(name).collect()
}

/// A name as a regular expression.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for letter in name.chars() {
        if !(letter.is_alphanumeric() || " _-:/'#@=,<>~%".contains(letter)) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Results in the output, in the Test Anything Protocol.
fn read(said: &str) -> Vec<(String, (String, String))> {
    let mut results: Vec<(String, (String, String))> = Vec::new();
    for line in said.lines() {
        let (result, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => ("ok", rest),
            (_, Some(rest)) => ("not ok", rest),
            _ => {
                let comment = line.strip_prefix("# ");
                if let (Some((_, (_, why))), Some(comment)) = (results.last_mut(), comment) {
                    why.push_str(comment);
                    why.push('\n');
                }
                continue;
            }
        };
        let Some((_, name)) = rest.split_once(' ') else { continue };
        let entry = match name.split_once(" # skip") {
            Some((name, why)) => (name.trim(), "skipped", why.trim()),
            None => (name.trim(), result, ""),
        };
        results.push((entry.0.to_owned(), (entry.1.to_owned(), entry.2.to_owned())));
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let said = "1..3\nok 1 runc run [a]\nnot ok 2 it fails\n# (in test file x)\n#   `false' failed\n\
                    ok 3 odd one  # skip test requires criu\n";
        let results = read(said);
        assert_eq!(results.len(), 3);
        assert_eq!(results[0], ("runc run [a]".to_owned(), ("ok".to_owned(), String::new())));
        assert_eq!(results[1].1.1, "(in test file x)\n  `false' failed\n");
        assert_eq!(results[2], ("odd one".to_owned(), ("skipped".to_owned(), "test requires criu".to_owned())));
    }

    #[test]
    fn tests_are_listed() {
        let text = "load helpers\n@test \"runc create [ --pidfd-socket ] \" {\n\ttrue\n}\n\n@test \"second\" {\n}\n";
        assert_eq!(names(text), ["runc create [ --pidfd-socket ]", "second"]);
    }

    #[test]
    fn names_become_expressions() {
        assert_eq!(escape("runc run [a+b] (c)"), "runc run \\[a\\+b\\] \\(c\\)");
    }
}
