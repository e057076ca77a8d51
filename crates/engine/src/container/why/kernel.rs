//! What the kernel's log says about the end of processes.

use budu_sys::seccomp::{self, Arch};

/// Whom the kernel killed for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) pid: u32,
    pub(super) name: String,
    /// Bytes of memory it held.
    pub(super) held: Option<u64>,
}

/// A system call that a filter forbade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) program: String,
}

/// The last victim in the control group of a container, or its first process.
///
/// The kernel writes `oom-kill:…,task_memcg=/budu/ID,task=NAME,pid=PID,uid=0`,
/// but not always, and always `…Killed process PID (NAME) …, anon-rss:15000kB, …`.
pub(super) fn victim(log: &str, id: &str, first: u32) -> Option<Victim> {
    let mut known = None;
    let mut found = None;
    for line in log.lines() {
        if let Some(at) = line.find("oom-kill:") {
            let facts = &line[at..];
            known = facts.contains(id).then(|| value(facts, "pid=")?.parse::<u32>().ok()).flatten();
        } else if let Some((_, rest)) = line.split_once("Killed process ") {
            let Some((pid, rest)) = rest.split_once(' ') else { continue };
            let Ok(pid) = pid.parse() else { continue };
            if known != Some(pid) && pid != first {
                continue;
            }
            let name = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or("", |(name, _)| name);
            let size = |key: &str| value(rest, key)?.strip_suffix("kB")?.parse::<u64>().ok();
            let held = size("anon-rss:").map(|anon| (anon + size("shmem-rss:").unwrap_or(0)) << 10);
            found = Some(Victim { pid, name: name.to_owned(), held });
        }
    }
    found
}

/// The last system call for which a filter ended a process, seccomp(2):
/// `audit: type=1326 … pid=PID comm="NAME" … sig=31 arch=c000003e syscall=165 …`.
pub(super) fn denied(log: &str, pid: u32) -> Option<Denied> {
    let mine = format!(" pid={pid} ");
    let line = log.lines().rev().find(|line| line.contains("type=1326") && line.contains(&mine))?;
    let audit = u32::from_str_radix(value(line, " arch=")?, 16).ok();
    let arch = Arch::ALL.into_iter().find(|arch| Some(arch.audit()) == audit);
    let number: u32 = value(line, " syscall=")?.parse().ok()?;
    let name = arch.and_then(|arch| seccomp::name(arch, number));
    Some(Denied {
        pid,
        name: name.map_or_else(|| format!("number {number}"), str::to_owned),
        program: value(line, " comm=")?.trim_matches('"').to_owned(),
    })
}

/// `NAME[PID]: segfault at 0 ip … error 4 in libc.so.6[…]` and its like.
pub(super) fn fault(log: &str, pid: u32) -> Option<String> {
    let mine = format!("[{pid}]");
    let line = log.lines().rev().find(|line| {
        line.contains(&mine) && ["segfault at", "trap ", "general protection"].iter().any(|word| line.contains(word))
    })?;
    // Without priority and time stamp.
    let text = line.split_once("] ").map_or(line, |(_, text)| text);
    Some(format!("the kernel says: {}", text.trim_start_matches("traps: ")))
}

/// What follows a key, up to the next separator.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.split([',', ' ']).next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
<6>[ 1.000000] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=aa,mems_allowed=0,oom_memcg=/budu/aa,task_memcg=/budu/aa,task=tail,pid=77,uid=0
<3>[ 1.000001] Memory cgroup out of memory: Killed process 77 (tail) total-vm:20000kB, anon-rss:15360kB, file-rss:4kB, shmem-rss:1024kB, UID:0 pgtables:70kB oom_score_adj:0
<3>[ 2.000001] Memory cgroup out of memory: Killed process 99 (a b) total-vm:2kB, anon-rss:1kB, file-rss:4kB, shmem-rss:0kB, UID:0
<5>[ 3.000000] audit: type=1326 audit(1795252543.629:56): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=32 comm=\"mount\" exe=\"/\" sig=31 arch=c000003e syscall=165 compat=0 ip=0x7f code=0x80000000
<6>[ 4.000000] crash[55]: segfault at 0 ip 0000 sp 0000 error 4 in crash[400000+1000]
";

    #[test]
    fn victims() {
        let held = Some((15_360 + 1024) << 10);
        assert_eq!(victim(LOG, "aa", 5), Some(Victim { pid: 77, name: "tail".into(), held }));
        assert_eq!(victim(LOG, "bb", 99).map(|victim| victim.name), Some("a b".to_owned()));
        assert_eq!(victim(LOG, "bb", 5), None);
    }

    #[test]
    fn denied_calls_and_faults() {
        assert_eq!(denied(LOG, 32), Some(Denied { pid: 32, name: "mount".into(), program: "mount".into() }));
        assert_eq!(denied(LOG, 3), None);
        assert_eq!(
            fault(LOG, 55).unwrap(),
            "the kernel says: crash[55]: segfault at 0 ip 0000 sp 0000 error 4 in crash[400000+1000]"
        );
        assert_eq!(fault(LOG, 5), None);
    }
}
