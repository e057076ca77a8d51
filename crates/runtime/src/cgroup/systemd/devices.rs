//! Device rules as systemd has them: a list of what is open, nothing else
//! (systemd.resource-control(5), DeviceAllow=).

use budu_sys::cgroup::{Access, DeviceKind, DeviceRule};
use budu_sys::dbus::Value;

use super::Property;

/// What is open after all rules. Rules that a list cannot express are left to
/// the program or files that guard the group besides; the list errs on the
/// closed side where everything but something is open.
pub(super) fn properties(rules: &[DeviceRule]) -> Vec<Property> {
    let mut everything = false;
    let mut closed_again = false;
    let mut open: Vec<DeviceRule> = Vec::new();
    for rule in rules {
        if rule.is_total() {
            (everything, closed_again) = (rule.allow, false);
            open.clear();
        } else if everything {
            closed_again |= !rule.allow;
        } else {
            let kinds: &[DeviceKind] = match rule.kind {
                DeviceKind::All => &[DeviceKind::Char, DeviceKind::Block],
                DeviceKind::Char => &[DeviceKind::Char],
                DeviceKind::Block => &[DeviceKind::Block],
            };
            kinds.iter().for_each(|kind| apply(&mut open, DeviceRule { kind: *kind, ..*rule }));
        }
    }
    let policy = if everything && !closed_again { "auto" } else { "strict" };
    let list = |entries| ("DeviceAllow".to_owned(), Value::Array("(ss)".to_owned(), entries));
    // An empty list takes back what the unit has.
    let mut properties = vec![list(Vec::new()), ("DevicePolicy".to_owned(), Value::text(policy))];
    let entries: Vec<Value> = open.iter().filter_map(entry).collect();
    if !entries.is_empty() {
        properties.push(list(entries));
    }
    properties
}

fn apply(open: &mut Vec<DeviceRule>, rule: DeviceRule) {
    let same = |one: &DeviceRule| (one.kind, one.major, one.minor) == (rule.kind, rule.major, rule.minor);
    match (open.iter_mut().find(|one| same(one)), rule.allow) {
        (Some(known), allow) => {
            let both = |known: bool, said: bool| if allow { known || said } else { known && !said };
            known.access = Access {
                read: both(known.access.read, rule.access.read),
                write: both(known.access.write, rule.access.write),
                mknod: both(known.access.mknod, rule.access.mknod),
            };
            open.retain(|one| one.access != Access::default());
        }
        (None, true) => open.push(rule),
        (None, false) => {}
    }
}

fn entry(rule: &DeviceRule) -> Option<Value> {
    let kind = if rule.kind == DeviceKind::Block { "block" } else { "char" };
    let path = match (rule.major, rule.minor) {
        (None, None) => format!("{kind}-*"),
        (Some(major), None) => format!("{kind}-{major}"),
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        // There is no word for it.
        (None, Some(_)) => return None,
    };
    let letters = [(rule.access.read, "r"), (rule.access.write, "w"), (rule.access.mknod, "m")];
    let access: String = letters.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
    Some(Value::Struct(vec![Value::Text(path), Value::Text(access)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rules: &str) -> String {
        let rules: Vec<DeviceRule> = rules
            .split(", ")
            .map(|rule| {
                let (verb, rule) = rule.split_once(' ').unwrap();
                DeviceRule { allow: verb == "allow", ..rule.parse().unwrap() }
            })
            .collect();
        let mut out = String::new();
        for (name, value) in properties(&rules) {
            match value {
                Value::Array(_, entries) => {
                    let entries = entries.iter().map(|entry| match entry {
                        Value::Struct(parts) => parts.iter().filter_map(Value::as_text).collect::<Vec<_>>().join(" "),
                        other => panic!("{other:?}"),
                    });
                    out.push_str(&format!("{name}=[{}];", entries.collect::<Vec<_>>().join(",")));
                }
                other => out.push_str(&format!("{name}={};", other.as_text().unwrap())),
            }
        }
        out
    }

    #[test]
    fn lists() {
        assert_eq!(text("deny a *:* rwm"), "DeviceAllow=[];DevicePolicy=strict;");
        assert_eq!(text("allow a *:* rwm"), "DeviceAllow=[];DevicePolicy=auto;");
        assert_eq!(text("allow a *:* rwm, deny c 1:3 r"), "DeviceAllow=[];DevicePolicy=strict;");
        assert_eq!(
            text("deny a *:* rwm, allow c *:* m, allow c 1:3 rw, allow c 136:* rwm, allow b *:7 r, deny c 1:3 w"),
            "DeviceAllow=[];DevicePolicy=strict;DeviceAllow=[char-* m,/dev/char/1:3 r,char-136 rwm];"
        );
        assert_eq!(
            text("allow a 5:1 r"),
            "DeviceAllow=[];DevicePolicy=strict;DeviceAllow=[/dev/char/5:1 r,/dev/block/5:1 r];"
        );
    }
}
