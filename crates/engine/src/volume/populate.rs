//! Population: an empty volume takes over what the image has at its place.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use budu_sys::rooted::Root;
use budu_sys::view::View;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::record::Record;
use super::size::Limit;
use super::{Volumes, copy};
use crate::Error;

/// Directory beside `_data` where the copy grows.
const ASIDE: &str = "_new";

/// Where a volume will be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Path in the container.
    pub(crate) target: String,
    /// The part of the volume that is seen there; empty for all.
    pub(crate) subpath: String,
}

impl Volumes {
    /// Copies what is at the target of `place` below `view` into the volume, if that is a directory and the volume is empty.
    ///
    /// The copy grows aside where it can, so that a crash leaves an empty volume rather than half a copy.
    ///
    /// # Errors
    /// [`Error::Io`]; then the volume is as empty as before.
    pub(crate) async fn populate(
        &self,
        name: &str,
        view: Arc<View>,
        place: &Place,
        durable: bool,
    ) -> Result<(), Error> {
        let _turn = self.turn(name).await;
        let volume = self.found(name)?;
        let record = volume.record();
        if record.driver != super::LOCAL {
            return self.populate_elsewhere(&record, view, place.clone()).await;
        }
        self.mount_now(&record).await?;
        let unused = volume.users().live.is_empty();
        // A copy that grew elsewhere would not be limited.
        let alone = unused && place.subpath.is_empty() && record.limit == Limit::None && !super::mount::needed(&record);
        let (dir, place) = (self.dir(name), place.clone());
        let work = move || fill(&dir, view.root(), &place, alone, durable).map_err(Error::io("populate volume", &dir));
        let filled = tokio::task::spawn_blocking(work).await;
        if unused && let Err(error) = self.unmount_now(&record) {
            tracing::warn!(volume = name, %error, "could not unmount");
        }
        filled.map_err(|e| Error::Runtime { message: e.to_string() })?
    }

    /// The same for a plugin's volume, which is mounted meanwhile.
    async fn populate_elsewhere(&self, record: &Record, view: Arc<View>, place: Place) -> Result<(), Error> {
        let (driver, id) = (self.driver(&record.driver).await?, budu_spec::Id::random());
        let data = PathBuf::from(driver.mount(&record.name, id.as_str()).await?);
        let work = move || into_place(&data, view.root(), &place).map_err(Error::io("populate volume", &data));
        let filled = tokio::task::spawn_blocking(work).await;
        driver.unmount(&record.name, id.as_str()).await?;
        filled.map_err(|e| Error::Runtime { message: e.to_string() })?
    }
}

/// What is to be copied: nothing when it is no directory, or the volume has something.
fn source_for(data: &Root, view: &Root, target: &str) -> io::Result<Option<OwnedFd>> {
    let source = match view.open(target, OFlags::PATH) {
        Ok(source) if FileType::from_raw_mode(fstat(&source)?.st_mode) == FileType::Directory => source,
        Ok(_) => return Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let empty = copy::is_empty(openat(data, ".", flags, Mode::empty())?.as_fd())?;
    Ok(empty.then_some(source))
}

fn into_place(data: &Path, view: &Root, place: &Place) -> io::Result<()> {
    let mut data = Root::open_at(data)?;
    if !place.subpath.is_empty() {
        // Whether it is there is seen when the container starts.
        let Ok(part) = data.open(&place.subpath, OFlags::DIRECTORY) else { return Ok(()) };
        data = Root::new(part);
    }
    match source_for(&data, view, &place.target)? {
        Some(source) => copy::tree(source.as_fd(), data.as_fd()),
        None => Ok(()),
    }
}

fn fill(dir: &Path, view: &Root, place: &Place, alone: bool, durable: bool) -> io::Result<()> {
    let data = dir.join(super::DATA);
    if !alone {
        return into_place(&data, view, place);
    }
    let Some(source) = source_for(&Root::open_at(&data)?, view, &place.target)? else { return Ok(()) };
    let aside = dir.join(ASIDE);
    budu_image::delete_tree(&aside).map_err(io::Error::other)?;
    fs::DirBuilder::new().mode(0o755).create(&aside)?;
    let grow = || {
        copy::tree(source.as_fd(), Root::open_at(&aside)?.as_fd())?;
        if durable {
            rustix::fs::syncfs(File::open(&aside)?)?;
        }
        // An empty directory gives way to it in one step.
        fs::rename(&aside, &data)
    };
    grow().inspect_err(|_| drop(budu_image::delete_tree(&aside)))
}
