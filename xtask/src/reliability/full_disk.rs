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
        ("POST", "/volumes/create".to_owned(), Some(json!({"Name": "vol"}))),
        ("POST", "/networks/create".to_owned(), Some(json!({"Name": "net"}))),
        ("POST", "/containers/create?name=one".to_owned(), Some(shell("sleep 1000"))),
        ("POST", "/containers/one/start".to_owned(), None),
        ("POST", "/containers/one/rename?name=two".to_owned(), None),
        ("POST", "/containers/two/update".to_owned(), Some(json!({"RestartPolicy": {"Name": "on-failure"}}))),
        ("POST", "/containers/two/exec".to_owned(), Some(exec)),
        ("POST", "/networks/net/connect".to_owned(), Some(json!({"Container": "two"}))),
        ("POST", "/containers/two/pause".to_owned(), None),
        ("POST", "/containers/two/unpause".to_owned(), None),
        ("POST", "/commit?container=two&repo=made".to_owned(), None),
        ("POST", "/containers/two/restart?t=0".to_owned(), None),
        ("POST", "/networks/net/disconnect".to_owned(), Some(json!({"Container": "two", "Force": true}))),
        ("POST", "/containers/two/stop?t=0".to_owned(), None),
        ("DELETE", "/containers/two".to_owned(), None),
        ("DELETE", "/networks/net".to_owned(), None),
        ("DELETE", "/volumes/vol".to_owned(), None),
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
        bail!("{} complaints in {} steps:\n        {}", bad.len(), refused + done, bad.join("\n        "));
    }
    engine.finish()?;
    Ok(format!(
        "{refused} clear errors, {done} done all the same; all done with room again, without a restart; census equal"
    ))
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
