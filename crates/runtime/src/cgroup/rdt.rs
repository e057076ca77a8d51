//! Cache and memory bandwidth allocation by the resctrl file system
//! (config-linux.md "Intel RDT", Documentation/filesystems/resctrl.rst).

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::rdt_metrics::RdtMetrics;
use crate::init::{Failing, invalid};
use crate::plan::IntelRdtPlan;
use crate::protocol::{Failure, FailureClass};

/// The group of one container, which may not exist yet.
#[derive(Debug)]
pub(crate) struct Rdt<'a> {
    root: PathBuf,
    plan: &'a IntelRdtPlan,
    id: &'a str,
}

/// Puts a container's first process into its group; `None` when the plan asks
/// for nothing or the host has no resctrl and nothing depends on it.
pub(crate) fn enter_rdt(plan: Option<&IntelRdtPlan>, id: &str, pid: Pid) -> Failing<()> {
    let Some(plan) = plan else { return Ok(()) };
    match root() {
        Some(root) => Rdt { root, plan, id }.enter(pid),
        None if plan.shared || plan.monitoring || !plan.schemata.is_empty() => {
            Err(invalid("intelRdt is specified in config, but Intel RDT is not enabled: mount resctrl".to_owned()))
        }
        None => Ok(()),
    }
}

/// Removes what [`enter_rdt`] made.
pub(crate) fn leave_rdt(plan: Option<&IntelRdtPlan>, id: &str) -> Failing<()> {
    match (plan, root()) {
        (Some(plan), Some(root)) => Rdt { root, plan, id }.remove(),
        _ => Ok(()),
    }
}

/// Writes other schemata: those of `plan`.
pub(crate) fn update_rdt(plan: &IntelRdtPlan, id: &str) -> Failing<()> {
    let root = root().ok_or_else(|| invalid("Intel RDT: no resctrl file system is mounted".to_owned()))?;
    Rdt { root, plan, id }.write_schemata()
}

/// What the container's group has and uses; empty without.
pub(crate) fn rdt_metrics(plan: Option<&IntelRdtPlan>, id: &str) -> RdtMetrics {
    match (plan, root()) {
        (Some(plan), Some(root)) => {
            let rdt = Rdt { root, plan, id };
            rdt.directory().map(|group| RdtMetrics::read(&rdt.root, &group)).unwrap_or_default()
        }
        _ => RdtMetrics::default(),
    }
}

/// Where resctrl is mounted; most often nowhere.
fn root() -> Option<PathBuf> {
    const USUAL: &str = "/sys/fs/resctrl";
    // The kernel makes this directory where the hardware can.
    if !Path::new(USUAL).exists() {
        return None;
    }
    mount_in(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

fn mount_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        kind.starts_with("resctrl ").then(|| fields.split(' ').nth(4).map(PathBuf::from))?
    })
}

impl Rdt<'_> {
    /// The root is everybody's group, and is called `/`.
    fn directory(&self) -> Failing<PathBuf> {
        let name = self.plan.group.as_str();
        match name {
            "/" => Ok(self.root.clone()),
            "" | "." | ".." | "info" | "mon_data" | "mon_groups" => {
                Err(invalid(format!("invalid intelRdt.ClosID {name:?}")))
            }
            name if name.contains('/') => Err(invalid(format!("invalid intelRdt.ClosID {name:?}"))),
            name => Ok(self.root.join(name)),
        }
    }

    fn monitor(&self) -> Failing<Option<PathBuf>> {
        if !self.plan.monitoring {
            return Ok(None);
        }
        if self.id.is_empty() || self.id.starts_with('.') || self.id.contains('/') {
            return Err(invalid(format!("invalid monitoring group {:?}", self.id)));
        }
        Ok(Some(self.directory()?.join("mon_groups").join(self.id)))
    }

    fn enter(&self, pid: Pid) -> Failing<()> {
        let group = self.directory()?;
        if self.plan.shared && self.plan.schemata.is_empty() && !group.exists() {
            let reason = "must be pre-created when schemata, l3CacheSchema and memBwSchema are empty";
            return Err(self.fail(&format!("clos dir {} not accessible ({reason})", group.display()), None));
        }
        let made = make(&group).map_err(|error| self.fail("make the group", Some(error)))?;
        let result = self.fill(&group, pid);
        if result.is_err() && made {
            let _ = std::fs::remove_dir(&group);
        }
        result
    }

    fn fill(&self, group: &Path, pid: Pid) -> Failing<()> {
        self.write_schemata()?;
        let enter = |directory: &Path| {
            std::fs::write(directory.join("tasks"), pid.as_raw_nonzero().to_string())
                .map_err(|error| self.fail(&format!("unable to add pid {}", pid.as_raw_nonzero()), Some(error)))
        };
        enter(group)?;
        if let Some(monitor) = self.monitor()? {
            let made = make(&monitor).map_err(|error| self.fail("make the monitoring group", Some(error)))?;
            if let Err(failure) = enter(&monitor) {
                if made {
                    let _ = std::fs::remove_dir(&monitor);
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// All lines with one write: the kernel takes all or none.
    fn write_schemata(&self) -> Failing<()> {
        let lines: Vec<&str> =
            self.plan.schemata.iter().map(|line| line.trim_end_matches('\n')).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.join("\n") + "\n";
        std::fs::write(self.directory()?.join("schemata"), &text)
            .map_err(|error| self.fail(&format!("unable to write {text:?}"), Some(error)))
    }

    fn remove(&self) -> Failing<()> {
        // With a group go its monitoring groups.
        let gone = if self.plan.shared { self.monitor()? } else { Some(self.directory()?) };
        match gone.map(std::fs::remove_dir) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.fail("remove the group", Some(error)))
            }
            _ => Ok(()),
        }
    }

    /// With what the kernel says about its refusal.
    fn fail(&self, what: &str, error: Option<io::Error>) -> Failure {
        let status = std::fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        let status = match status.trim() {
            "" => String::new(),
            text => format!(", last_cmd_status: {text}"),
        };
        Failure { class: FailureClass::Internal, message: format!("intelrdt: {what}{error}{status}") }
    }
}

