//! Last words of programs that lacked a permission, and what they lacked.

use budu_sys::capability::{CapSet, Capability};

/// What the output says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// The line that says it.
    pub(super) line: String,
    /// What is missing.
    pub(super) reason: String,
    /// What may help.
    pub(super) advice: String,
}

/// Words that must all be in a line (in lower case), and the capability whose lack they tell of.
const LINES: &[(&[&str], &str)] = &[
    (&["ping", "permi"], "NET_RAW"),
    (&["raw socket", "permi"], "NET_RAW"),
    (&["rtnetlink answers", "not permitted"], "NET_ADMIN"),
    (&["iptables", "permi"], "NET_ADMIN"),
    (&["nft", "not permitted"], "NET_ADMIN"),
    (&["siocs", "not permitted"], "NET_ADMIN"),
    (&["/dev/net/tun", "permi"], "NET_ADMIN"),
    (&["bind", "permission denied"], "NET_BIND_SERVICE"),
    (&["listen", "permission denied"], "NET_BIND_SERVICE"),
    (&["umount", "permi"], "SYS_ADMIN"),
    (&["mount", "permi"], "SYS_ADMIN"),
    (&["unshare", "not permitted"], "SYS_ADMIN"),
    (&["setns", "not permitted"], "SYS_ADMIN"),
    (&["sethostname", "not permitted"], "SYS_ADMIN"),
    (&["hostname", "not permitted"], "SYS_ADMIN"),
    (&["chown", "not permitted"], "CHOWN"),
    (&["mknod", "not permitted"], "MKNOD"),
    (&["chroot", "not permitted"], "SYS_CHROOT"),
    (&["setuid", "not permitted"], "SETUID"),
    (&["setgid", "not permitted"], "SETGID"),
    (&["setgroups", "not permitted"], "SETGID"),
    (&["set date", "not permitted"], "SYS_TIME"),
    (&["settimeofday", "not permitted"], "SYS_TIME"),
    (&["ptrace", "not permitted"], "SYS_PTRACE"),
    (&["setpriority", "permission denied"], "SYS_NICE"),
    (&["nice", "permission denied"], "SYS_NICE"),
    (&["sched_set", "not permitted"], "SYS_NICE"),
    (&["mlock", "cannot allocate"], "IPC_LOCK"),
    (&["modprobe", "permi"], "SYS_MODULE"),
    (&["insmod", "permi"], "SYS_MODULE"),
    (&["dmesg", "not permitted"], "SYSLOG"),
    (&["kill", "not permitted"], "KILL"),
    (&["bpf", "not permitted"], "BPF"),
    (&["perf_event", "permi"], "PERFMON"),
    (&["reboot", "not permitted"], "SYS_BOOT"),
];

/// Looks from the last line back. A capability that the container had was not what it lacked.
pub(super) fn missing(output: &[String], had: &CapSet, read_only: bool) -> Option<Missing> {
    output.iter().rev().find_map(|line| {
        let lower = line.to_lowercase();
        if lower.contains("read-only file system") {
            return Some(unwritable(line, read_only));
        }
        let fits = |words: &[&str]| words.iter().all(|word| lower.contains(word));
        let (_, name) = LINES.iter().find(|(words, name)| fits(words) && lacks(had, name))?;
        Some(Missing {
            line: line.clone(),
            reason: format!("containers have no {name} capability unless they are given it"),
            advice: format!("if it is meant to do that: --cap-add {name}"),
        })
    })
}

fn lacks(had: &CapSet, name: &str) -> bool {
    Capability::from_name(&format!("CAP_{name}")).is_some_and(|capability| !had.contains(capability))
}

fn unwritable(line: &str, read_only: bool) -> Missing {
    let (reason, advice) = match read_only {
        true => {
            ("the container's root file system is read-only (--read-only)", "give it a place to write: --tmpfs or -v")
        }
        false => (
            "what it wanted to write is read-only in containers: a mount, or a part of /proc and /sys",
            "look at `:ro` of its mounts; kernel parameters are set with --sysctl",
        ),
    };
    Missing { line: line.to_owned(), reason: reason.to_owned(), advice: advice.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, had: &CapSet) -> Option<String> {
        missing(&[line.to_owned(), "bye".to_owned()], had, false).map(|missing| missing.advice)
    }

    #[test]
    fn known_last_words() {
        let none = CapSet::default();
        for (line, name) in [
            ("ping: permission denied (are you root?)", "NET_RAW"),
            ("mount: permission denied (are you root?)", "SYS_ADMIN"),
            ("chown: /x: Operation not permitted", "CHOWN"),
            ("date: can't set date: Operation not permitted", "SYS_TIME"),
            ("ip: RTNETLINK answers: Operation not permitted", "NET_ADMIN"),
        ] {
            assert_eq!(found(line, &none).unwrap(), format!("if it is meant to do that: --cap-add {name}"));
            assert_eq!(found(line, &CapSet::ALL), None, "{line}");
        }
        assert_eq!(found("all is well", &none), None);
        assert!(found("touch: /x: Read-only file system", &CapSet::ALL).unwrap().contains("--sysctl"));
    }
}
