//! The old multiplexers `socketcall` and `ipc`, through which 32-bit x86, s390x and POWER programs reach what are
//! separate calls elsewhere.

use super::{Arch, Arg, Op};

const SOCKET: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The multiplexer's number and the condition on its first argument under which it does what `name` does.
pub(super) fn multiplexed(arch: Arch, name: &str) -> Option<(u32, Arg)> {
    if !matches!(arch, Arch::X86 | Arch::S390x | Arch::Ppc64le) {
        return None;
    }
    let find = |table: &[(&str, u64)]| table.iter().find(|(known, _)| *known == name).map(|(_, code)| *code);
    if let Some(code) = find(&SOCKET) {
        let condition = Arg { index: 0, op: Op::Equal, value: code, value_two: 0 };
        return arch.number("socketcall").map(|number| (number, condition));
    }
    // The kernel reads a version from the upper half of the first argument; only the lower half selects.
    let code = find(&IPC)?;
    let condition = Arg { index: 0, op: Op::MaskedEqual, value: 0xffff, value_two: code };
    arch.number("ipc").map(|number| (number, condition))
}
