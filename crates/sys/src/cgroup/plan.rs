//! The plan: which directories, which writes.

use super::resources::Memory;
use super::{CgroupPath, Controllers, Error, Hierarchy, Layout, Resources, Version, device_program, plan_v1, plan_v2};
use std::fmt;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Index into [`Plan::hierarchies`].
    pub hierarchy: usize,
    /// File in the group's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// File and value to try when the kernel has no such file.
    pub otherwise: Option<(String, String)>,
    /// A kernel without the file (or the alternative) is fine.
    pub optional: bool,
}

/// What to do to make one group. Prints as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Generation of the layout it was made for.
    pub version: Version,
    /// Below the root of each hierarchy.
    pub path: CgroupPath,
    /// Those that get a directory.
    pub hierarchies: Vec<Hierarchy>,
    /// v2: what must be switched on in `cgroup.subtree_control` of every ancestor.
    pub enable: Controllers,
    /// v2: of these, what limits need; the rest counts what is used.
    pub needed: Controllers,
    /// See [`Layout::complete`].
    pub complete: bool,
    /// In order.
    pub writes: Vec<Write>,
    /// v2: the eBPF program that guards devices.
    pub devices: Option<Vec<device_program::Instruction>>,
    /// v2: limits that may not be below what is in use.
    pub check_memory: Option<Memory>,
    /// Made without privilege over the host: device rules and controllers that the kernel refuses are left out.
    pub lenient: bool,
    /// v1: a hierarchy where nothing may be made is left out, unless a limit needs it.
    pub optional: bool,
    /// Somebody else made the group, and it may have processes.
    pub adopt: bool,
}

/// Plans a new group.
///
/// # Errors
/// [`Error::NoController`] when a limit needs what the host lacks, [`Error::BadValue`].
pub fn plan(layout: &Layout, path: &CgroupPath, resources: &Resources) -> Result<Plan, Error> {
    match layout.version {
        Version::V1 => plan_v1::plan(layout, path, resources),
        Version::V2 => plan_v2::plan(layout, path, resources),
    }
}

/// Plans new limits for a group that exists: the same writes, in the hierarchies the group has.
///
/// # Errors
/// As [`plan`].
pub fn plan_update(layout: &Layout, path: &CgroupPath, resources: &Resources) -> Result<Plan, Error> {
    plan(layout, path, resources)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.enable.is_empty() {
            let names: Vec<String> = self.enable.names().map(|name| format!("+{name}")).collect();
            writeln!(f, "enable {} above {}", names.join(" "), self.path)?;
        }
        for hierarchy in &self.hierarchies {
            writeln!(f, "mkdir {}{}", hierarchy.mount.display(), self.path)?;
        }
        for write in &self.writes {
            let mount = self.hierarchies[write.hierarchy].mount.display();
            write!(f, "write {mount}{}/{} {:?}", self.path, write.file, write.value)?;
            if let Some((file, value)) = &write.otherwise {
                write!(f, " or {file} {value:?}")?;
            }
            writeln!(f, "{}", if write.optional { " if present" } else { "" })?;
        }
        if let Some(program) = &self.devices {
            writeln!(f, "attach device program, {} instructions", program.len())?;
        }
        Ok(())
    }
}
