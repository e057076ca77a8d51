//! Why a container ended: facts of the kernel, the shim and the engine, put
//! together when it ends with anything but success.
//!
//! [`explain`] is pure; [`note`] gathers what it needs, and only when
//! something went wrong.

mod facts;
mod intent;
mod kernel;
mod output;
mod senders;

use std::sync::Arc;

use budu_runtime::protocol::ExitRecord;
use budu_spec::docker::{Health, Why};
use budu_spec::{signal, units};

use super::Container;
use super::health::word;
use super::record::{State, Status};
use crate::Engine;

use facts::Facts;
pub(crate) use intent::{By, Intent};
pub(crate) use senders::Senders;

/// Signals by which the kernel ends what went wrong in itself.
const CRASHES: &[(i32, &str)] = &[
    (4, "it executed an instruction that does not exist"),
    (5, "it ran into a breakpoint"),
    (6, "it gave up itself (abort)"),
    (7, "it touched memory that is not there (bus error)"),
    (8, "it calculated something impossible"),
    (11, "it touched memory that is not its own"),
];
/// SIGSYS.
const SYS: i32 = 31;
/// SIGKILL.
const KILL: i32 = 9;

/// What a state says no more once a container has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    /// Its first process.
    pid: u32,
    /// Its health, if it was unhealthy.
    health: Option<Health>,
}

impl Before {
    pub(super) fn of(state: &State) -> Before {
        let health = state.health.as_ref().filter(|health| health.status == word::UNHEALTHY);
        Before { pid: state.pid, health: health.cloned() }
    }
}

/// Writes down why a container that just ended did so.
pub(super) async fn note(engine: &Engine, container: &Arc<Container>, exit: &ExitRecord, before: Before) {
    let intent = container.take_intent();
    let record = container.record();
    if record.host_config.auto_remove || (exit.code == 0 && intent.is_none() && !exit.oom_killed) {
        container.state().why = None;
        return;
    }
    let facts = Facts::gather(engine, container, exit, before, intent).await;
    let why = explain(&facts);
    container.state().why = why;
}

/// Why a start failed.
pub(super) fn start_failed(error: &str) -> Why {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let mut advice = Vec::new();
    if says(&["exec format error"]) {
        advice.push(
            "the program is for another kind of processor, or a script without #! line: see --platform".to_owned(),
        );
    } else if says(&["executable file not found"]) {
        advice.push("the program is not in the image's $PATH: look at --entrypoint and the command".to_owned());
    } else if says(&["permission denied"]) {
        advice.push(
            "the program needs the permission to be executed (chmod +x), or lies on a file system without it"
                .to_owned(),
        );
    } else if says(&["no such file or directory"]) {
        advice.push("the program, or the interpreter its first line names, is not in the image".to_owned());
    } else if says(&["port is already allocated", "address already in use"]) {
        advice.push("another program holds the port: publish on another one".to_owned());
    }
    Why { kind: "start-failed".to_owned(), summary: error.to_owned(), details: Vec::new(), advice }
}

/// What there is to say about a container now: of its end, or of its health.
pub(crate) fn now(state: &State) -> Option<Why> {
    match state.status {
        Status::Running | Status::Paused => unwell(state).or_else(|| state.why.clone()),
        _ => state.why.clone(),
    }
}

/// One line for lists: of what ended or is unwell, nothing of what runs well.
pub(crate) fn line(state: &State) -> Option<String> {
    match state.status {
        Status::Running | Status::Paused => unwell(state).map(|why| why.summary),
        _ => state.why.as_ref().map(|why| why.summary.clone()),
    }
}

fn unwell(state: &State) -> Option<Why> {
    let health = state.health.as_ref().filter(|health| health.status == word::UNHEALTHY)?;
    let last = health.log.iter().flatten().rev().find(|result| result.exit_code != 0)?;
    let said = last.output.lines().last().unwrap_or_default().trim();
    let colon = if said.is_empty() { "" } else { ": " };
    Some(Why {
        kind: "unhealthy".to_owned(),
        summary: format!("{} health checks in a row failed{colon}{said}", health.failing_streak),
        details: vec![format!("the last one ended {} with {}", last.end, last.exit_code)],
        advice: Vec::new(),
    })
}

/// Puts the facts together; the first cause that fits counts.
fn explain(facts: &Facts) -> Option<Why> {
    let causes = [unhealthy, out_of_memory, denied_call, wanted, crash, foreign_signal, denied, plain_exit];
    causes.iter().find_map(|cause| cause(facts))
}

fn why(kind: &str, summary: String) -> Why {
    Why { kind: kind.to_owned(), summary, ..Why::default() }
}

