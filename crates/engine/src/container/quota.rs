//! `--storage-opt size`: a limit on what a container writes.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use budu_image::RootFs;
use budu_spec::Id;
use budu_spec::docker::HostConfig;
use budu_sys::quota;

use crate::Error;

/// Projects of containers have numbers from here on, so that they do not meet
/// those that an administrator gave.
const FIRST: u32 = 0x4000_0000;
/// Free numbers are looked for so often.
const ATTEMPTS: u32 = 64;

/// The limit that is asked for, bytes.
pub(crate) fn wish(host: &HostConfig) -> Result<Option<u64>, Error> {
    let mut size = None;
    for (key, value) in host.storage_opt.iter().flatten() {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        let bytes = budu_spec::units::parse_bytes(value).map_err(|e| Error::invalid(e.to_string()))?;
        size = Some(u64::try_from(bytes).map_err(|_| Error::invalid(format!("invalid size: '{value}'")))?);
    }
    Ok(size.filter(|bytes| *bytes > 0))
}

/// Limits a writable layer that is still empty.
///
/// # Errors
/// [`Error::Invalid`] where the file system cannot.
pub(crate) fn limit(rootfs: &RootFs, id: &Id, bytes: u64) -> Result<(), Error> {
    let open = |path: &Path| File::open(path).map_err(Error::io("open", path));
    let (upper, work) = (open(&rootfs.upper)?, open(&rootfs.work)?);
    if !quota::is_enforced(upper.as_fd()) {
        return Err(Error::invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, or over ext4 with 'prjquota'",
        ));
    }
    let project = free_project(&upper, id)
        .ok_or_else(|| Error::Runtime { message: "no project number is free for --storage-opt size".to_owned() })?;
    // Both: overlayfs makes files in one and moves them to the other.
    let given = [&upper, &work].into_iter().try_for_each(|dir| quota::set_project(dir.as_fd(), project));
    given.and_then(|()| quota::limit_project(upper.as_fd(), project, bytes)).map_err(Error::io("limit", &rootfs.upper))
}

/// Takes the limit of a writable layer back before it is removed. What has none is left alone.
pub(crate) fn forget(host: &HostConfig, rootfs: &RootFs) {
    if host.storage_opt.is_none() {
        return;
    }
    let Ok(upper) = File::open(&rootfs.upper) else { return };
    if let Ok(project) = quota::project(upper.as_fd())
        && project >= FIRST
    {
        let _ = quota::limit_project(upper.as_fd(), project, 0);
    }
}

/// A number that no limit and no file uses.
fn free_project(file: &File, id: &Id) -> Option<u32> {
    let start = u32::from_str_radix(id.as_str().get(..8)?, 16).ok()? % FIRST;
    let numbers = (0..ATTEMPTS).map(|attempt| FIRST + (start + attempt) % FIRST);
    let mut free = numbers.filter(|number| match quota::project_use(file.as_fd(), *number) {
        Ok((limit, used)) => limit == 0 && used == 0,
        // Nobody heard of it yet.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    });
    free.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(json: &str) -> Result<Option<u64>, String> {
        wish(&serde_json::from_str(json).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn sizes() {
        assert_eq!(wished(r#"{"StorageOpt":{"size":"10m"}}"#), Ok(Some(10 << 20)));
        assert_eq!(wished(r#"{"StorageOpt":null}"#), Ok(None));
        assert_eq!(wished(r#"{"StorageOpt":{"colour":"red"}}"#), Err("Unknown option colour".to_owned()));
        assert!(wished(r#"{"StorageOpt":{"size":"much"}}"#).is_err());
    }
}
