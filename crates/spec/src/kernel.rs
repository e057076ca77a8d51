//! Names of the kernel's that are written the same way in the Engine API, in
//! `config.json` and on command lines.

/// Resource limits, getrlimit(2), without `RLIMIT_`, in the order of their numbers.
pub const RLIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// The number of a resource limit; upper and lower case are the same.
pub fn rlimit(name: &str) -> Option<u32> {
    (0u32..).zip(RLIMITS).find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

/// Kernel parameters of an IPC namespace, besides `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The kind of namespace that has its own value of a kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// System V IPC and message queues.
    Ipc,
    /// Everything below `net.`.
    Network,
    /// The host's names.
    Uts,
    /// Bounds on the number of namespaces and the like, `user.*`.
    User,
}

/// Which namespaces have a kernel parameter (sysctl(8), with dots) of their
/// own; `None` when it is the whole machine's.
pub fn sysctl_scope(name: &str) -> Option<Scope> {
    match name {
        _ if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Scope::Ipc),
        _ if name.starts_with("net.") => Some(Scope::Network),
        _ if name.starts_with("user.") => Some(Scope::User),
        "kernel.domainname" | "kernel.hostname" => Some(Scope::Uts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_the_kernels_numbers() {
        // asm-generic/resource.h
        for (name, number) in [("cpu", 0), ("NOFILE", 7), ("as", 9), ("rttime", 15)] {
            assert_eq!(rlimit(name), Some(number), "{name}");
        }
        assert_eq!(rlimit("RLIMIT_CPU"), None);
    }

    #[test]
    fn parameters_belong_to_namespaces() {
        assert_eq!(sysctl_scope("fs.mqueue.msg_max"), Some(Scope::Ipc));
        assert_eq!(sysctl_scope("net.core.somaxconn"), Some(Scope::Network));
        for whole in ["net", "kernel.core_pattern", "fs.mqueue", "vm.swappiness", "kernel/shmmax", ""] {
            assert_eq!(sysctl_scope(whole), None, "{whole}");
        }
    }
}