/// Whether it was not there before.
fn make(directory: &Path) -> io::Result<bool> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of ordinary files in place of resctrl.
    struct Tree(PathBuf);

    impl Tree {
        fn new(what: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("budu-resctrl-{}-{what}", std::process::id()));
            std::fs::create_dir_all(root.join("info")).unwrap();
            std::fs::write(root.join("info/last_cmd_status"), "ok\n").unwrap();
            Tree(root)
        }

        fn rdt<'a>(&self, plan: &'a IntelRdtPlan) -> Rdt<'a> {
            Rdt { root: self.0.clone(), plan, id: "box" }
        }

        fn read(&self, file: &str) -> String {
            std::fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn pid() -> Pid {
        Pid::from_raw(42).unwrap()
    }

    #[test]
    fn a_container_gets_its_schemata() {
        let tree = Tree::new("own");
        let schemata = vec!["L3:0=7f0".to_owned(), "MB:0=20\n".to_owned(), String::new()];
        let plan = IntelRdtPlan { group: "box".into(), schemata, ..IntelRdtPlan::default() };
        tree.rdt(&plan).enter(pid()).unwrap();
        assert_eq!(tree.read("box/schemata"), "L3:0=7f0\nMB:0=20\n");
        assert_eq!(tree.read("box/tasks"), "42");
        // An ordinary directory can only go when it is empty; resctrl's files are no obstacle.
        std::fs::remove_file(tree.0.join("box/tasks")).unwrap();
        std::fs::remove_file(tree.0.join("box/schemata")).unwrap();
        tree.rdt(&plan).remove().unwrap();
        assert!(!tree.0.join("box").exists());
        tree.rdt(&plan).remove().expect("gone is fine");
    }

    #[test]
    fn a_named_group_is_shared_and_stays() {
        let tree = Tree::new("shared");
        let plan = IntelRdtPlan { group: "gold".into(), shared: true, monitoring: true, ..IntelRdtPlan::default() };
        let message = tree.rdt(&plan).enter(pid()).unwrap_err().message;
        assert!(message.contains("must be pre-created") && message.ends_with("last_cmd_status: ok"), "{message}");
        std::fs::create_dir_all(tree.0.join("gold/mon_groups")).unwrap();
        tree.rdt(&plan).enter(pid()).unwrap();
        assert_eq!(tree.read("gold/mon_groups/box/tasks"), "42");
        std::fs::remove_file(tree.0.join("gold/mon_groups/box/tasks")).unwrap();
        tree.rdt(&plan).remove().unwrap();
        assert!(tree.0.join("gold/mon_groups").exists() && !tree.0.join("gold/mon_groups/box").exists());
    }

    #[test]
    fn no_group_lies_elsewhere() {
        let tree = Tree::new("names");
        for group in ["..", ".", "", "a/b", "../x", "info"] {
            let plan = IntelRdtPlan { group: group.into(), ..IntelRdtPlan::default() };
            assert!(tree.rdt(&plan).enter(pid()).is_err(), "{group:?}");
        }
        let plan = IntelRdtPlan { group: "/".into(), shared: true, ..IntelRdtPlan::default() };
        tree.rdt(&plan).enter(pid()).unwrap();
        assert_eq!(tree.read("tasks"), "42");
    }

    #[test]
    fn the_mount_is_found() {
        let text = "30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 29 0:27 / /sys/fs/resctrl rw,relatime - resctrl resctrl rw\n";
        assert_eq!(mount_in(text), Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(mount_in("30 29 0:26 / /x rw - cgroup2 resctrl rw\n"), None);
    }
}
