//! Where a cgroup lies.

use std::fmt;
use std::str::FromStr;

use budu_sys::cgroup::{self, CgroupPath, Controllers, Layout, Version};

use super::systemd::Unit;
use crate::plan::CgroupPlan;

const UNIT: &str = "unit";
const USER_UNIT: &str = "user-unit";

/// A path below the root of every hierarchy, or, where hierarchies of version
/// 1 differ, below another group of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: CgroupPath,
    /// Hierarchies whose base is not their root.
    pub(super) bases: Vec<(Controllers, String)>,
    /// The unit of systemd that the group belongs to.
    pub(super) unit: Option<Unit>,
}

impl Place {
    pub(super) fn at(path: CgroupPath) -> Place {
        Place { path, bases: Vec::new(), unit: None }
    }

    /// Where the file system driver makes a plan's group.
    pub(super) fn of_files(layout: &Layout, plan: &CgroupPlan) -> Result<Place, cgroup::Error> {
        let path = CgroupPath::parse(&plan.path).map_err(|error| taken_root(layout, plan).unwrap_or(error))?;
        if !plan.under_own {
            return Ok(Place::at(path));
        }
        let own = layout.own()?;
        Ok(match layout.version {
            Version::V2 => {
                let base = own.first().map_or("/", |(_, base)| base.as_str());
                Place::at(CgroupPath::parse(&format!("{base}/{}", plan.path))?)
            }
            Version::V1 => {
                let elsewhere = |base: &str| base.contains(|letter| letter != '/');
                Place { bases: own.into_iter().filter(|(_, base)| elsewhere(base)).collect(), ..Place::at(path) }
            }
        })
    }

    /// The layout with each hierarchy's base in place of its root.
    pub(super) fn layout(&self, layout: &Layout) -> Result<Layout, cgroup::Error> {
        layout.clone().based(&self.bases)
    }
}

/// Of the root group most can be told that it is taken, as any other one that has processes.
fn taken_root(layout: &Layout, plan: &CgroupPlan) -> Option<cgroup::Error> {
    let path = layout.hierarchies.first().filter(|_| plan.path == "/")?.mount.clone();
    let count = std::fs::read_to_string(path.join("cgroup.procs")).ok()?.lines().count();
    (count > 0).then_some(cgroup::Error::NotEmpty { path, count })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        self.bases.iter().try_for_each(|(controllers, base)| write!(f, "\n{controllers}:{base}"))?;
        match &self.unit {
            Some(unit) => write!(f, "\n{}:{}", if unit.user { USER_UNIT } else { UNIT }, unit.name),
            None => Ok(()),
        }
    }
}

impl FromStr for Place {
    type Err = cgroup::Error;

    fn from_str(text: &str) -> Result<Place, cgroup::Error> {
        let mut lines = text.lines();
        let mut place = Place::at(CgroupPath::parse(lines.next().unwrap_or_default())?);
        for line in lines {
            let bad = || cgroup::Error::BadPath { path: line.to_owned(), reason: "want controllers:path" };
            let (names, base) = line.split_once(':').ok_or_else(bad)?;
            if matches!(names, UNIT | USER_UNIT) {
                place.unit = Some(Unit { name: base.to_owned(), user: names == USER_UNIT, ..Unit::default() });
                continue;
            }
            let known = names.split(',').map(|name| Controllers::from_name(name).ok_or_else(bad));
            let controllers = known.collect::<Result<Vec<_>, _>>()?.into_iter();
            let controllers = controllers.fold(Controllers::NONE, Controllers::union);
            place.bases.push((controllers, CgroupPath::parse(base)?.to_string()));
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let both = Controllers::CPU.union(Controllers::CPUACCT);
        let place = Place {
            path: CgroupPath::parse("x/y").unwrap(),
            bases: vec![(both, "/a/b".to_owned()), (Controllers::SYSTEMD, "/c.slice".to_owned())],
            unit: None,
        };
        let text = place.to_string();
        assert_eq!(text, "/x/y\ncpu,cpuacct:/a/b\nname=systemd:/c.slice");
        assert_eq!(text.parse::<Place>().unwrap(), place);
        assert_eq!("/x".parse::<Place>().unwrap().to_string(), "/x");
        for bad in ["", "/../x", "/x\ncpu", "/x\ncpu:/..", "/x\nnothing:/a"] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn below_the_root_or_the_own_group() {
        let text = b"1 2 0:3 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let layout = Layout::parse(text).unwrap();
        let mut plan = CgroupPlan { path: "a/b".into(), ..CgroupPlan::default() };
        assert_eq!(Place::of_files(&layout, &plan).unwrap().to_string(), "/a/b");
        plan.under_own = true;
        let place = Place::of_files(&layout, &plan).unwrap();
        assert!(place.to_string().starts_with("/a/b"));
        assert!(place.layout(&layout).unwrap().hierarchies[0].mount.starts_with("/c/cpu"));
    }
}
