//! Files of a container: what a path is, what changed.

use serde::{Deserialize, Serialize};

/// What is at a path of a container; travels in the header `X-Docker-Container-Path-Stat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    /// The last component of the path that was asked for.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Kind and permissions as Go's `fs.FileMode` has them, see [`file_mode`].
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// Where a symbolic link leads to in the end, as a path in the container.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

impl PathStat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & MODE_DIR != 0
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.mode & MODE_SYMLINK != 0
    }
}

/// Go's bit for directories.
pub const MODE_DIR: u32 = 1 << 31;
/// Go's bit for symbolic links.
pub const MODE_SYMLINK: u32 = 1 << 27;

/// Turns a Unix `st_mode` into Go's `fs.FileMode`.
pub fn file_mode(unix: u32) -> u32 {
    let kind = match unix & 0o170_000 {
        0o040_000 => MODE_DIR,
        0o120_000 => MODE_SYMLINK,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = special.iter().filter(|(bit, _)| unix & bit != 0).map(|(_, go)| go).sum();
    kind | special | unix & 0o777
}

/// One change of a container's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FilesystemChange {
    /// Path in the container.
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(file_mode(0o100_644), 0o644);
        assert_eq!(file_mode(0o041_777), MODE_DIR | 1 << 20 | 0o777);
        assert_eq!(file_mode(0o104_755), 1 << 23 | 0o755);
        assert_eq!(file_mode(0o020_666), 1 << 26 | 1 << 21 | 0o666);
    }
}
