//! Linux capabilities: names, sets, and small steps that change the calling thread's sets.
//!
//! The order of the steps is the caller's business (bounding before changing user, ambient last); nothing here
//! allocates, so a freshly cloned process may call all of it.

use rustix::io;
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use std::fmt;

/// Names by number, without the `CAP_` prefix, in kernel order.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// By number, 0 to 40.
    pub fn from_number(number: u8) -> Option<Capability> {
        (usize::from(number) < NAMES.len()).then_some(Capability(number))
    }

    /// By name: any case, with or without `CAP_`.
    pub fn from_name(name: &str) -> Option<Capability> {
        let bare = match name.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
            _ => name,
        };
        let number = NAMES.iter().position(|known| known.eq_ignore_ascii_case(bare))?;
        Some(Capability(u8::try_from(number).ok()?))
    }

    /// The kernel's number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name without `CAP_`.
    pub fn bare_name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    fn bit(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(1 << self.0)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.bare_name())
    }
}

/// A set of capabilities, one bit each, bit number = capability number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);
    /// All that this program knows by name. Intersect with [`supported`] before applying.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);

    /// Whether the set has this one.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 >> capability.0 & 1 == 1
    }

    /// The set with this one.
    #[must_use]
    pub fn with(self, capability: Capability) -> CapSet {
        CapSet(self.0 | 1 << capability.0)
    }

    /// The set without this one.
    #[must_use]
    pub fn without(self, capability: Capability) -> CapSet {
        CapSet(self.0 & !(1 << capability.0))
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// Members in kernel order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..u8::try_from(NAMES.len()).unwrap_or(u8::MAX)).map(Capability).filter(move |one| self.contains(*one))
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(iter: I) -> CapSet {
        iter.into_iter().fold(CapSet::EMPTY, CapSet::with)
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, capability) in self.iter().enumerate() {
            write!(f, "{}{capability}", if position == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The highest capability number that the running kernel has (40 since Linux 5.9).
pub fn last_cap() -> u8 {
    // Asked once: the kernel does not change under us, and forks inherit the answer.
    static LAST: std::sync::OnceLock<u8> = std::sync::OnceLock::new();
    *LAST.get_or_init(find_last_cap)
}

fn find_last_cap() -> u8 {
    let mut last = 0;
    // Read through prctl and not /proc, which may not be mounted where this runs.
    while last < 63 && thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << (last + 1))).is_ok() {
        last += 1;
    }
    last
}

/// The set of all capabilities of the running kernel.
pub fn supported() -> CapSet {
    CapSet(u64::MAX >> (63 - last_cap()))
}

/// Removes from the calling thread's bounding set everything not in `keep`. Needs CAP_SETPCAP.
///
/// # Errors
/// `EPERM` without that capability.
pub fn limit_bounding(keep: CapSet) -> io::Result<()> {
    for number in 0..=last_cap() {
        if keep.0 >> number & 1 == 0 {
            thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))?;
        }
    }
    Ok(())
}

/// The calling thread's bounding set.
///
/// # Errors
/// None expected.
pub fn bounding() -> io::Result<CapSet> {
    let mut set = CapSet::EMPTY;
    for number in 0..=last_cap() {
        if thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number))? {
            set.0 |= 1 << number;
        }
    }
    Ok(set)
}

/// Effective, permitted and inheritable sets of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// In force now.
    pub effective: CapSet,
    /// May be made effective.
    pub permitted: CapSet,
    /// Pass through exec for files that ask for them.
    pub inheritable: CapSet,
}

/// The calling thread's sets.
///
/// # Errors
/// None expected.
pub fn current() -> io::Result<Sets> {
    let sets = thread::capabilities(None)?;
    Ok(Sets {
        effective: CapSet(sets.effective.bits()),
        permitted: CapSet(sets.permitted.bits()),
        inheritable: CapSet(sets.inheritable.bits()),
    })
}

/// Sets effective, permitted and inheritable of the calling thread at once. Bits the kernel does not know are left out
/// by the kernel itself.
///
/// # Errors
/// `EPERM` for a permitted capability the thread lacks.
pub fn set(sets: Sets) -> io::Result<()> {
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective.0),
            permitted: CapabilitySet::from_bits_retain(sets.permitted.0),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable.0),
        },
    )
}

/// Makes the ambient set of the calling thread exactly `wanted`. Each must be permitted and inheritable already.
///
/// # Errors
/// `EPERM` when one is not.
pub fn set_ambient(wanted: CapSet) -> io::Result<()> {
    thread::clear_ambient_capability_set()?;
    wanted.iter().try_for_each(|capability| thread::configure_capability_in_ambient_set(capability.bit(), true))
}

/// Keeps the permitted set across a change from user 0 to another user (cleared again by exec).
///
/// # Errors
/// `EPERM` when the securebits are locked.
pub fn keep_across_user_change(keep: bool) -> io::Result<()> {
    thread::set_keep_capabilities(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_spelling() {
        for name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "sys_Admin"] {
            assert_eq!(Capability::from_name(name).map(Capability::number), Some(21), "{name}");
        }
        for name in ["", "CAP_", "CAP_CAP_CHOWN", "FOO", "ÄÖÜ", "ALL"] {
            assert_eq!(Capability::from_name(name), None, "{name}");
        }
        assert_eq!(Capability::from_name("CHECKPOINT_RESTORE").map(Capability::number), Some(40));
        assert_eq!(Capability::from_name("NET_RAW").map(|one| one.to_string()).as_deref(), Some("CAP_NET_RAW"));
    }

    #[test]
    fn sets_print_in_kernel_order() {
        let set: CapSet = ["KILL", "CHOWN"].iter().filter_map(|name| Capability::from_name(name)).collect();
        assert_eq!(set.to_string(), "CAP_CHOWN,CAP_KILL");
        assert_eq!(CapSet::ALL.iter().count(), 41);
    }

    #[test]
    fn last_cap_agrees_with_proc() {
        let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        if text.is_empty() {
            println!("skipped: /proc/sys/kernel/cap_last_cap is not readable");
            return;
        }
        assert_eq!(text.trim(), last_cap().to_string());
    }

    #[test]
    fn a_thread_can_shrink_itself() {
        let outcome = std::thread::spawn(|| {
            let kill = Capability(5);
            let keep = CapSet::EMPTY.with(kill);
            if !current().is_ok_and(|sets| sets.effective.contains(Capability(8))) {
                return None;
            }
            limit_bounding(keep).expect("SETPCAP is effective");
            set(Sets { effective: keep, permitted: keep, inheritable: keep }).expect("shrinking is always allowed");
            set_ambient(keep).expect("permitted and inheritable");
            Some((bounding().expect("readable"), current().expect("readable")))
        })
        .join()
        .expect("no panic");
        let Some((bounding, sets)) = outcome else {
            println!("skipped: no CAP_SETPCAP");
            return;
        };
        assert_eq!(bounding.to_string(), "CAP_KILL");
        assert_eq!(sets.effective.to_string(), "CAP_KILL");
        assert_eq!(sets.permitted, sets.effective);
    }
}
