//! Size limits: a project quota where the file system has them, else a file system of its own in a sparse file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use budu_spec::Id;
use budu_sys::loopdev::LoopDevice;
use budu_sys::{ext4, quota};
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

use super::{DATA, Volumes, options};
use crate::Error;

/// Name of the file with a file system, in the volume's directory.
pub(super) const IMAGE: &str = "files.ext4";
/// Projects of volumes begin here; an administrator's are small, and those of containers lie below.
const FIRST_PROJECT: u32 = 0x8000_0000;

/// What keeps a volume to its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limit {
    /// Nothing.
    #[default]
    None,
    /// A project quota.
    Project(u32),
    /// It is a file system of its own.
    Image,
}

impl Volumes {
    /// Limits the volume that is being made in `dir`.
    pub(super) fn limit(&self, dir: &Path, size: &str) -> Result<Limit, Error> {
        let bytes = if size.is_empty() { 0 } else { options::size_of(size)? };
        if bytes == 0 {
            return Ok(Limit::None);
        }
        let failed = Error::io("limit volume", dir);
        let project = self.free_project();
        let data = File::open(dir.join(DATA)).map_err(Error::io("open", dir))?;
        if quota::is_enforced(data.as_fd()) {
            project_limit(&data, project, bytes).map_err(Error::io("limit volume", dir))?;
            return Ok(Limit::Project(project));
        }
        let image = dir.join(IMAGE);
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&image);
        let mut id = [0u8; 16];
        for (byte, pair) in id.iter_mut().zip(Id::random().as_str().as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
        }
        let now = u64::try_from(crate::clock::now() / 1_000_000_000).unwrap_or(0);
        made.and_then(|file| ext4::format(&file, bytes, id, now)).map_err(failed)?;
        Ok(Limit::Image)
    }

    pub(super) fn free_project(&self) -> u32 {
        let used: Vec<Limit> = self.table().values().map(|volume| volume.record().limit).collect();
        (FIRST_PROJECT..).find(|id| !used.contains(&Limit::Project(*id))).unwrap_or(FIRST_PROJECT)
    }
}

/// Makes an empty directory a project that holds so many bytes.
pub(super) fn project_limit(directory: &File, project: u32, bytes: u64) -> io::Result<()> {
    quota::limit_project(directory.as_fd(), project, bytes)?;
    quota::set_project(directory.as_fd(), project)
}

/// Takes the limit of a volume's project back; the files are about to go.
pub(super) fn forget(limit: Limit, data: &Path) {
    if let Limit::Project(project) = limit
        && let Ok(directory) = File::open(data)
        && let Err(error) = quota::limit_project(directory.as_fd(), project, 0)
    {
        tracing::warn!(%error, project, "the quota of a removed volume stays");
    }
}

/// Mounts the file system of a volume.
pub(super) fn mount_image(dir: &Path, data: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(dir.join(IMAGE))?;
    let device = LoopDevice::attach(&file)?;
    Ok(mount(device.path(), data, "ext4", MountFlags::empty(), Some(c"noinit_itable,discard"))?)
}
