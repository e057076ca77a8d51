//! Writable layers: one directory per container, which is at the same time the lease on its image.
//!
//! `image` in it is a symbolic link whose text names the manifest and the image: the cheapest
//! atomic small file there is, as long as its text fits into the inode. Nothing here is synced: a container that was
//! not stopped has no promise about its unsynced writes, and the lease is made again by
//! [`Store::prepare`] when a power cut took it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use budu_spec::Digest;
use budu_spec::image::Platform;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use crate::error::Error;
use crate::image::{ImageId, RootFs};
use crate::layout::delete;
use crate::state::{Lease, RootAttributes, State};
use crate::store::{Inner, Store};

impl Store {
    /// Makes the writable layer of `container` on top of `image` (for the host's platform) and
    /// leases the image to it. Made again for the same image it is left as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the image, [`Error::SnapshotExists`] when the name is taken
    /// with another image.
    pub fn prepare(&self, container: &str, image: &ImageId) -> Result<RootFs, Error> {
        self.prepare_for(container, image, None)
    }

    /// [`Store::prepare`] with the image's contents for a given platform.
    ///
    /// # Errors
    /// As [`Store::prepare`], and [`Error::NoPlatform`] when that platform was not pulled.
    pub fn prepare_for(&self, container: &str, image: &ImageId, platform: Option<&Platform>) -> Result<RootFs, Error> {
        check_name(container)?;
        let directory = self.inner.layout.snapshots().join(container);
        let (lease, rootfs, attributes) = {
            let mut state = self.inner.state();
            if let Some(lease) = state.leases.get(container) {
                if lease.image != image.0 {
                    let image = lease.image;
                    return Err(Error::SnapshotExists { container: container.to_owned(), image });
                }
                let lease = *lease;
                let found = self.inner.directories(&state, &lease, &directory)?;
                drop(state);
                make(&directory, &found.0, found.1)?;
                return Ok(found.0);
            }
            let lease = choose(&state, image, platform)?;
            let (rootfs, attributes) = self.inner.directories(&state, &lease, &directory)?;
            // From here on the image cannot go, even before the directory exists.
            state.leases.insert(container.to_owned(), lease);
            (lease, rootfs, attributes)
        };
        let made = create(&directory, &lease).and_then(|()| make(&directory, &rootfs, attributes));
        if let Err(error) = made {
            let _ = self.release(container);
            return Err(error);
        }
        Ok(rootfs)
    }

    /// The directories of a snapshot made earlier.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when there is none.
    pub fn rootfs(&self, container: &str) -> Result<RootFs, Error> {
        check_name(container)?;
        let directory = self.inner.layout.snapshots().join(container);
        let state = self.inner.state();
        let lease = state.leases.get(container).ok_or_else(|| Error::NoSnapshot { container: container.to_owned() })?;
        Ok(self.inner.directories(&state, lease, &directory)?.0)
    }

    /// Deletes the writable layer and ends the lease. Nothing there is fine.
    ///
    /// # Errors
    /// [`Error::Io`] when files cannot be removed.
    pub fn release(&self, container: &str) -> Result<(), Error> {
        check_name(container)?;
        let inner = &self.inner;
        let gone = inner.layout.discard(&inner.layout.snapshots().join(container))?;
        let orphan = {
            let mut state = inner.state();
            let lease = state.leases.remove(container);
            lease.is_some_and(|lease| state.images.get(&lease.image).is_some_and(|record| record.hidden))
        };
        if let Some(path) = gone {
            inner.sweeper.sweep(path);
        }
        // The last user of an image that was removed by force takes it along.
        if orphan {
            inner.drop_unused_hidden()?;
            inner.collect()?;
        }
        Ok(())
    }

    /// Every snapshot's name and image.
    ///
    /// # Errors
    /// None today; the list is kept in memory.
    pub fn leases(&self) -> Result<Vec<(String, ImageId)>, Error> {
        let state = self.inner.state();
        Ok(state.leases.iter().map(|(name, lease)| (name.clone(), ImageId(lease.image))).collect())
    }

    /// Bytes that the container wrote, and bytes of its whole root file system.
    /// Walks the writable layer.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or [`Error::Io`] when the layer cannot be read.
    pub fn container_size(&self, container: &str) -> Result<(u64, u64), Error> {
        let upper = self.rootfs(container)?.upper;
        let below: u64 = {
            let state = self.inner.state();
            let lease =
                state.leases.get(container).ok_or_else(|| Error::NoSnapshot { container: container.to_owned() })?;
            let variant = variant(&state, lease);
            variant.map_or(0, |variant| {
                let size =
                    |layer: &crate::state::LayerUse| state.layers.get(&layer.chain_id).map_or(0, |layer| layer.size);
                variant.layers.iter().map(size).sum()
            })
        };
        let written = tree_size(&upper)?;
        Ok((written, written + below))
    }
}

