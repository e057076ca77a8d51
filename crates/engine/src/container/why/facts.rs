//! What is known about an end.

use std::sync::Arc;

use budu_runtime::protocol::{self, ExitRecord};
use budu_spec::docker::Health;
use budu_sys::capability::CapSet;

use super::Before;
use super::intent::Intent;
use super::kernel::{self, Denied, Victim};
use crate::Engine;
use crate::container::logs::LogOptions;
use crate::container::{Container, spec};

/// Bytes of the kernel's log that are looked at: some hundred lines.
const KERNEL_LOG: usize = 64 << 10;
/// Lines of output that are looked at.
const LINES: u64 = 10;
/// Characters of a line that are kept.
const WIDTH: usize = 300;

/// Everything that may explain an end.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) exit: ExitRecord,
    /// Its first process, as the host numbers it.
    pub(super) pid: u32,
    pub(super) intent: Option<Intent>,
    pub(super) health: Option<Health>,
    /// Memory, when the kernel killed for want of it.
    pub(super) memory: Option<Memory>,
    /// Whom the kernel killed for want of memory.
    pub(super) victim: Option<Victim>,
    /// The system call that its filter forbade.
    pub(super) denied_call: Option<Denied>,
    /// What the kernel says of a crash.
    pub(super) fault: Option<String>,
    /// Who sent the signal that ended it.
    pub(super) sender: Option<String>,
    /// Its last lines of output.
    pub(super) output: Vec<String>,
    /// What it was allowed to.
    pub(super) capabilities: CapSet,
    /// Its root file system was read-only.
    pub(super) read_only: bool,
}

/// Memory of a container at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Bytes; `None` when there was no limit.
    pub(super) limit: Option<u64>,
    /// Bytes at most.
    pub(super) peak: u64,
    /// Processes killed.
    pub(super) kills: u64,
}

impl Facts {
    #[cfg(test)]
    pub(super) fn none() -> Facts {
        Facts {
            exit: ExitRecord { code: 0, signal: None, oom_killed: false, finished_at: 0 },
            pid: 0,
            intent: None,
            health: None,
            memory: None,
            victim: None,
            denied_call: None,
            fault: None,
            sender: None,
            output: Vec::new(),
            capabilities: CapSet::default(),
            read_only: false,
        }
    }

    /// Asks shim, kernel and log.
    pub(super) async fn gather(
        engine: &Engine,
        container: &Arc<Container>,
        exit: &ExitRecord,
        before: Before,
        intent: Option<Intent>,
    ) -> Facts {
        let record = container.record();
        let Before { pid, health } = before;
        // The kernel has something to say only about deaths it brought about.
        let told = if exit.oom_killed || exit.signal.is_some() || exit.code > 128 {
            budu_sys::kernel::log_tail(KERNEL_LOG).unwrap_or_default()
        } else {
            String::new()
        };
        let memory = exit.oom_killed.then(|| protocol::read_memory(&engine.run_dir(&container.id))).flatten();
        Facts {
            exit: *exit,
            pid,
            health,
            memory: memory.map(|m| Memory { limit: m.limit, peak: m.peak, kills: m.kills }),
            victim: kernel::victim(&told, container.id.as_str(), pid),
            denied_call: kernel::denied(&told, pid),
            fault: kernel::fault(&told, pid),
            sender: exit.signal.and_then(|signal| engine.0.senders.get()?.of(pid, signal)),
            output: if intent.is_some() { Vec::new() } else { last_lines(engine, container).await },
            capabilities: spec::capabilities(&record.host_config).unwrap_or_default(),
            read_only: record.host_config.readonly_rootfs,
            intent,
        }
    }

    /// How it ended, for details.
    pub(super) fn ending(&self) -> Option<String> {
        match self.exit.signal {
            Some(signal) => Some(format!("{} ended it", super::name(signal))),
            None => Some(format!("it ended with code {}", self.exit.code)),
        }
    }

    /// The last line it said, for details.
    pub(super) fn last_words(&self) -> Option<String> {
        self.output.last().map(|line| format!("its last words: {line}"))
    }
}

/// The last lines that are not empty, oldest first.
async fn last_lines(engine: &Engine, container: &Container) -> Vec<String> {
    let tty = container.record().config.tty;
    let wish = LogOptions { stdout: true, stderr: true, tail: Some(LINES), ..LogOptions::default() };
    let Ok(mut log) = engine.logs(container.id.as_str(), wish) else { return Vec::new() };
    let mut bytes = Vec::new();
    while let Some(chunk) = log.next().await {
        bytes.extend_from_slice(&chunk);
    }
    let text = if tty { bytes } else { unframed(&bytes) };
    let text = String::from_utf8_lossy(&text);
    let cut = |line: &str| line.trim().chars().filter(|c| !c.is_control()).take(WIDTH).collect::<String>();
    text.lines().map(cut).filter(|line| !line.is_empty()).collect()
}

/// The payloads of frames.
fn unframed(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<{ protocol::HEADER }>() {
        let Some((_, length)) = protocol::parse_header(*head) else { break };
        out.extend_from_slice(&rest[..length.min(rest.len())]);
        bytes = rest.get(length..).unwrap_or_default();
    }
    out
}
