//! Device nodes of every container, and what it may open.

use crate::plan::{DevicePlan, DeviceRule};
use budu_sys::cgroup::{self, Access, DeviceKind};

const CHARACTER: u32 = 0o020_000;

/// Nodes made in every container's /dev: name, major, minor. `ptmx` and `console` are not nodes of their own: the first
/// is a link into the container's devpts, the second the container's terminal.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The nodes, owned by root, open to everybody (OCI runtime specification, "Default Devices").
pub fn nodes() -> Vec<DevicePlan> {
    NODES
        .iter()
        .map(|(name, major, minor)| DevicePlan {
            path: format!("/dev/{name}"),
            mode: CHARACTER | 0o666,
            major: *major,
            minor: *minor,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// What may be opened: the nodes above, the console, pseudo terminals. Any node may be made (that needs CAP_MKNOD too),
/// but a node that is not listed cannot be opened. Docker also lists a denial of 10:229 (FUSE), which the first rule
/// already implies.
pub fn rules() -> Vec<DeviceRule> {
    let open =
        |major, minor, access: &str| DeviceRule { allow: true, kind: 'c', major, minor, access: access.to_owned() };
    let mut rules = vec![
        DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".to_owned() },
        open(None, None, "m"),
        DeviceRule { kind: 'b', ..open(None, None, "m") },
    ];
    rules.extend(NODES.iter().map(|(_, major, minor)| open(Some(*major), Some(*minor), "rwm")));
    rules.push(open(Some(5), Some(1), "rwm")); // console
    rules.push(open(Some(5), Some(2), "rwm")); // ptmx
    rules.push(open(Some(136), None, "rwm")); // pseudo terminals
    rules
}

/// What every container of a bundle may open besides what its configuration allows (runc's list, which engines have come
/// to rely on): the default nodes but those that are `replaced`, pseudo terminals, TUN; and making any node.
pub fn bundle_rules(replaced: impl Fn(&str) -> bool) -> Vec<DeviceRule> {
    let open =
        |major, minor, access: &str| DeviceRule { allow: true, kind: 'c', major, minor, access: access.to_owned() };
    let mut rules = vec![open(None, None, "m"), DeviceRule { kind: 'b', ..open(None, None, "m") }];
    let kept = NODES.iter().filter(|(name, ..)| !replaced(&format!("/dev/{name}")));
    rules.extend(kept.map(|(_, major, minor)| open(Some(*major), Some(*minor), "rwm")));
    rules.push(open(Some(136), None, "rwm")); // pseudo terminals
    rules.push(open(Some(5), Some(2), "rwm")); // ptmx
    rules.push(open(Some(10), Some(200), "rwm")); // TUN
    rules
}

/// Everything open: `--privileged`.
pub fn privileged_rules() -> Vec<DeviceRule> {
    vec![DeviceRule { allow: true, kind: 'a', major: None, minor: None, access: "rwm".to_owned() }]
}

impl From<cgroup::DeviceRule> for DeviceRule {
    fn from(rule: cgroup::DeviceRule) -> DeviceRule {
        let kind = match rule.kind {
            DeviceKind::All => 'a',
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let letters = [(rule.access.read, 'r'), (rule.access.write, 'w'), (rule.access.mknod, 'm')];
        let access = letters.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
        DeviceRule { allow: rule.allow, kind, major: rule.major, minor: rule.minor, access }
    }
}

/// A device rule of a plan that says nothing sensible.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("device rule with kind {kind:?} and access {access:?}: kind must be a, b or c, access some of rwm")]
pub struct BadDeviceRule {
    /// As given.
    pub kind: char,
    /// As given.
    pub access: String,
}

impl TryFrom<&DeviceRule> for cgroup::DeviceRule {
    type Error = BadDeviceRule;

    fn try_from(rule: &DeviceRule) -> Result<cgroup::DeviceRule, BadDeviceRule> {
        let bad = || BadDeviceRule { kind: rule.kind, access: rule.access.clone() };
        let kind = match rule.kind {
            'a' => DeviceKind::All,
            'c' => DeviceKind::Char,
            'b' => DeviceKind::Block,
            _ => return Err(bad()),
        };
        let access = Access::parse(&rule.access).ok_or_else(bad)?;
        Ok(cgroup::DeviceRule { allow: rule.allow, kind, major: rule.major, minor: rule.minor, access })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_the_kernel_reads_them() {
        let text: Vec<String> = rules()
            .iter()
            .map(|rule| cgroup::DeviceRule::try_from(rule).expect("our own rules are valid"))
            .map(|rule| format!("{} {rule}", if rule.allow { "allow" } else { "deny" }))
            .collect();
        assert_eq!(
            text,
            [
                "deny a *:* rwm",
                "allow c *:* m",
                "allow b *:* m",
                "allow c 1:3 rwm",
                "allow c 1:5 rwm",
                "allow c 1:7 rwm",
                "allow c 1:8 rwm",
                "allow c 1:9 rwm",
                "allow c 5:0 rwm",
                "allow c 5:1 rwm",
                "allow c 5:2 rwm",
                "allow c 136:* rwm",
            ]
        );
    }

    #[test]
    fn rules_survive_both_ways() {
        for rule in rules().into_iter().chain(privileged_rules()) {
            let there = cgroup::DeviceRule::try_from(&rule).expect("valid");
            assert_eq!(DeviceRule::from(there), rule);
        }
        let nonsense = DeviceRule { allow: true, kind: 'x', major: None, minor: None, access: "r".to_owned() };
        assert!(cgroup::DeviceRule::try_from(&nonsense).is_err());
    }
}