impl Inner {
    /// The directories a lease gives, topmost layer first, and the attributes of the new root.
    fn directories(&self, state: &State, lease: &Lease, directory: &Path) -> Result<(RootFs, RootAttributes), Error> {
        let variant = variant(state, lease).ok_or_else(|| Error::NotFound { name: lease.image.to_string() })?;
        let mut lower = Vec::with_capacity(variant.layers.len());
        let mut attributes = None;
        for layer in variant.layers.iter().rev() {
            let record =
                state.layers.get(&layer.chain_id).ok_or_else(|| Error::NotFound { name: lease.image.to_string() })?;
            lower.push(self.layout.layer_fs(&layer.chain_id));
            attributes.get_or_insert(record.root);
            if record.opaque {
                break;
            }
        }
        let attributes = attributes.unwrap_or(RootAttributes { mode: 0o755, uid: 0, gid: 0 });
        let rootfs = RootFs { lower, upper: directory.join("upper"), work: directory.join("work") };
        Ok((rootfs, attributes))
    }
}

fn variant<'a>(state: &'a State, lease: &Lease) -> Option<&'a crate::state::Variant> {
    let record = state.images.get(&lease.image)?;
    record.variants.iter().find(|variant| variant.manifest.digest == lease.manifest)
}

fn choose(state: &State, image: &ImageId, platform: Option<&Platform>) -> Result<Lease, Error> {
    let record = state
        .images
        .get(&image.0)
        .filter(|record| !record.hidden)
        .ok_or_else(|| Error::NotFound { name: image.to_string() })?;
    let variant = crate::store::choose_variant(record, platform)?;
    Ok(Lease { image: image.0, manifest: variant.manifest.digest })
}

fn check_name(name: &str) -> Result<(), Error> {
    let valid = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 255
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if valid { Ok(()) } else { Err(Error::SnapshotName { name: name.to_owned() }) }
}

fn create(directory: &Path, lease: &Lease) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).create(directory);
    let made = made.and_then(|()| symlink(write_lease(lease), directory.join("image")));
    made.map_err(|source| Error::io("create", directory, source))
}

/// Makes `upper` and `work` where they are missing.
fn make(directory: &Path, rootfs: &RootFs, attributes: RootAttributes) -> Result<(), Error> {
    let failed = |source| Error::io("create", directory, source);
    let fresh = |path: &PathBuf, mode: u32| match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    };
    fresh(&rootfs.work, 0o700)?;
    if fresh(&rootfs.upper, 0o755)? {
        // The upper directory lends its mode and owner to `/` of the container.
        if (attributes.uid, attributes.gid) != (0, 0) {
            chown(&rootfs.upper, Some(attributes.uid), Some(attributes.gid)).map_err(failed)?;
        }
        // The mode given to mkdir is subject to the umask; 022 leaves 0755 alone.
        let mode = fs::symlink_metadata(&rootfs.upper).map_err(failed)?.mode() & 0o7777;
        if mode != attributes.mode {
            let wanted = fs::Permissions::from_mode(attributes.mode);
            fs::set_permissions(&rootfs.upper, wanted).map_err(failed)?;
        }
        // Many programs look for this file to find out that they run in a container.
        let marker = rootfs.upper.join(".dockerenv");
        fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(marker).map_err(failed)?;
    }
    Ok(())
}

/// Reads the leases back, removing directories that never became one. A lease on an image that
/// is not known any more is left alone: it holds what somebody wrote.
pub(crate) fn recover(snapshots: &Path, state: &mut State) -> Result<(), Error> {
    for path in crate::layout::list(snapshots)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Ok(text) = fs::read_link(path.join("image")) else {
            delete(&path)?;
            continue;
        };
        match find_lease(text.to_str().unwrap_or_default(), state) {
            Some(lease) if check_name(&name).is_ok() => {
                state.leases.insert(name, lease);
            }
            _ => tracing::warn!(snapshot = %path.display(), "left alone: its image is not known"),
        }
    }
    Ok(())
}

/// Characters of an image id in a lease: 90 bits, far more than tell images apart.
const ID_LENGTH: usize = 15;

/// The manifest's digest in full and the start of the image's, which is mostly the same: 59
/// bytes of base64. One more and ext4 would spend a block on the link instead of the inode.
fn write_lease(lease: &Lease) -> String {
    let encode = |digest: &Digest| URL_SAFE_NO_PAD.encode(digest.as_bytes());
    format!("{}.{}", encode(&lease.manifest), &encode(&lease.image)[..ID_LENGTH])
}

/// Among the images of the store, as what a lease says is only the start of an id.
fn find_lease(text: &str, state: &State) -> Option<Lease> {
    state.images.values().find_map(|record| {
        record.variants.iter().find_map(|variant| {
            let lease = Lease { image: record.target.digest, manifest: variant.manifest.digest };
            (write_lease(&lease) == text).then_some(lease)
        })
    })
}

/// Sums the sizes of files. By descriptors: the container may swap directories for links
/// while this walks.
fn tree_size(directory: &Path) -> Result<u64, Error> {
    let failed = |source: rustix::io::Errno| Error::io("read", directory, source);
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut total = 0;
    let mut open = vec![openat(CWD, directory, flags, Mode::empty()).and_then(Dir::new).map_err(failed)?];
    while let Some(current) = open.last_mut() {
        let entry = match current.next() {
            None => {
                open.pop();
                continue;
            }
            Some(entry) => entry.map_err(failed)?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let parent = current.fd().map_err(failed)?;
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => total += u64::try_from(stat.st_size).unwrap_or(0),
                FileType::Directory => match openat(parent, name, flags, Mode::empty()) {
                    Ok(child) => open.push(Dir::new(child).map_err(failed)?),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(failed(error)),
                },
                _ => {}
            },
            // The container may be deleting.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(total)
}
