//! Images out of containers and out of plain archives.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;

use budu_spec::image::{History, ImageConfig, Platform, RunConfig};
use budu_spec::{Digest, Reference};
use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};

use crate::compose::LayerFile;
use crate::error::Error;
use crate::image::Image;
use crate::layer::archive::{Archive, Kind};
use crate::layer::decompress::{Decompress, buffered};
use crate::layer::differ::{ChangeKind, Found, changes};
use crate::layer::tree::look;
use crate::layer::write::{Writer, blank};
use crate::state::LayerUse;
use crate::store::Store;
use crate::transfer::{attributes, describe, reopen};

/// What a new image shall be.
#[derive(Debug, Clone, Default)]
pub struct CommitWish {
    /// Its name, if it shall have one.
    pub name: Option<Reference>,
    /// How its containers start.
    pub config: RunConfig,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// What made it: the container's command.
    pub created_by: String,
    /// When, RFC 3339.
    pub created: String,
}

impl Store {
    /// Makes an image of a container: its image's layers and one with what it changed, unless it changed nothing.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`]; [`Error::TooDeep`] for a layer too many; [`Error::Io`] and [`Error::NoSpace`].
    pub fn commit(&self, container: &str, wish: CommitWish) -> Result<Image, Error> {
        let rootfs = self.rootfs(container)?;
        let (parent, layers, mut config) = self.base(container)?;
        let below: Vec<&std::path::Path> = rootfs.lower.iter().map(AsRef::as_ref).collect();
        let mut diff = Diff { writer: Writer::new(LayerFile::create(self)?), links: Default::default(), any: false };
        changes(&rootfs.upper, &below, |found| diff.tell(found))
            .map_err(|source| Error::io("read", &rootfs.upper, source))?;
        let any = diff.any;
        let file = diff.writer.finish().map_err(|source| Error::io("write", &rootfs.upper, source))?;
        let layer = if any { Some(file.finish()?) } else { None };
        config.parent = parent.to_string();
        config.created = Some(wish.created.clone());
        config.author.clone_from(&wish.author);
        config.comment.clone_from(&wish.comment);
        config.config = wish.config;
        config.history.push(History {
            created: Some(wish.created),
            author: wish.author,
            created_by: wish.created_by,
            comment: wish.comment,
            empty_layer: !any,
        });
        self.compose(&layers, layer, config, wish.name)
    }

    /// Image, layers and configuration that a container was made from.
    fn base(&self, container: &str) -> Result<(Digest, Vec<LayerUse>, ImageConfig), Error> {
        let state = self.inner.state();
        let missing = || Error::NoSnapshot { container: container.to_owned() };
        let lease = state.leases.get(container).ok_or_else(missing)?;
        let record = state.images.get(&lease.image).ok_or_else(missing)?;
        let variant = record.variants.iter().find(|variant| variant.manifest.digest == lease.manifest);
        let variant = variant.ok_or_else(missing)?;
        if variant.layers.len() >= crate::pull::MAX_LAYERS {
            return Err(Error::TooDeep { layers: variant.layers.len() + 1, limit: crate::pull::MAX_LAYERS });
        }
        let config = state.configs.get(&variant.config.digest).map(|config| ImageConfig::clone(config));
        Ok((lease.image, variant.layers.clone(), config.unwrap_or_default()))
    }

    /// Makes an image of one layer from an archive, compressed or not.
    ///
    /// # Errors
    /// [`Error::Layer`] when it is no archive; [`Error::Io`] and [`Error::NoSpace`].
    pub fn import(&self, input: impl BufRead, platform: &Platform, wish: CommitWish) -> Result<Image, Error> {
        let mut file = LayerFile::create(self)?;
        let received = |source| Error::Archive { detail: format!("the archive cannot be read: {source}") };
        let mut plain = buffered(Decompress::new(input).map_err(received)?);
        // Checked here, where the message can be about what was sent.
        if !plain.fill_buf().map_err(received)?.is_empty() {
            let mut first = plain.fill_buf().map_err(received)?;
            let header = Archive::new(&mut first).next();
            if let Err(fault @ crate::layer::Fault::Malformed { .. }) = header
                && !fault.to_string().contains("ends in the middle")
            {
                return Err(Error::Archive { detail: format!("no archive: {fault}") });
            }
        }
        let mut buffer = vec![0u8; 128 << 10];
        loop {
            let count = match io::Read::read(&mut plain, &mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(received(error)),
            };
            file.write_all(&buffer[..count]).map_err(|source| Error::io("write", file.path(), source))?;
        }
        let config = ImageConfig {
            created: Some(wish.created.clone()),
            author: wish.author,
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config: wish.config,
            history: vec![History {
                created: Some(wish.created),
                comment: wish.comment.clone(),
                created_by: wish.created_by,
                ..History::default()
            }],
            comment: wish.comment,
            ..ImageConfig::default()
        };
        self.compose(&[], Some(file.finish()?), config, wish.name)
    }
}

/// A layer of what changed.
struct Diff {
    writer: Writer<LayerFile>,
    links: std::collections::HashMap<(u64, u64), Vec<u8>>,
    any: bool,
}

impl Diff {
    fn tell(&mut self, found: &Found<'_>) -> io::Result<()> {
        self.any = true;
        if found.kind == ChangeKind::Deleted {
            let parent = found.path.strip_suffix(found.name).unwrap_or_default();
            return self.writer.entry(&blank(Kind::File, &[parent, b".wh.", found.name].concat(), 0o600));
        }
        let Some(stat) = look(found.parent, found.name)? else { return Ok(()) };
        let path = if found.path.is_empty() { b"." } else { found.path };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        let mut entry = describe(&stat, kind, path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match kind {
            Kind::Directory => {
                entry.path.push(b'/');
                let open = openat(found.parent, found.name, flags | OFlags::DIRECTORY, Mode::empty())?;
                entry.xattrs = attributes(reopen(open.as_fd())?.as_fd())?;
                self.writer.entry(&entry)
            }
            Kind::Symlink => {
                entry.link = readlinkat(found.parent, found.name, Vec::new())?.into_bytes();
                self.writer.entry(&entry)
            }
            Kind::File => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                        let mut link = describe(&stat, Kind::HardLink, path);
                        link.link.clone_from(first);
                        return self.writer.entry(&link);
                    }
                    self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
                }
                let held = openat(found.parent, found.name, flags, Mode::empty())?;
                if FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) != FileType::RegularFile {
                    return Ok(());
                }
                let file = reopen(held.as_fd())?;
                entry.size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
                entry.xattrs = attributes(file.as_fd())?;
                self.writer.entry(&entry)?;
                self.writer.data(std::fs::File::from(file), entry.size)
            }
            _ => self.writer.entry(&entry),
        }
    }
}
