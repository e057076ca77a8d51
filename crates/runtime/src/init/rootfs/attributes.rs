//! Which options a bind mount gets, given those of what it shows.
//!
//! Options of the host's mounts are locked inside a user namespace: the kernel
//! refuses to drop nosuid, nodev, noexec, ro and the access time rule
//! (mount_namespaces(7)). Dropping them unasked is given up, asked for it fails.

use std::io;
use std::os::fd::AsFd;

use budu_sys::mount::{self, Detached, attr};

use super::{failed, refused};
use crate::init::Failing;

const LOCKABLE: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
const PLAIN: u64 = LOCKABLE | attr::NOSYMFOLLOW;
const TIMES: u64 = attr::ATIME | attr::NODIRATIME;

/// Bits to set and to clear, mount_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) set: u64,
    pub(super) clear: u64,
}

/// Locked options that were asked to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Locked {
    Options,
    Times,
}

impl Change {
    /// What a mount's words ask for. To the letter of the specification's
    /// "bind" a mount with any option has those options alone; otherwise what is
    /// not mentioned stays.
    pub(super) fn wanted(set: u64, clear: u64, letter: bool) -> Change {
        let mut change = Change { set, clear: clear & !attr::ATIME };
        if letter && set | clear != 0 {
            change.clear |= PLAIN & !set;
        }
        // The access time rule is one value of several bits: it is replaced as
        // a whole. A word that only takes one back (`atime`) has no effect here.
        if set & attr::ATIME != 0 || clear & attr::ATIME == attr::ATIME || letter && set & attr::NODIRATIME != 0 {
            change.clear |= if letter { TIMES & !(set & attr::NODIRATIME) } else { attr::ATIME };
        } else if letter {
            change.clear &= !attr::NODIRATIME;
        }
        change
    }

    /// The same for everything below, where a part of the rule means all of it.
    pub(super) fn wanted_below(set: u64, clear: u64) -> Change {
        let times = if (set | clear) & attr::ATIME != 0 { attr::ATIME } else { 0 };
        Change { set, clear: clear & !set | times }
    }

    /// What is left of it where the options in `current` are locked; `clear` is what was asked to go by name.
    pub(super) fn without_locked(self, clear: u64, current: u64) -> Result<Change, Locked> {
        if clear & current & LOCKABLE != 0 {
            return Err(Locked::Options);
        }
        let touches_times = self.clear & attr::ATIME != 0 || (self.set | self.clear) & attr::NODIRATIME != 0;
        let result = (current & !(self.clear & TIMES)) | (self.set & TIMES);
        if touches_times && result & TIMES != current & TIMES {
            return Err(Locked::Times);
        }
        Ok(Change { set: self.set & !TIMES, clear: self.clear & !TIMES & !(current & LOCKABLE) })
    }

    fn is_nothing(self) -> bool {
        self.set | self.clear == 0
    }

    fn apply(self, mount: &Detached, recursive: bool) -> io::Result<()> {
        if self.is_nothing() { Ok(()) } else { mount.set_attributes(self.set, self.clear, 0, recursive) }
    }
}

/// Gives a bind mount its own options. `locked`: as if the kernel had locked those it has.
pub(super) fn apply(clone: &Detached, set: u64, clear: u64, letter: bool, locked: bool) -> Failing<()> {
    let change = Change::wanted(set, clear, letter);
    if change.is_nothing() {
        return Ok(());
    }
    if !locked {
        match change.apply(clone, false) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            other => return other.map_err(failed("set its options")),
        }
    }
    let current = mount::attributes(clone.as_fd()).map_err(failed("look at its options"))?;
    let rest = change.without_locked(clear, current).map_err(|locked| {
        refused(match locked {
            Locked::Options => "cannot clear locked flags: operation not permitted".to_owned(),
            Locked::Times => "cannot change locked atime flags: operation not permitted".to_owned(),
        })
    })?;
    rest.apply(clone, false).map_err(failed("set its options"))
}

/// Sets and clears options on everything below as well. The engine's volumes
/// (not to the letter) make do with the topmost mount where another cannot take them.
pub(super) fn apply_below(clone: &Detached, set: u64, clear: u64, letter: bool) -> Failing<()> {
    let change = Change::wanted_below(set, clear);
    match change.apply(clone, true) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput && !letter => change.apply(clone, false),
        other => other,
    }
    .map_err(failed("set its options recursively"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_is_nothing_changed() {
        for letter in [true, false] {
            assert!(Change::wanted(0, 0, letter).is_nothing());
        }
    }

    #[test]
    fn to_the_letter_other_options_go() {
        let change = Change::wanted(attr::RDONLY, 0, true);
        assert_eq!(change, Change { set: attr::RDONLY, clear: PLAIN & !attr::RDONLY });
        assert_eq!(Change::wanted(attr::RDONLY, 0, false), Change { set: attr::RDONLY, clear: 0 });
    }

    #[test]
    fn the_access_time_rule_is_replaced_as_a_whole() {
        // relatime
        assert_eq!(Change::wanted(0, attr::ATIME, true).clear & TIMES, TIMES);
        // nodiratime alone implies relatime
        let change = Change::wanted(attr::NODIRATIME, 0, true);
        assert_eq!((change.set, change.clear & TIMES), (attr::NODIRATIME, attr::ATIME));
        // atime, diratime: no effect
        assert_eq!(Change::wanted(0, attr::NOATIME, true).clear & TIMES, 0);
        assert_eq!(Change::wanted(0, attr::NODIRATIME, true).clear & TIMES, 0);
        let change = Change::wanted(attr::STRICTATIME | attr::NODIRATIME, attr::ATIME, true);
        assert_eq!(change.clear & TIMES, attr::ATIME);
        assert_eq!(Change::wanted_below(0, attr::NOATIME).clear, attr::ATIME);
    }

    #[test]
    fn locked_options_stay_unless_named() {
        let current = attr::RDONLY | attr::NOEXEC | attr::NOATIME;
        let change = Change::wanted(attr::NODEV, 0, true);
        let rest = change.without_locked(0, current).unwrap();
        assert_eq!(rest, Change { set: attr::NODEV, clear: attr::NOSUID | attr::NOSYMFOLLOW });
        let explicit = Change::wanted(attr::NODEV, attr::RDONLY, true);
        assert_eq!(explicit.without_locked(attr::RDONLY, current), Err(Locked::Options));
        let times = Change::wanted(attr::STRICTATIME, attr::ATIME, true);
        assert_eq!(times.without_locked(attr::ATIME, current), Err(Locked::Times));
        let same = Change::wanted(attr::NOATIME, attr::ATIME, true);
        assert!(same.without_locked(attr::ATIME, current).is_ok());
    }
}
