//! `cargo xtask conformance compose`: Docker's Compose with a file of five services, against dockerd and against Budu.

use std::process::Command;

use anyhow::{Result, bail, ensure};
use budu_testkit::{Backend, Client, Engine, Options, images, peers};

use crate::packages;
use crate::stage::build_budu;

const USAGE: &str = "usage: cargo xtask conformance compose [--dockerd | --budu] [--verbose]

Takes Docker's Compose of the peers through up, ps, logs, exec, restart, scale, profiles, stop and down -v with a file of
five services, first against dockerd, then against Budu. A binary in $BUDU_BIN is used as it is.
";

/// What is done, and a part of what must be printed. The first word of the line may be `!`: it must fail.
const STEPS: [(&str, &str); 21] = [
    ("config --services", "web"),
    ("up -d --quiet-pull", ""),
    ("ps --services --status running", "web"),
    ("ps -a --format {{.Service}}:{{.State}}:{{.ExitCode}} job", "job:exited:0"),
    ("ps --format {{.Service}}:{{.Health}} db", "db:healthy"),
    ("logs --no-color app", "seeded"),
    ("logs --no-log-prefix job", "job done"),
    ("exec -T app cat /data/state", "seeded"),
    ("! exec -T app touch /data/no", "Read-only"),
    ("exec -T app env", "COLOUR=red"),
    ("exec -T app wget -q -O - http://web/index.html", "served"),
    ("! exec -T db wget -q -T 2 -O - http://web/index.html", ""),
    ("port web 80", "28080"),
    ("--profile tools run --rm -T tool", "served"),
    ("restart -t 0 web", ""),
    ("top web", "httpd"),
    ("pause app", ""),
    ("unpause app", ""),
    ("stop -t 0 web", ""),
    ("up -d --force-recreate -t 0 web", ""),
    ("down -v -t 0", ""),
];

/// Runs what `args` ask for.
pub(super) fn command(args: &[String]) -> Result<()> {
    let (mut backends, mut verbose) = (vec![Backend::Dockerd, Backend::Budu], false);
    for word in args {
        match word.as_str() {
            "--dockerd" => backends = vec![Backend::Dockerd],
            "--budu" => backends = vec![Backend::Budu],
            "--verbose" => verbose = true,
            _ => {
                print!("{USAGE}");
                return Ok(());
            }
        }
    }
    packages::ensure()?;
    build_budu()?;
    ensure!(peers::compose().exists(), "docker-compose is not there: `cargo xtask peers` installs it");
    let mut failed = Vec::new();
    for backend in backends {
        let who = if backend == Backend::Budu { "budu" } else { "dockerd" };
        let bad = drive(backend, verbose)?;
        println!("{who}: {} of {} steps ok", STEPS.len() + 1 - bad.len(), STEPS.len() + 1);
        failed.extend(bad.into_iter().map(|step| format!("{who}: {step}")));
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join("; ")) }
}

fn drive(backend: Backend, verbose: bool) -> Result<Vec<String>> {
    let engine =
        Engine::start(Options { backend: Some(backend), images: vec![images::BUSYBOX], ..Options::default() })?;
    let file = engine.path("services.yml");
    std::fs::write(&file, include_str!("services.yml").replace("IMAGE", images::BUSYBOX))?;
    let compose = engine.client(Client::Docker).with_program(peers::compose());
    let mut failed = Vec::new();
    for (line, says) in STEPS {
        let words: Vec<&str> = line.split(' ').collect();
        let fails = words[0] == "!";
        let file = file.display().to_string();
        let head = ["-f", file.as_str(), "--ansi", "never", "--progress", "quiet"];
        let words = head.iter().copied().chain(words.into_iter().filter(|word| *word != "!"));
        let mut limited = Command::new("timeout");
        let inner = compose.command(words);
        limited.args(["-s", "KILL", "60"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
        limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = limited.output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let good = output.status.success() != fails && said.contains(says);
        println!("{}  {line}", if good { "ok    " } else { "FAILED" });
        if !good || verbose {
            println!("        {}", said.trim().replace('\n', "\n        "));
        }
        if !good {
            failed.push(line.to_owned());
        }
    }
    let left = ["/containers/json?all=1", "/volumes", "/networks"].map(|list| engine.http("GET", list, None));
    let left: Vec<String> = left.into_iter().map(|answer| answer.map(|answer| answer.text())).collect::<Result<_>>()?;
    if left.iter().any(|list| list.contains("shop")) {
        failed.push(format!("something is left: {left:?}"));
    }
    engine.finish()?;
    Ok(failed)
}
