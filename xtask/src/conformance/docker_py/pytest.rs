//! One file of tests against one engine.

use std::time::Duration;

use anyhow::Result;
use budu_testkit::{Backend, Engine, Options, Registry};

use super::suite::{IMAGES, Suite};
use crate::conformance::verdict::Results;

/// Time limit of one file of tests, and of one test in seconds.
const LIMIT: Duration = Duration::from_secs(1200);
const TEST_LIMIT: &str = "90";

/// Runs `file` (only tests that match a filter, if there are any): results by `file::Class::name`.
pub(super) fn run(suite: &Suite, backend: Backend, file: &str, filters: &[String]) -> Result<Results> {
    let mut options = Options { backend: Some(backend), ..Options::default() };
    options.flags = ["--registry-mirror".to_owned(), format!("http://{}", Registry::ADDRESS)].to_vec();
    if backend == Backend::Dockerd {
        // Live restore, which the other tests want, forbids swarm; swarm is left out here, but one test looks for it.
        options.flags.push("--live-restore=false".to_owned());
    }
    let engine = Engine::start(options)?;
    Registry::start(engine.side(), &suite.registry()?, &engine.path("registry.log"))?;
    for image in IMAGES {
        let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
        let source = format!("{}/library/{name}", Registry::ADDRESS);
        engine.http("POST", &format!("/images/create?fromImage={source}&tag={tag}"), None)?;
        let target = format!("/images/{source}:{tag}/tag?repo={name}&tag={tag}");
        engine.http("POST", &target, None)?;
        engine.http("DELETE", &format!("/images/{source}:{tag}"), None)?;
    }
    let who = if backend == Backend::Budu { "budu" } else { "dockerd" };
    let log = suite.path(&format!("logs/{who}/{file}.log"));
    std::fs::create_dir_all(log.parent().unwrap_or(&log))?;
    let _ = std::fs::remove_file(&log);
    let home = engine.path("home");
    for name in ["home", "tmp"] {
        std::fs::create_dir_all(engine.path(name))?;
    }
    // Without it contexts are kept in the current directory.
    std::fs::create_dir_all(home.join(".docker"))?;
    std::fs::write(home.join(".docker/config.json"), "{}")?;
    let text = |path: std::path::PathBuf| path.display().to_string();
    let mut argv = vec![text(suite.path("venv/bin/python")), "-m".to_owned(), "pytest".to_owned()];
    let words = ["-p", "no:cacheprovider", "-v", "-rfE", "--tb=short", "--timeout", TEST_LIMIT];
    argv.extend(words.iter().map(|word| (*word).to_owned()));
    argv.push(format!("tests/integration/{file}.py"));
    let inside: Vec<String> = filters.iter().filter_map(|filter| selection(file, filter)).collect();
    if !inside.is_empty() {
        argv.extend(["-k".to_owned(), inside.join(" or ")]);
    }
    let change = format!("cd {} && exec \"$@\"", suite.path("source").display());
    argv.splice(0..0, ["sh".to_owned(), "-c".to_owned(), change, "sh".to_owned()]);
    let env = [
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("HOME", text(home)),
        ("TMPDIR", text(engine.path("tmp"))),
        ("DOCKER_HOST", format!("unix://{}", text(engine.socket()))),
        // What dockerd does for the newest version that it knows.
        ("DOCKER_TEST_API_VERSION", "1.51".to_owned()),
        ("COLUMNS", "500".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ];
    let env: Vec<_> = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let pid = engine.side().spawn(&argv, &env, &log)?;
    let ended = engine.side().wait_exit(pid, LIMIT);
    let mut said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    std::fs::copy(engine.path("daemon.log"), log.with_extension("daemon.log"))?;
    if let Err(error) = ended {
        said.push_str(&format!("\n{error:#}\n"));
        println!("{file}: {error:#}");
    }
    Ok(read(&said))
}

/// What pytest is asked to select for `filter`; nothing when it names the whole file.
fn selection(file: &str, filter: &str) -> Option<String> {
    if file.contains(filter) { None } else { Some(filter.rsplit("::").next().unwrap_or(filter).to_owned()) }
}

/// Results of a verbose run: `ok`, `not ok` or `skipped`, and why.
fn read(said: &str) -> Results {
    let mut results = Results::new();
    let mut pending: Option<String> = None;
    for line in said.lines() {
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("tests/integration/")
            && let Some((name, rest)) = rest.split_once(' ').or(Some((rest, "")))
            && name.contains("::")
        {
            let name = name.replace(".py::", "::");
            match word(rest) {
                Some(result) => note(&mut results, &name, result),
                None => pending = Some(name),
            }
        } else if let (Some(name), Some(result)) = (pending.clone(), word(line)) {
            note(&mut results, &name, result);
            pending = None;
        }
        let summary = line.strip_prefix("FAILED tests/integration/").or(line.strip_prefix("ERROR tests/integration/"));
        if let Some((name, why)) = summary.and_then(|rest| rest.split_once(" - ")) {
            results.insert(name.replace(".py::", "::"), ("not ok".to_owned(), why.to_owned()));
        }
    }
    if let Some(name) = pending {
        results.insert(name, ("not ok".to_owned(), "did not end in time".to_owned()));
    }
    results
}

/// A test that failed and whose teardown then also failed has two results: the worse one counts.
fn note(results: &mut Results, name: &str, result: &str) {
    if results.get(name).is_none_or(|(known, _)| known != "not ok") {
        results.insert(name.to_owned(), (result.to_owned(), String::new()));
    }
}

fn word(text: &str) -> Option<&'static str> {
    text.split_whitespace().find_map(|word| match word {
        "PASSED" | "XPASS" => Some("ok"),
        "FAILED" | "ERROR" => Some("not ok"),
        "SKIPPED" | "XFAIL" => Some("skipped"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verbose_run_is_read() {
        let said = "tests/integration/a_test.py::C::one PASSED   [ 1%]\ntests/integration/a_test.py::C::two FAILED [ 2%]\n\
                    tests/integration/a_test.py::C::three SKIPPED (no) [ 3%]\ntests/integration/a_test.py::C::four printed\n\
                    PASSED [ 9%]\nFAILED tests/integration/a_test.py::C::two - docker.errors.APIError: 500 - why\n";
        let found = read(said);
        assert_eq!(found["a_test::C::one"].0, "ok");
        assert_eq!(found["a_test::C::two"], ("not ok".to_owned(), "docker.errors.APIError: 500 - why".to_owned()));
        assert_eq!(found["a_test::C::three"].0, "skipped");
        assert_eq!(found["a_test::C::four"].0, "ok");
    }
}