/// `SIGTERM`, or the number of one that has no name.
fn name(number: i32) -> String {
    signal::name(number).map_or_else(|| format!("signal {number}"), |name| format!("SIG{name}"))
}

fn unhealthy(facts: &Facts) -> Option<Why> {
    let intent = facts.intent.as_ref()?;
    let By::Health(action) = intent.by else { return None };
    let said = facts.health.as_ref().and_then(unwell_text).unwrap_or_default();
    let mut why = why("unhealthy", format!("unhealthy, therefore {}{said}", action));
    why.details.extend(facts.ending());
    Some(why)
}

fn unwell_text(health: &Health) -> Option<String> {
    let last = health.log.iter().flatten().rev().find(|result| result.exit_code != 0)?;
    let said = last.output.lines().last().unwrap_or_default().trim();
    let said = if said.is_empty() { format!("exit code {}", last.exit_code) } else { said.to_owned() };
    Some(format!(": {said}"))
}

fn out_of_memory(facts: &Facts) -> Option<Why> {
    if !facts.exit.oom_killed || facts.exit.code == 0 {
        return None;
    }
    let size = |bytes: u64| units::human_bytes(bytes as f64);
    let limit = facts.memory.and_then(|memory| memory.limit);
    let victim = facts.victim.as_ref();
    let who = victim.map_or_else(|| "a process".to_owned(), |victim| format!("{} (pid {})", victim.name, victim.pid));
    let bound =
        limit.map_or_else(|| "the host ran out of memory".to_owned(), |limit| format!("the limit of {}", size(limit)));
    let mut why = why(
        "out-of-memory",
        match limit {
            Some(_) => format!("out of memory: the kernel killed {who} at {bound}"),
            None => format!("out of memory: the kernel killed {who}: {bound}"),
        },
    );
    if let Some(memory) = facts.memory {
        why.details.push(format!("peak {}, {} killed", size(memory.peak), memory.kills));
    }
    if let Some(held) = victim.and_then(|victim| victim.held) {
        why.details.push(format!("{who} held {}", size(held)));
    }
    if victim.is_some_and(|victim| victim.pid != facts.pid) {
        why.details.push(format!("it was not the first process, which then ended with {}", facts.exit.code));
    }
    why.advice.push(match limit {
        Some(_) => "give it more with --memory (`update -m` while it runs), or have it use less".to_owned(),
        None => "limit containers with --memory, so that one cannot take from all".to_owned(),
    });
    Some(why)
}

fn denied_call(facts: &Facts) -> Option<Why> {
    let call = facts.denied_call.as_ref();
    if facts.exit.signal != Some(SYS) && call.is_none() {
        return None;
    }
    let what = call.map_or_else(|| "a system call".to_owned(), |call| format!("the system call {}", call.name));
    let mut why = why("denied-syscall", format!("{what} is denied by its seccomp profile"));
    if let Some(call) = call {
        why.details.push(format!("{} (pid {}) made it", call.program, call.pid));
    }
    why.advice.push("allow it with a profile of your own: --security-opt seccomp=FILE".to_owned());
    Some(why)
}

/// Somebody asked for the end.
fn wanted(facts: &Facts) -> Option<Why> {
    let intent = facts.intent.as_ref()?;
    // A program may end by itself on the way, and for a reason of its own.
    let theirs = facts.exit.signal.is_none_or(|signal| signal == intent.signal || (intent.forced && signal == KILL));
    if !theirs {
        return None;
    }
    let by = intent.by.words();
    let first = name(intent.signal);
    let from = intent.caller.as_ref().map(|caller| format!(" by {caller}")).unwrap_or_default();
    let mut why = if intent.forced {
        let seconds = intent.patience.unwrap_or_default();
        let mut why = why("stopped", format!("{by}{from}: it did not end within {seconds}s of {first} and was killed"));
        why.advice.push("have its first process handle the signal (--init helps shells), name another one with --stop-signal, or wait longer with --stop-timeout".to_owned());
        why
    } else {
        let kind = if matches!(intent.by, By::Kill) { "killed" } else { "stopped" };
        why(kind, format!("{by}{from} ({first})"))
    };
    why.details.extend(facts.ending());
    Some(why)
}

fn crash(facts: &Facts) -> Option<Why> {
    let signal = facts.exit.signal.or_else(|| Some(facts.exit.code - 128))?;
    let (_, what) = CRASHES.iter().find(|(number, _)| *number == signal)?;
    let mut why = why("crash", format!("it crashed with {}: {what}", name(signal)));
    why.details.extend(facts.fault.clone());
    why.details.extend(facts.last_words());
    Some(why)
}

