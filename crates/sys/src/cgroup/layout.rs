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
        pub struct Controllers(u16);

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
}

impl Layout {
    /// Reads /proc/self/mountinfo and, for v2, the list of controllers.
    ///
    /// # Errors
    /// [`Error::NotMounted`] without any, [`Error::Io`] when /proc is not readable.
    pub fn detect() -> Result<Layout, Error> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
        let mut layout = Layout::parse(&text)?;
        if layout.version == Version::V2 {
            for hierarchy in &mut layout.hierarchies {
                let path = hierarchy.mount.join("cgroup.controllers");
                let text = std::fs::read_to_string(&path).map_err(|source| Error::io("read", path, source))?;
                hierarchy.controllers = Controllers::from_names(text.split_ascii_whitespace());
            }
        }
        Ok(layout)
    }

    /// Reads the text of a mountinfo file. A v2 tree found this way has no controllers yet.
    ///
    /// # Errors
    /// [`Error::NotMounted`] without any.
    pub fn parse(mountinfo: &[u8]) -> Result<Layout, Error> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut unified: Option<Hierarchy> = None;
        for line in mountinfo.split(|byte| *byte == b'\n') {
            let Some(mount) = Mount::parse(line) else { continue };
            if mount.kind == b"cgroup2" {
                // The first is the one at the usual place; later ones are views of the same tree.
                if unified.is_none() {
                    unified = Some(mount.hierarchy);
                }
            } else if mount.kind == b"cgroup"
                && !mount.hierarchy.controllers.is_empty()
                && !hierarchies.iter().any(|known| known.controllers.intersects(mount.hierarchy.controllers))
            {
                hierarchies.push(mount.hierarchy);
            }
        }
        if !hierarchies.is_empty() {
            return Ok(Layout { version: Version::V1, hierarchies, unified: unified.map(|one| one.mount) });
        }
        let unified = unified.ok_or(Error::NotMounted)?;
        Ok(Layout { version: Version::V2, hierarchies: vec![unified], unified: None })
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
        Layout { version: Version::V2, hierarchies: vec![hierarchy], unified: None }
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
