//! Arguments of which the kernel reads only the lower 32 bits.
//!
//! A 64-bit program may put anything into the upper half of the register. A filter that compares all 64 bits then judges
//! another value than the one the kernel uses: "greater than 40" lets `socket(0x1_0000_0026, …)` pass, which the kernel
//! takes for family 38; and "equal to TIOCSTI" misses the same request with a bit above (CVE-2019-10063). For the
//! arguments listed here the filter therefore looks where the kernel looks.

/// Call, argument.
const NARROW: &[(&str, u8)] = &[
    ("arch_prctl", 0),
    ("bpf", 0),
    ("clone", 0),
    ("epoll_ctl", 1),
    ("fcntl", 1),
    ("fcntl64", 1),
    ("fsconfig", 1),
    ("futex", 1),
    ("io_uring_setup", 0),
    ("ioctl", 1),
    ("keyctl", 0),
    ("kill", 1),
    ("lseek", 2),
    ("madvise", 2),
    ("openat", 2),
    ("open", 1),
    ("pidfd_send_signal", 1),
    ("personality", 0),
    ("prctl", 0),
    ("quotactl", 0),
    ("reboot", 0),
    ("reboot", 1),
    ("reboot", 2),
    ("seccomp", 0),
    ("sendmsg", 2),
    ("setns", 1),
    ("setsockopt", 1),
    ("setsockopt", 2),
    ("getsockopt", 1),
    ("getsockopt", 2),
    ("shmget", 2),
    ("socket", 0),
    ("socket", 1),
    ("socket", 2),
    ("socketcall", 0),
    ("socketpair", 0),
    ("socketpair", 1),
    ("socketpair", 2),
    ("syslog", 0),
    ("tgkill", 2),
    ("tkill", 1),
    ("umount2", 1),
    ("userfaultfd", 0),
    ("waitid", 3),
];

/// Whether the kernel cuts this argument to 32 bits.
pub(super) fn is_narrow(call: &str, argument: u8) -> bool {
    NARROW.contains(&(call, argument))
}
