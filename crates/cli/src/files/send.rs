//! From files to an archive.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Writes what is at `path`, called `name`; sockets are left out.
pub(crate) fn send(path: &Path, name: &str, output: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(output);
    let mut links = HashMap::new();
    let mut left = vec![(path.to_owned(), PathBuf::from(name))];
    while let Some((path, name)) = left.pop() {
        let state = fs::symlink_metadata(&path)?;
        if state.is_dir() {
            let mut below: Vec<PathBuf> =
                fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            below.sort_unstable_by(|a, b| b.cmp(a));
            let names = below.iter().map(|file| name.join(file.file_name().unwrap_or_default()));
            let pairs: Vec<(PathBuf, PathBuf)> = below.iter().cloned().zip(names).collect();
            left.extend(pairs);
        }
        entry(&mut builder, &mut links, &path, &name, &state)?;
    }
    builder.into_inner()?.flush()
}

fn entry(
    builder: &mut Builder<impl Write>,
    links: &mut HashMap<(u64, u64), PathBuf>,
    path: &Path,
    name: &Path,
    state: &fs::Metadata,
) -> io::Result<()> {
    let kind = state.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_mode(state.mode() & 0o7777);
    header.set_uid(state.uid().into());
    header.set_gid(state.gid().into());
    header.set_mtime(u64::try_from(state.mtime()).unwrap_or(0));
    header.set_size(0);
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return builder.append_data(&mut header, name.join(""), io::empty());
    }
    if state.nlink() > 1 {
        if let Some(first) = links.get(&(state.dev(), state.ino())) {
            header.set_entry_type(EntryType::Link);
            return builder.append_link(&mut header, name, first);
        }
        links.insert((state.dev(), state.ino()), name.to_owned());
    }
    if kind.is_file() {
        let file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        // Whatever happens to the file meanwhile, the archive holds as much as it says.
        return builder.append_data(&mut header, name, io::Read::take(io::Read::chain(file, io::repeat(0)), size));
    }
    header.set_entry_type(match () {
        () if kind.is_fifo() => EntryType::Fifo,
        () if kind.is_block_device() => EntryType::Block,
        () => EntryType::Char,
    });
    header.set_device_major(rustix::fs::major(state.rdev()))?;
    header.set_device_minor(rustix::fs::minor(state.rdev()))?;
    builder.append_data(&mut header, name, io::empty())
}
