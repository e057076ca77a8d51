//! Which capabilities a container gets.

use budu_spec::{Classified, ErrorClass};
use budu_sys::capability::{CapSet, Capability};

/// Docker's fourteen, without prefix.
pub const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A capability nobody knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid {list}: unknown capability: \"{name}\"")]
pub struct UnknownCapability {
    /// `CapAdd` or `CapDrop`.
    pub list: &'static str,
    /// Upper case, with prefix.
    pub name: String,
}

impl Classified for UnknownCapability {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// The default set.
pub fn default_set() -> CapSet {
    DEFAULT.iter().filter_map(|name| Capability::from_name(name)).collect()
}

/// One of the user's lists.
struct List {
    all: bool,
    set: CapSet,
}

fn read(list: &'static str, names: &[String]) -> Result<List, UnknownCapability> {
    let mut read = List { all: false, set: CapSet::EMPTY };
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            read.all = true;
            continue;
        }
        let capability = Capability::from_name(name).ok_or_else(|| {
            let name = name.to_ascii_uppercase();
            UnknownCapability { list, name: if name.starts_with("CAP_") { name } else { format!("CAP_{name}") } }
        })?;
        read.set = read.set.with(capability);
    }
    Ok(read)
}

/// The bounding (and for root also permitted and effective) set of a container.
///
/// Names come in any case, with or without `CAP_`; `ALL` stands for all. An added capability wins over the same one
/// dropped, a dropped one over `ALL` added, added ones over `ALL` dropped.
///
/// # Errors
/// [`UnknownCapability`], also for privileged containers.
pub fn plan(add: &[String], drop: &[String], privileged: bool) -> Result<CapSet, UnknownCapability> {
    let add = read("CapAdd", add)?;
    let drop = read("CapDrop", drop)?;
    if privileged {
        return Ok(CapSet::ALL);
    }
    let base = match (add.all, drop.all) {
        (true, _) => return Ok(CapSet(CapSet::ALL.0 & !drop.set.0)),
        (false, true) => CapSet::EMPTY,
        (false, false) => CapSet(default_set().0 & !drop.set.0),
    };
    Ok(CapSet(base.0 | add.set.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(ToOwned::to_owned).collect()
    }

    fn planned(add: &str, drop: &str) -> String {
        plan(&names(add), &names(drop), false).expect("known names").to_string()
    }

    #[test]
    fn fourteen_by_default() {
        assert_eq!(default_set().iter().count(), 14);
        assert_eq!(plan(&[], &[], false), Ok(default_set()));
        assert_eq!(default_set().0, 0xa804_25fb, "what /proc/self/status shows in a Docker container");
    }

    #[test]
    fn add_and_drop() {
        assert_eq!(planned("", "all"), "");
        assert_eq!(planned("net_admin CAP_SYS_TIME", "ALL"), "CAP_NET_ADMIN,CAP_SYS_TIME");
        assert_eq!(planned("chown", "CHOWN all"), "CAP_CHOWN");
        let all_but_one = plan(&names("All"), &names("SYS_ADMIN"), false).expect("known names");
        assert_eq!(all_but_one.iter().count(), 40);
        assert_eq!(plan(&names("ALL"), &names("ALL"), false), Ok(CapSet::ALL));
        let fewer = plan(&[], &names("MKNOD net_raw"), false).expect("known names");
        assert_eq!(fewer.iter().count(), 12);
    }

    #[test]
    fn privileged_is_everything() {
        assert_eq!(plan(&[], &names("ALL"), true), Ok(CapSet::ALL));
    }

    #[test]
    fn unknown_names_are_refused_as_docker_does() {
        let error = plan(&names("foo"), &[], false).expect_err("unknown");
        assert_eq!(error.to_string(), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
        assert_eq!(error.class(), ErrorClass::InvalidArgument);
        let error = plan(&[], &names("CAP_BAR"), true).expect_err("unknown");
        assert_eq!(error.to_string(), "invalid CapDrop: unknown capability: \"CAP_BAR\"");
    }
}
