//! What a filter says, as plain data.

use super::Arch;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The call runs.
    Allow,
    /// The call runs and is logged.
    Log,
    /// The call is not run and fails with this errno.
    Errno(u16),
    /// The call is not run; the thread gets SIGSYS. The value arrives in `si_errno`.
    Trap(u16),
    /// A tracer decides; without one the call fails with ENOSYS. The value is the tracer's event message.
    Trace(u16),
    /// A listener on the seccomp descriptor decides.
    Notify,
    /// The thread dies as if by SIGSYS.
    KillThread,
    /// The whole process dies as if by SIGSYS.
    KillProcess,
}

impl Action {
    /// The value that a BPF program returns for this action.
    pub fn encode(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0x0000_0000,
            Action::Trap(value) => 0x0003_0000 | u32::from(value),
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Notify => 0x7fc0_0000,
            Action::Trace(value) => 0x7ff0_0000 | u32::from(value),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// Whether an unknown call reaches the kernel (or an emulator) with this action, in which case answering `ENOSYS`
    /// on the kernel's behalf would only hide calls that work.
    pub(super) fn lets_through(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// How an argument is compared. All comparisons are unsigned and 64 bits wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `argument != value`
    NotEqual,
    /// `argument < value`
    Less,
    /// `argument <= value`
    LessOrEqual,
    /// `argument == value`
    Equal,
    /// `argument >= value`
    GreaterOrEqual,
    /// `argument > value`
    Greater,
    /// `argument & value == value_two & value`: bits outside the mask do not count, on either side.
    MaskedEqual,
}

/// One condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arg {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// The comparison.
    pub op: Op,
    /// The value compared with; the mask for [`Op::MaskedEqual`].
    pub value: u64,
    /// Only for [`Op::MaskedEqual`]: what the masked argument must equal.
    pub value_two: u64,
}

/// One rule: these calls, under these conditions, get this action.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// System call names as in `/usr/include/asm/unistd.h` without prefix. Unknown ones are ignored.
    pub syscalls: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// Conditions; none means always.
    pub args: Vec<Arg>,
}

/// Flags for installing, see seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags {
    /// Log every action but `Allow` (`SECCOMP_FILTER_FLAG_LOG`).
    pub log: bool,
    /// Do not switch on the speculative-store-bypass mitigation (`SECCOMP_FILTER_FLAG_SPEC_ALLOW`).
    pub spec_allow: bool,
    /// A notified call waits through non-fatal signals (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19).
    pub wait_killable_recv: bool,
}

/// A whole filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// For calls that no rule matches.
    pub default: Action,
    /// Architectures whose calls are judged; the host's own should come first, it is tested first. Empty means the
    /// architecture this program was built for.
    pub arches: Vec<Arch>,
    /// In order.
    pub rules: Vec<Rule>,
    /// For installing.
    pub flags: Flags,
}

/// Why a filter cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A system call has six arguments.
    #[error("seccomp rule for {syscall}: argument index {index} is not in 0..=5")]
    ArgumentIndex {
        /// First call of the offending rule.
        syscall: String,
        /// The index given.
        index: u8,
    },
    /// The kernel limits a program to 4096 instructions.
    #[error("seccomp filter needs {instructions} instructions, the kernel accepts 4096: use fewer conditional rules")]
    TooLarge {
        /// Length of the compiled program.
        instructions: usize,
    },
    /// A notification from inside the filter's own set-up could never be answered.
    #[error("seccomp action NOTIFY cannot be the default action")]
    NotifyByDefault,
}
