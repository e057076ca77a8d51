//! Population: an empty volume takes over what the image has at its place.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use budu_sys::rooted::Root;
use budu_sys::view::View;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::{Volumes, copy};
use crate::Error;

/// Directory beside `_data` where the copy grows.
const ASIDE: &str = "_new";

impl Volumes {
    /// Copies what is at `target` below `view` into the volume, if that is a directory and the volume is empty.
    ///
    /// The copy grows aside where it can, so that a crash leaves an empty volume rather than half a copy.
    ///
    /// # Errors
    /// [`Error::Io`]; then the volume is as empty as before.
    pub(crate) async fn populate(
        self: &Arc<Self>,
        name: &str,
        view: Arc<View>,
        target: &str,
        durable: bool,
    ) -> Result<(), Error> {
        let _turn = self.turn(name).await;
        let volume = self.found(name)?;
        let alone = volume.users().live.is_empty() && !super::mount::needed(&volume.record());
        let (dir, target) = (self.dir(name), target.to_owned());
        let work = move || fill(&dir, view.root(), &target, alone, durable).map_err(Error::io("populate volume", &dir));
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::Runtime { message: e.to_string() })?
    }
}

fn fill(dir: &Path, view: &Root, target: &str, alone: bool, durable: bool) -> io::Result<()> {
    let source = match view.open(target, OFlags::PATH) {
        Ok(source) if FileType::from_raw_mode(fstat(&source)?.st_mode) == FileType::Directory => source,
        Ok(_) => return Ok(()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e),
    };
    let data = Root::open_at(&dir.join(super::DATA))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !copy::is_empty(openat(&data, ".", flags, Mode::empty())?.as_fd())? {
        return Ok(());
    }
    if !alone {
        return copy::tree(source.as_fd(), data.as_fd());
    }
    let aside = dir.join(ASIDE);
    budu_image::delete_tree(&aside).map_err(io::Error::other)?;
    fs::DirBuilder::new().mode(0o755).create(&aside)?;
    let grow = || {
        copy::tree(source.as_fd(), Root::open_at(&aside)?.as_fd())?;
        if durable {
            rustix::fs::syncfs(File::open(&aside)?)?;
        }
        // An empty directory gives way to it in one step.
        fs::rename(&aside, dir.join(super::DATA))
    };
    grow().inspect_err(|_| drop(budu_image::delete_tree(&aside)))
}
