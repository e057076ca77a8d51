//! What the host mounts.

use super::Error;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Generation of the control group interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// One hierarchy per controller, or for a few of them together.
    V1,
    /// One hierarchy for all.
    V2,
}

macro_rules! controllers {
    ($($(#[$doc:meta])* $constant:ident $name:literal $bit:literal),* $(,)?) => {
        /// A set of controllers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct Controllers(u32);

        impl Controllers {
            /// None.
            pub const NONE: Controllers = Controllers(0);
            $($(#[$doc])* pub const $constant: Controllers = Controllers(1 << $bit);)*
            const NAMED: &[(&str, Controllers)] = &[$(($name, Controllers::$constant)),*];
        }
    };
}

controllers! {
    /// Processor weight and quota.
    CPU "cpu" 0,
    /// Processor accounting (v1).
    CPUACCT "cpuacct" 1,
    /// Processor placement.
    CPUSET "cpuset" 2,
    /// Memory.
    MEMORY "memory" 3,
    /// Tasks.
    PIDS "pids" 4,
    /// Device access (v1).
    DEVICES "devices" 5,
    /// Freezing (v1).
    FREEZER "freezer" 6,
    /// Disk (v1).
    BLKIO "blkio" 7,
    /// Disk (v2).
    IO "io" 8,
    /// Huge pages.
    HUGETLB "hugetlb" 9,
    /// Remote DMA.
    RDMA "rdma" 10,
    /// Network class (v1).
    NET_CLS "net_cls" 11,
    /// Network priority (v1).
    NET_PRIO "net_prio" 12,
    /// Performance counters.
    PERF_EVENT "perf_event" 13,
    /// Encrypted VMs and other counted resources.
    MISC "misc" 14,
    /// systemd's own hierarchy (v1), which controls nothing.
    SYSTEMD "name=systemd" 15,
    /// The v2 tree beside v1 hierarchies.
    UNIFIED "unified" 16,
    /// Device memory (v2).
    DMEM "dmem" 17,
}

impl Controllers {
    /// By the kernel's name.
    pub fn from_name(name: &str) -> Option<Controllers> {
        Controllers::NAMED.iter().find(|(known, _)| *known == name).map(|(_, one)| *one)
    }

    /// Whether all of `other` are in here.
    pub fn contains(self, other: Controllers) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in here.
    pub fn intersects(self, other: Controllers) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    #[must_use]
    pub const fn union(self, other: Controllers) -> Controllers {
        Controllers(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Controllers) -> Controllers {
        Controllers(self.0 & other.0)
    }

    /// What is in here but not in `other`.
    #[must_use]
    pub const fn difference(self, other: Controllers) -> Controllers {
        Controllers(self.0 & !other.0)
    }

    /// The kernel's names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Controllers::NAMED.iter().filter(move |(_, one)| self.contains(*one)).map(|(name, _)| *name)
    }

    fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Controllers {
        names.filter_map(Controllers::from_name).fold(Controllers::NONE, Controllers::union)
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            write!(f, "{}{name}", if position == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which group of the hierarchy the mount shows: `/` on a host, the container's own group in some containers.
    pub root: PathBuf,
    /// What it controls.
    pub controllers: Controllers,
}

/// All hierarchies that containers use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Which generation carries the limits.
    pub version: Version,
    /// Exactly one for v2.
    pub hierarchies: Vec<Hierarchy>,
    /// The v2 tree beside v1 hierarchies ("hybrid"), which carries no limits but can kill and freeze.
    pub unified: Option<PathBuf>,
    /// Groups are made in every hierarchy and with every controller, see [`Layout::complete`].
    pub complete: bool,
    /// v1 hierarchies that limit nothing: systemd's and the v2 tree.
    pub(super) beside: Vec<Hierarchy>,
}

impl Layout {
    /// Reads /proc/self/mountinfo and, for v2, the list of controllers.
    ///
    /// # Errors
    /// [`Error::NotMounted`] without any, [`Error::Io`] when /proc is not readable.
    pub fn detect() -> Result<Layout, Error> {
        let text = crate::mount::table().map_err(|source| Error::io("read", "/proc/self/mountinfo", source))?;
        let mut layout = Layout::parse(&text)?;
        layout.refresh()?;
        Ok(layout)
    }

    /// Looks up which controllers a v2 tree has, after [`Layout::based`] too: they may be fewer there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        if self.version == Version::V2 {
            for hierarchy in &mut self.hierarchies {
                let path = hierarchy.mount.join("cgroup.controllers");
                let text = std::fs::read_to_string(&path).map_err(|source| Error::io("read", path, source))?;
                hierarchy.controllers = Controllers::from_names(text.split_ascii_whitespace());
            }
        }
        Ok(())
    }

    /// Reads the text of a mountinfo file. A v2 tree found this way has no controllers yet.
    ///
    /// # Errors
    /// [`Error::NotMounted`] without any.
    pub fn parse(mountinfo: &[u8]) -> Result<Layout, Error> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified: Option<Hierarchy> = None;
        let mut beside: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.split(|byte| *byte == b'\n') {
            let Some(mount) = Mount::parse(line) else { continue };
            if mount.kind == b"cgroup2" {
                // The first is the one at the usual place; later ones are views of the same tree.
                if unified.is_none() {
                    unified = Some(mount.hierarchy);
                }
            } else if mount.kind == b"cgroup" && mount.hierarchy.controllers == Controllers::SYSTEMD {
                if beside.is_empty() {
                    beside.push(mount.hierarchy);
                }
            } else if mount.kind == b"cgroup"
                && !mount.hierarchy.controllers.is_empty()
                && !hierarchies.iter().any(|known| known.controllers.intersects(mount.hierarchy.controllers))
            {
                hierarchies.push(mount.hierarchy);
            }
        }
        if !hierarchies.is_empty() {
            let mount = unified.as_ref().map(|one| one.mount.clone());
            beside.extend(unified.map(|one| Hierarchy { controllers: Controllers::UNIFIED, ..one }));
            return Ok(Layout { version: Version::V1, hierarchies, unified: mount, complete: false, beside });
        }
        let unified = unified.ok_or(Error::NotMounted)?;
        let hierarchies = vec![unified];
        Ok(Layout { version: Version::V2, hierarchies, unified: None, complete: false, beside: Vec::new() })
    }

    /// Groups in all hierarchies there are, systemd's and the v2 tree beside v1 included, and with all controllers:
    /// what software that drives an OCI runtime expects. The default is the fewest that limits and accounting need.
    #[must_use]
    pub fn complete(mut self) -> Layout {
        self.hierarchies.append(&mut self.beside);
        self.complete = true;
        self
    }

    /// The layout as seen from other groups: `bases` names, for each hierarchy, the group that takes the place of its
    /// root. A hierarchy that is not named stays.
    ///
    /// # Errors
    /// [`Error::BadPath`], as [`super::CgroupPath::parse`].
    pub fn based(mut self, bases: &[(Controllers, String)]) -> Result<Layout, Error> {
        for hierarchy in self.hierarchies.iter_mut().chain(&mut self.beside) {
            let v2 = self.version == Version::V2;
            let base = bases.iter().find(|(named, _)| v2 || named.intersects(hierarchy.controllers));
            if let Some((_, base)) = base.filter(|(_, base)| base.contains(|letter| letter != '/')) {
                hierarchy.mount.push(super::CgroupPath::parse(base)?.as_str());
            }
        }
        Ok(self)
    }

    /// The caller's own group in each hierarchy, below what the mounts show; on v2 that group's parent, since a group
    /// with processes cannot hand controllers down. From /proc/self/cgroup.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn own(&self) -> Result<Vec<(Controllers, String)>, Error> {
        let path = "/proc/self/cgroup";
        let text = std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        Ok(self.own_in(&text))
    }

    /// The same out of the text of such a file.
    pub fn own_in(&self, text: &str) -> Vec<(Controllers, String)> {
        let mut found = Vec::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
            let controllers = match (names, self.version) {
                ("", Version::V2) => Controllers::NONE,
                ("", Version::V1) => Controllers::UNIFIED,
                (_, Version::V2) => continue,
                (names, Version::V1) => Controllers::from_names(names.split(',')),
            };
            let mut known = self.hierarchies.iter().chain(&self.beside);
            let hierarchy = known.find(|one| self.version == Version::V2 || one.controllers.intersects(controllers));
            let Some(hierarchy) = hierarchy else { continue };
            let path = Path::new(path);
            let below = path.strip_prefix(&hierarchy.root).unwrap_or(path);
            let below = if self.version == Version::V2 { below.parent().unwrap_or(below) } else { below };
            let base = format!("/{}", below.to_string_lossy().trim_start_matches('/'));
            found.push((hierarchy.controllers, base));
        }
        found
    }

    /// All controllers of all hierarchies.
    pub fn controllers(&self) -> Controllers {
        self.hierarchies.iter().fold(Controllers::NONE, |all, one| all.union(one.controllers))
    }

    /// The hierarchy of one controller.
    pub fn hierarchy(&self, controller: Controllers) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|one| one.controllers.contains(controller))
    }

    /// A v2 layout at any directory. For tests and for trees mounted at an unusual place.
    pub fn v2_at(mount: &Path, controllers: Controllers) -> Layout {
        let hierarchy = Hierarchy { mount: mount.to_owned(), root: PathBuf::from("/"), controllers };
        let hierarchies = vec![hierarchy];
        Layout { version: Version::V2, hierarchies, unified: None, complete: false, beside: Vec::new() }
    }
}

