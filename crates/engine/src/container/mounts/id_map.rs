//! Id-mapped binds: what the container's user writes belongs to somebody else on the host.
//!
//! `owner` stands for whom the source belongs to, `UID[.GID]` or `UID[:GID]` for somebody else. On the host's side
//! that owner, in the container its user: the two are exchanged one for one. All other owners stay as they are, but for
//! the two ids that would then stand for two owners: those cannot be used.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use budu_spec::docker::ContainerConfig;
use budu_spec::oci::IdMapping;

use crate::Error;

/// The largest id.
const LAST: u32 = u32::MAX - 1;

/// The word `idmap` or `idmap=WHOM` of a mode; `None` for other words.
pub(super) fn word(word: &str) -> Option<&str> {
    match word.split_once('=') {
        None if word == "idmap" => Some("owner"),
        Some(("idmap", whom)) if !whom.is_empty() => value(whom),
        _ => None,
    }
}

/// Whom, as an API field; `None` when it cannot be understood.
pub(super) fn value(whom: &str) -> Option<&str> {
    (whom.is_empty() || whom == "owner" || parse(whom).is_some()).then_some(whom)
}

fn parse(whom: &str) -> Option<(u32, u32)> {
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id <= LAST);
    match whom.split_once(['.', ':']) {
        Some((uid, gid)) => Some((id(uid)?, id(gid)?)),
        None => id(whom).map(|id| (id, id)),
    }
}

/// Maps of users and groups for a source; empty when they would change nothing.
pub(super) fn maps(
    whom: &str,
    source: &Path,
    config: &ContainerConfig,
) -> Result<(Vec<IdMapping>, Vec<IdMapping>), Error> {
    let outside = match parse(whom) {
        Some(ids) => ids,
        None => {
            let meta = std::fs::metadata(source).map_err(Error::io("look at bind source", source))?;
            (meta.uid(), meta.gid())
        }
    };
    let inside = user(&config.user)?;
    if inside == outside {
        return Ok((Vec::new(), Vec::new()));
    }
    Ok((exchange(outside.0, inside.0), exchange(outside.1, inside.1)))
}

/// Numbers of the container's user. Names would have to be looked up in files that the container may change.
fn user(text: &str) -> Result<(u32, u32), Error> {
    match text {
        "" | "root" | "root:root" | "root:0" | "0:root" => Ok((0, 0)),
        text => {
            let id = |text: &str| text.parse::<u32>().ok();
            let (uid, gid) = text.split_once(':').map_or((text, "0"), |(uid, gid)| (uid, gid));
            id(uid).zip(id(gid)).ok_or_else(|| {
                Error::invalid(format!("idmap needs the container's user as numbers (--user UID:GID), not \"{text}\""))
            })
        }
    }
}

/// Lines of an id map: on disk, in the container, how many.
fn exchange(disk: u32, seen: u32) -> Vec<IdMapping> {
    let line = |container_id, host_id, size| IdMapping { container_id, host_id, size };
    if disk == seen {
        return vec![line(0, 0, u32::MAX)];
    }
    let (low, high) = (disk.min(seen), disk.max(seen));
    let mut lines = vec![line(disk, seen, 1)];
    for (from, to) in [(0, low), (low + 1, high), (high + 1, u32::MAX)] {
        if from < to {
            lines.push(line(from, from, to - from));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(word("idmap"), Some("owner"));
        assert_eq!(word("idmap=1000.50"), Some("1000.50"));
        for bad in ["idmap=", "idmap=x", "idmap=1.2.3", "idmap=4294967295", "other"] {
            assert_eq!(word(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_id_stands_for_two() {
        for (disk, seen) in [(1000, 0), (0, 1000), (1, 2), (LAST, 0), (7, 7)] {
            let lines = exchange(disk, seen);
            let at = |id: u32| lines.iter().find(|l| (l.container_id..l.container_id + l.size).contains(&id));
            let map = |id: u32| at(id).map(|l| l.host_id + (id - l.container_id));
            assert_eq!(map(disk), Some(seen));
            assert_eq!(map(33), Some(33));
            if disk != seen {
                assert_eq!(map(seen), None, "{disk} {seen}");
                assert!(!lines[1..].iter().any(|l| (l.host_id..l.host_id + l.size).contains(&disk)));
            }
        }
    }
}