/// A signal that the engine did not send.
fn foreign_signal(facts: &Facts) -> Option<Why> {
    let signal = facts.exit.signal?;
    let sender = facts.sender.as_ref();
    let from = sender.map_or_else(|| "somebody else than Budu".to_owned(), |sender| sender.clone());
    let mut why = why("signal", format!("{} sent by {from} ended it", name(signal)));
    why.details.extend(facts.last_words());
    Some(why)
}

/// The last words of a program that lacked a permission are well known.
fn denied(facts: &Facts) -> Option<Why> {
    let found = output::missing(&facts.output, &facts.capabilities, facts.read_only)?;
    let mut why = why("denied", format!("{} (exit code {})", found.line, facts.exit.code));
    why.details.push(found.reason);
    why.advice.push(found.advice);
    Some(why)
}

fn plain_exit(facts: &Facts) -> Option<Why> {
    if facts.exit.code == 0 {
        return None;
    }
    let code = facts.exit.code;
    let known = match code {
        126 => " (what it ran cannot be executed)",
        127 => " (what it ran was not found)",
        137 => " (a process of it was killed)",
        143 => " (a process of it was told to end)",
        _ => "",
    };
    let last = facts.output.last().map(|line| format!(": {line}")).unwrap_or_default();
    let mut why = why("exit", format!("its program ended with code {code}{known}{last}"));
    why.details
        .extend(facts.health.as_ref().and_then(unwell_text).map(|text| format!("it was unhealthy before{text}")));
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::facts::{Facts, Memory};
    use super::kernel::{Denied, Victim};
    use super::*;

    fn facts(code: i32, signal: Option<i32>) -> Facts {
        Facts { exit: ExitRecord { code, signal, oom_killed: false, finished_at: 0 }, pid: 10, ..Facts::none() }
    }

    fn said(facts: &Facts) -> (String, String) {
        let why = explain(facts).unwrap();
        (why.kind, why.summary)
    }

    fn pair(kind: &str, summary: &str) -> (String, String) {
        (kind.to_owned(), summary.to_owned())
    }

    #[test]
    fn out_of_memory_names_victim_limit_and_peak() {
        let mut facts = facts(137, Some(9));
        facts.exit.oom_killed = true;
        facts.memory = Some(Memory { limit: Some(16 << 20), peak: 16 << 20, kills: 1 });
        facts.victim = Some(Victim { pid: 12, name: "tail".into(), held: Some(15 << 20) });
        let why = explain(&facts).unwrap();
        assert_eq!(why.summary, "out of memory: the kernel killed tail (pid 12) at the limit of 16MiB");
        assert_eq!(why.details[0], "peak 16MiB, 1 killed");
        assert!(why.details[2].starts_with("it was not the first process"));
    }

    #[test]
    fn signals_have_senders() {
        let mut stopped = facts(137, Some(9));
        stopped.intent = Some(Intent { by: By::Stop, signal: 15, patience: Some(10), forced: true, caller: None });
        assert_eq!(said(&stopped), pair("stopped", "stopped: it did not end within 10s of SIGTERM and was killed"));
        stopped.exit = ExitRecord { code: 0, signal: None, ..stopped.exit };
        stopped.intent =
            Some(Intent { forced: false, caller: Some("docker (pid 5, uid 0)".into()), ..stopped.intent.unwrap() });
        assert_eq!(said(&stopped), pair("stopped", "stopped by docker (pid 5, uid 0) (SIGTERM)"));
        assert_eq!(said(&facts(137, Some(9))), pair("signal", "SIGKILL sent by somebody else than Budu ended it"));
        let mut known = facts(143, Some(15));
        known.sender = Some("kill (pid 3)".into());
        assert_eq!(said(&known), pair("signal", "SIGTERM sent by kill (pid 3) ended it"));
        assert_eq!(said(&facts(139, Some(11))).0, "crash");
    }

    #[test]
    fn a_denied_call_is_named() {
        let mut facts = facts(159, Some(31));
        facts.denied_call = Some(Denied { pid: 10, name: "mount".into(), program: "mount".into() });
        assert_eq!(said(&facts), pair("denied-syscall", "the system call mount is denied by its seccomp profile"));
    }

    #[test]
    fn last_words_count() {
        let mut failed = facts(1, None);
        failed.output = vec!["starting".into(), "no configuration".into()];
        assert_eq!(said(&failed), pair("exit", "its program ended with code 1: no configuration"));
        failed.output = vec!["ping: permission denied (are you root?)".into()];
        assert_eq!(said(&failed).0, "denied");
        assert_eq!(explain(&facts(0, None)), None);
    }
}
