//! Commands on a full disk.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::http::Response;
use budu_testkit::{Engine, images};
use serde_json::{Value, json};

use super::Options;

/// Size of the daemon's disk in bytes.
const DISK: u64 = 64 << 20;

/// What is asked for on a full disk: method, target, body. Later steps use what earlier ones made.
fn steps() -> Vec<(&'static str, String, Option<Value>)> {
    let image = images::BUSYBOX;
    let shell = |script: &str| json!({"Image": image, "Cmd": ["sh", "-c", script]});
    let exec = json!({"Cmd": ["true"]});
    vec![
        ("POST", format!("/images/create?fromImage={image}"), None),
        ("POST", format!("/images/{image}/tag?repo=mine&tag=1"), None),
        ("POST", "/volumes/create".to_owned(), Some(json!({"Name": "v"}))),
        ("POST", "/networks/create".to_owned(), Some(json!({"Name": "n"}))),
        ("POST", "/containers/create?name=a".to_owned(), Some(shell("sleep 1000"))),
        ("POST", "/containers/a/start".to_owned(), None),
        ("POST", "/containers/a/rename?name=b".to_owned(), None),
        ("POST", "/containers/b/update".to_owned(), Some(json!({"RestartPolicy": {"Name": "on-failure"}}))),
        ("POST", "/containers/b/exec".to_owned(), Some(exec)),
        ("POST", "/networks/n/connect".to_owned(), Some(json!({"Container": "b"}))),
        ("POST", "/containers/b/pause".to_owned(), None),
        ("POST", "/containers/b/unpause".to_owned(), None),
        ("POST", "/commit?container=b&repo=made".to_owned(), None),
        ("POST", "/containers/b/restart?t=0".to_owned(), None),
        ("POST", "/networks/n/disconnect".to_owned(), Some(json!({"Container": "b", "Force": true}))),
        ("POST", "/containers/b/stop?t=0".to_owned(), None),
        ("DELETE", "/containers/b".to_owned(), None),
        ("DELETE", "/networks/n".to_owned(), None),
        ("DELETE", "/volumes/v".to_owned(), None),
        ("DELETE", "/images/mine:1".to_owned(), None),
    ]
}

/// Runs the subject; its figures.
pub(super) fn run(options: &Options) -> Result<String> {
    let wanted = budu_testkit::Options {
        backend: Some(options.backend),
        registry: true,
        disk: Some(DISK),
        ..budu_testkit::Options::default()
    };
    let engine = Engine::start(wanted)?;
    let daemon = engine.daemon_pid();
    let (mut refused, mut done, mut bad) = (0, 0, Vec::new());
    for (method, target, body) in steps() {
        let name = format!("{method} {target}");
        fill(&engine)?;
        let answer = engine.http(method, &target, body.as_ref()).with_context(|| name.clone());
        empty(&engine)?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                bad.push(format!("{name}: no answer on a full disk: {error:#}"));
                continue;
            }
        };
        match complaint(&answer) {
            None => done += 1,
            Some(said) => {
                println!("        {name}: {} {said}", answer.status);
                refused += 1;
                if !said.to_lowercase().contains("no space left") {
                    bad.push(format!("{name}: the error does not tell of the disk: {} {said}", answer.status));
                }
                let again = engine.http(method, &target, body.as_ref())?;
                if let Some(said) = complaint(&again) {
                    bad.push(format!("{name}: with room again: {} {said}", again.status));
                }
            }
        }
    }
    ensure!(engine.daemon_pid() == daemon && engine.http("GET", "/_ping", None)?.status == 200, "the daemon is gone");
    if !bad.is_empty() {
        bail!("{} of {} steps:\n        {}", bad.len(), refused + done, bad.join("\n        "));
    }
    engine.finish()?;
    Ok(format!("{refused} clear errors, {done} done all the same; all done with room again, without a restart; census equal"))
}

/// What an answer complains of, if it does: as its status, or in a stream of progress.
fn complaint(answer: &Response) -> Option<String> {
    let text = answer.text();
    if answer.status < 400 && !text.contains("errorDetail") {
        return None;
    }
    Some(text.lines().last().unwrap_or_default().to_owned())
}

/// Leaves not a byte on the daemon's disk.
fn fill(engine: &Engine) -> Result<()> {
    let file = engine.path("data/filler").display().to_string();
    let mut command = engine.cage().command("dd", true);
    command.args(["if=/dev/zero", &format!("of={file}"), "bs=4096"]).stdout(Stdio::null()).stderr(Stdio::null());
    // It ends with an error, which is the purpose.
    command.status()?;
    Ok(())
}

fn empty(engine: &Engine) -> Result<()> {
    let file = engine.path("data/filler").display().to_string();
    let status = engine.cage().command("rm", true).arg(&file).status()?;
    ensure!(status.success(), "remove {file}: {status}");
    Ok(())
}