struct Mount<'a> {
    kind: &'a [u8],
    hierarchy: Hierarchy,
}

impl<'a> Mount<'a> {
    /// `id parent major:minor root mountpoint options [tags…] - type source superoptions`
    fn parse(line: &'a [u8]) -> Option<Mount<'a>> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let mount = fields.next()?;
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        let options = fields.nth(1)?;
        let names = options.split(|byte| *byte == b',').filter_map(|name| str::from_utf8(name).ok());
        let controllers = if kind == b"cgroup" { Controllers::from_names(names) } else { Controllers::NONE };
        Some(Mount { kind, hierarchy: Hierarchy { mount: unescape(mount), root: unescape(root), controllers } })
    }
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = |byte: &u8| matches!(byte, b'0'..=b'7').then(|| u32::from(byte - b'0'));
        if *first == b'\\'
            && let [a, b, c, after @ ..] = tail
            && let (Some(a), Some(b), Some(c)) = (octal(a), octal(b), octal(c))
            && let Ok(byte) = u8::try_from(a * 64 + b * 8 + c)
        {
            out.push(byte);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_host() {
        let text = b"29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(text).expect("mounted");
        assert_eq!(layout.version, Version::V2);
        assert_eq!(layout.hierarchies[0].mount, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn hybrid_host_with_shared_mounts() {
        let text = b"30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            31 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            32 29 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 29 0:29 /docker/abc /sys/fs/cgroup/my\\040memory rw shared:1 master:2 - cgroup cgroup rw,memory\n\
            34 29 0:28 / /other/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let layout = Layout::parse(text).expect("mounted");
        assert_eq!(layout.version, Version::V1);
        assert_eq!(layout.controllers().to_string(), "cpu,cpuacct,memory");
        assert_eq!(layout.hierarchies.len(), 2);
        let memory = layout.hierarchy(Controllers::MEMORY).expect("listed");
        assert_eq!(memory.mount, Path::new("/sys/fs/cgroup/my memory"));
        assert_eq!(memory.root, Path::new("/docker/abc"));
        assert_eq!(layout.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn complete_is_with_what_limits_nothing() {
        let text = b"30 29 0:26 / /c/unified rw - cgroup2 cgroup2 rw\n\
            31 29 0:27 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            32 29 0:28 /a /c/cpu rw - cgroup cgroup rw,cpu\n";
        let layout = Layout::parse(text).expect("mounted");
        assert_eq!(layout.hierarchies.len(), 1);
        let own = layout.own_in("3:cpu:/a/b/c\n2:name=systemd:/x.slice\n0::/y\nnonsense\n");
        let layout = layout.complete().based(&own).expect("valid");
        let mounts: Vec<String> = layout.hierarchies.iter().map(|one| one.mount.display().to_string()).collect();
        assert_eq!(mounts, ["/c/cpu/b/c", "/c/systemd/x.slice", "/c/unified/y"]);
        assert!(Layout::parse(text).expect("mounted").based(&[(Controllers::CPU, "/../x".to_owned())]).is_err());
    }

    #[test]
    fn below_the_parent_of_the_own_group_on_v2() {
        let layout = Layout::v2_at(Path::new("/c"), Controllers::CPU);
        assert_eq!(layout.own_in("0::/u.slice/s.scope\n"), [(Controllers::CPU, "/u.slice".to_owned())]);
        assert_eq!(layout.own_in("1:cpu:/z\n0::/\n")[0].1, "/");
    }

    #[test]
    fn nothing_mounted() {
        assert!(matches!(Layout::parse(b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"), Err(Error::NotMounted)));
    }

    #[test]
    fn this_host_is_understood() {
        match Layout::detect() {
            Ok(layout) => assert!(!layout.controllers().is_empty(), "{layout:?}"),
            Err(error) => println!("skipped: {error}"),
        }
    }
}
