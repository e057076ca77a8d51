//! Which unit, and where its group lies.

use budu_sys::cgroup::{CgroupPath, Version};
use budu_sys::dbus::Value;
use rustix::process::Pid;

use super::Property;
use crate::cgroup::place::Place;
use crate::init::{Failing, invalid};

/// A unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Unit {
    /// `docker-1234.scope`.
    pub(crate) name: String,
    /// Of the user's manager, not the system's.
    pub(crate) user: bool,
    /// `system.slice`; empty when it is not known any more.
    pub(crate) slice: String,
}

impl Unit {
    /// From `slice:prefix:name`. An empty path is `:budu:ID`.
    pub(super) fn parse(path: &str, id: &str, user: bool) -> Failing<Unit> {
        let own = format!(":budu:{id}");
        let path = if path.is_empty() { own.as_str() } else { path };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(invalid(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            )));
        };
        let slice = match (*slice, user) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            (given, _) => given,
        };
        expand(slice)?;
        let name = if name.ends_with(".slice") { (*name).to_owned() } else { format!("{prefix}-{name}.scope") };
        // systemd.unit(5): what else there is must be escaped.
        if name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)) {
            return Err(invalid(format!("{name:?} is no name of a systemd unit")));
        }
        Ok(Unit { name, user, slice: slice.to_owned() })
    }

    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// `base` is the group of the manager: empty for the system's.
    pub(super) fn place(&self, base: &str) -> Failing<Place> {
        let path = CgroupPath::parse(&format!("{base}/{}/{}", expand(&self.slice)?, self.name))?;
        Ok(Place { unit: Some(self.clone()), ..Place::at(path) })
    }

    /// What the unit is, apart from limits.
    pub(super) fn properties(&self, id: &str, version: Version, pid: Pid) -> Vec<Property> {
        let on = |name: &str| (name.to_owned(), Value::Bool(true));
        let mut all = vec![("Description".to_owned(), Value::Text(format!("budu container {id}")))];
        if self.is_slice() {
            let wanted = vec![Value::text(&self.slice)];
            all.push(("Wants".to_owned(), Value::Array("s".to_owned(), wanted)));
        } else {
            all.push(("Slice".to_owned(), Value::text(&self.slice)));
            all.push(on("Delegate"));
            let pid = Value::U32(pid.as_raw_nonzero().get().cast_unsigned());
            all.push(("PIDs".to_owned(), Value::Array("u".to_owned(), vec![pid])));
        }
        let io = if version == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        all.extend(["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"].map(on));
        all.push(("DefaultDependencies".to_owned(), Value::Bool(false)));
        all
    }
}

/// `a-b.slice` lies in `a.slice`: `/a.slice/a-b.slice`. `-.slice` is the root.
fn expand(slice: &str) -> Failing<String> {
    let bad = || invalid(format!("invalid slice name: {slice}"));
    let name = slice.strip_suffix(".slice").ok_or_else(bad)?;
    if name == "-" {
        return Ok(String::new());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() || part.contains('/') {
            return Err(bad());
        }
        prefix = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}-{part}") };
        path = format!("{path}/{prefix}.slice");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_each_other() {
        assert_eq!(expand("system.slice").unwrap(), "/system.slice");
        assert_eq!(expand("test-a-b.slice").unwrap(), "/test.slice/test-a.slice/test-a-b.slice");
        assert_eq!(expand("-.slice").unwrap(), "");
        for bad in ["", ".slice", "x", "a/b.slice", "-a.slice", "a--b.slice", "a-.slice", "../x.slice"] {
            assert!(expand(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_and_places() {
        let place = |path: &str| Unit::parse(path, "box", false).unwrap().place("").unwrap();
        assert_eq!(
            place("system.slice:docker:1234").to_string(),
            "/system.slice/docker-1234.scope\nunit:docker-1234.scope"
        );
        assert_eq!(place("").path.to_string(), "/system.slice/budu-box.scope");
        assert_eq!(place("a-b.slice::c.slice").path.to_string(), "/a.slice/a-b.slice/c.slice");
        let user = Unit::parse("", "box", true).unwrap().place("/user.slice/user-1.slice/user@1.service").unwrap();
        assert_eq!(user.path.to_string(), "/user.slice/user-1.slice/user@1.service/user.slice/budu-box.scope");
        assert_eq!(user.to_string().parse::<Place>().unwrap().unit.map(|unit| unit.user), Some(true));
        for bad in ["/x", "a:b", "a:b:c:d", "x:y:z", "a.slice:p:../../x", "a.slice:p:x y"] {
            assert!(Unit::parse(bad, "box", false).is_err(), "{bad:?}");
        }
    }
}
