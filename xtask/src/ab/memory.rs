//! Who uses how much memory: proportional set sizes, payloads apart from engines.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::contender::Contender;

/// Memory of one contender at one moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The engine's own processes: daemon, shims, proxies, monitors. Proportional, so that shared pages count once.
    pub(super) engine: u64,
    /// The daemon process and what it shares with nobody but its shims.
    pub(super) daemon: u64,
    /// Pages that no other process has, summed over all of the engine's processes but the daemon.
    pub(super) private: u64,
    /// Number of the engine's processes.
    pub(super) processes: u64,
}

/// Measures what belongs to `contender` and is not a container's own process.
pub(super) fn of(contender: &Contender) -> Result<Memory> {
    let cage = contender.cage().context("nothing to measure")?;
    let home = fs::read_link("/proc/self/ns/pid")?;
    let daemon = contender.engine().map(budu_testkit::Engine::daemon_pid);
    let mut memory = Memory::default();
    for pid in cage.processes() {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let Ok(namespace) = fs::read_link(dir.join("ns/pid")) else { continue };
        if namespace != home {
            continue;
        }
        let Ok(text) = fs::read_to_string(dir.join("smaps_rollup")) else { continue };
        let (total, private) = parse(&text);
        memory.engine += total;
        memory.processes += 1;
        if Some(pid) == daemon {
            memory.daemon = total;
        } else {
            memory.private += private;
        }
    }
    Ok(memory)
}

/// Proportional and private bytes of a `smaps_rollup` file.
fn parse(text: &str) -> (u64, u64) {
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    (field("Pss:"), field("Private_Clean:") + field("Private_Dirty:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let text = "55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:   1000 kB\nPss:    250 kB\n\
                    Pss_Dirty: 100 kB\nPrivate_Clean: 12 kB\nPrivate_Dirty:  100 kB\n";
        assert_eq!(parse(text), (250 * 1024, 112 * 1024));
        assert_eq!(parse(""), (0, 0));
    }
}
