//! Where a group lies below the root of each hierarchy.

use super::Error;
use std::fmt;

/// A checked path relative to the root of a hierarchy, such as `budu/4f2c…`. It cannot leave that root: every
/// component is an ordinary name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Takes `/budu/x` and `budu/x` alike.
    ///
    /// # Errors
    /// [`Error::BadPath`] for an empty path, `.`, `..`, control characters, a component over 255 bytes or with a name
    /// that the kernel reserves for its own files, or more than 2048 bytes or 32 components in all.
    pub fn parse(text: &str) -> Result<CgroupPath, Error> {
        let bad = |reason| Error::BadPath { path: text.chars().take(80).collect(), reason };
        if text.len() > 2048 {
            return Err(bad("longer than 2048 bytes"));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(bad("the root group belongs to the host"));
        }
        if parts.len() > 32 {
            return Err(bad("more than 32 components"));
        }
        for part in &parts {
            if matches!(*part, "." | "..") {
                return Err(bad("it contains . or .."));
            }
            if part.len() > 255 {
                return Err(bad("a component is longer than 255 bytes"));
            }
            if part.chars().any(char::is_control) {
                return Err(bad("it contains control characters"));
            }
            if ["cgroup.", "tasks", "notify_on_release", "release_agent"].iter().any(|name| part.starts_with(name)) {
                return Err(bad("a component has the name of a kernel file"));
            }
        }
        Ok(CgroupPath(parts.join("/")))
    }

    /// A path below this one.
    ///
    /// # Errors
    /// As [`CgroupPath::parse`].
    pub fn join(&self, below: &str) -> Result<CgroupPath, Error> {
        CgroupPath::parse(&format!("{}/{below}", self.0))
    }

    /// Without leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names along the path.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_root() {
        for bad in ["", "/", "..", "a/../b", "/a/..", ".", "a/./b", "a\nb", "cgroup.procs", "a/tasks", "a\0b"] {
            assert!(CgroupPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(CgroupPath::parse(&"a/".repeat(33)).is_err());
        assert!(CgroupPath::parse(&"a".repeat(256)).is_err());
        assert!(CgroupPath::parse(&"a".repeat(5000)).is_err());
    }

    #[test]
    fn slashes_do_not_matter() {
        for good in ["/budu/x", "budu/x", "//budu//x/"] {
            assert_eq!(CgroupPath::parse(good).expect("valid").to_string(), "/budu/x");
        }
        assert_eq!(CgroupPath::parse("a..b/...c").expect("dots inside names are fine").as_str(), "a..b/...c");
    }
}
