//! From a stream of compressed bytes to a stored blob and an unpacked layer, in one pass: every
//! byte is hashed, written and unpacked as it comes, and nothing has a name before all of it was
//! verified.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use budu_spec::Digest;
use bytes::{Buf, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::Receiver;

use crate::error::Error;
use crate::layer::Fault;
use crate::layer::decompress::{Decompress, buffered};
use crate::layer::inherit::finish;
use crate::layer::unpack::{Unpacked, unpack};
use crate::layout::Temporary;
use crate::state::{Change, LayerRecord, LayerUse, RootAttributes};
use crate::store::Inner;

/// An unpacked layer that nobody can see yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    temporary: Temporary,
    unpacked: Unpacked,
}

/// Receives a blob, stores it, and unpacks it unless `unpack` is false. Blocks.
pub(crate) fn receive(
    inner: &Inner,
    layer: &LayerUse,
    receiver: Receiver<Bytes>,
    unpack: bool,
) -> Result<Option<Staged>, Error> {
    let temporary = inner.layout.temporary()?;
    let path = temporary.path().join("blob");
    let file = File::create_new(&path).map_err(|source| Error::io("create", &path, source))?;
    let mut tee = Tee {
        receiver,
        current: Bytes::new(),
        file,
        path: path.clone(),
        hasher: Sha256::new(),
        received: 0,
        size: layer.blob.size,
        failure: None,
    };
    let unpacked = if unpack { Some(unpack_verified(&mut tee, layer, &temporary)) } else { None };
    // A write error or a refused entry is final. Bytes that make no sense may be explained by
    // being the wrong bytes, which is the better thing to say.
    match unpacked {
        Some(Err(Failed::Final(error))) => return Err(tee.failure.take().unwrap_or(error)),
        Some(Err(Failed::Senseless(error))) => {
            tee.finish(layer)?;
            return Err(error);
        }
        Some(Ok(_)) | None => tee.finish(layer)?,
    }
    inner.adopt_blob(&path, &layer.blob.digest)?;
    match unpacked {
        Some(Ok(unpacked)) => Ok(Some(Staged { temporary, unpacked })),
        _ => Ok(None),
    }
}

/// Unpacks a blob that is in the store. Blocks.
pub(crate) fn unpack_stored(inner: &Inner, layer: &LayerUse) -> Result<Staged, Error> {
    let temporary = inner.layout.temporary()?;
    let path = inner.layout.blob(&layer.blob.digest);
    let file = File::open(&path).map_err(|source| Error::io("open", &path, source))?;
    match unpack_verified(&mut buffered(file), layer, &temporary) {
        Ok(unpacked) => Ok(Staged { temporary, unpacked }),
        Err(Failed::Final(error) | Failed::Senseless(error)) => Err(error),
    }
}

enum Failed {
    Final(Error),
    Senseless(Error),
}

fn unpack_verified<R: BufRead>(input: &mut R, layer: &LayerUse, temporary: &Temporary) -> Result<Unpacked, Failed> {
    let digest = layer.blob.digest;
    let directory = temporary.path().join("layer/fs");
    let failed = |fault: Fault| match fault {
        Fault::Write { path, source } => {
            let place = directory.join(path.trim_start_matches('/'));
            match Error::io("write", &place, source) {
                full @ Error::NoSpace { .. } => Failed::Final(full),
                Error::Io { source, .. } => {
                    let detail = Fault::Write { path, source }.to_string();
                    Failed::Final(Error::Layer { digest, detail })
                }
                other => Failed::Final(other),
            }
        }
        Fault::Refused { .. } | Fault::Overwrite { .. } => {
            Failed::Final(Error::Layer { digest, detail: fault.to_string() })
        }
        Fault::Malformed { .. } | Fault::Read { .. } => {
            Failed::Senseless(Error::Layer { digest, detail: fault.to_string() })
        }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)
        .map_err(|source| Failed::Final(Error::io("create", &directory, source)))?;
    let plain = Decompress::new(input).map_err(|source| failed(Fault::Read { source }))?;
    let hashing = Hashing { input: plain, hasher: Sha256::new() };
    let (unpacked, mut rest) = unpack(buffered(hashing), &directory).map_err(failed)?;
    // Archives are padded behind their end; the padding is part of what was signed for.
    loop {
        let padding = rest.fill_buf().map_err(|source| failed(Fault::Read { source }))?.len();
        if padding == 0 {
            break;
        }
        rest.consume(padding);
    }
    let actual = Digest::from_bytes(rest.into_inner().hasher.finalize().into());
    if actual != layer.diff_id {
        let expected = layer.diff_id;
        return Err(Failed::Senseless(Error::DiffIdMismatch { digest, expected, actual }));
    }
    Ok(unpacked)
}

/// Gives out the received bytes, having hashed and stored them.
struct Tee {
    receiver: Receiver<Bytes>,
    current: Bytes,
    file: File,
    path: PathBuf,
    hasher: Sha256,
    received: u64,
    size: u64,
    /// The real error behind an [`io::Error`] that passed through decoders.
    failure: Option<Error>,
}

impl Tee {
    /// Takes what is left and verifies the whole.
    fn finish(&mut self, layer: &LayerUse) -> Result<(), Error> {
        loop {
            match self.fill_buf().map(<[u8]>::len) {
                Ok(0) => break,
                Ok(count) => self.consume(count),
                Err(_) => {
                    let canceled = Error::Canceled { what: format!("layer {}", layer.blob.digest) };
                    return Err(self.failure.take().unwrap_or(canceled));
                }
            }
        }
        let actual = Digest::from_bytes(self.hasher.finalize_reset().into());
        if actual != layer.blob.digest {
            return Err(Error::DigestMismatch { what: "layer", digest: layer.blob.digest, actual });
        }
        Ok(())
    }
}

impl BufRead for Tee {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => {
                    self.hasher.update(&bytes);
                    if let Err(source) = self.file.write_all(&bytes) {
                        let kind = source.kind();
                        self.failure = Some(Error::io("write", &self.path, source));
                        return Err(kind.into());
                    }
                    self.received += bytes.len() as u64;
                    self.current = bytes;
                }
                None if self.received == self.size => break,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    input: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl Inner {
    /// Gives a verified file its place among the blobs.
    pub(crate) fn adopt_blob(&self, path: &Path, digest: &Digest) -> Result<(), Error> {
        let place = self.layout.blob(digest);
        // Under the lock, so that no collection comes between the file and the knowledge of it.
        let mut state = self.state();
        fs::rename(path, &place).map_err(|source| Error::io("create", &place, source))?;
        state.blobs.insert(*digest);
        Ok(())
    }

    /// Stores a small blob; nothing happens when it is there.
    pub(crate) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        if self.state().blobs.contains(digest) {
            return Ok(());
        }
        let temporary = self.layout.temporary()?;
        let path = temporary.path().join("blob");
        fs::write(&path, bytes).map_err(|source| Error::io("write", &path, source))?;
        self.adopt_blob(&path, digest)
    }

    /// Reads a small blob back; `None` when it is not in the store or not what it should be.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        if !self.state().blobs.contains(digest) {
            return None;
        }
        let bytes = fs::read(self.layout.blob(digest)).ok()?;
        (crate::document::digest_of(&bytes) == *digest).then_some(bytes)
    }

    /// Completes a layer from those below it (base first) and gives it its place. Blocks.
    pub(crate) fn complete(&self, staged: Staged, layer: &LayerUse, below: &[Digest]) -> Result<(), Error> {
        let Staged { temporary, unpacked } = staged;
        let whole = temporary.path().join("layer");
        let directory = whole.join("fs");
        let lower: Vec<PathBuf> = below.iter().rev().map(|chain| self.layout.layer_fs(chain)).collect();
        let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        let copied = finish(&directory, &unpacked.missing, &lower).map_err(|fault| match fault {
            Fault::Write { path, source } if source.kind() == io::ErrorKind::StorageFull => {
                Error::NoSpace { path: directory.join(path.trim_start_matches('/')) }
            }
            other => Error::Layer { digest: layer.blob.digest, detail: other.to_string() },
        })?;
        let metadata = fs::symlink_metadata(&directory).map_err(|source| Error::io("read", &directory, source))?;
        let record = LayerRecord {
            chain_id: layer.chain_id,
            size: unpacked.size + copied,
            opaque: unpacked.opaque,
            root: RootAttributes { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() },
        };
        let place = self.layout.layer(&layer.chain_id);
        let mut state = self.state();
        if state.layers.contains_key(&layer.chain_id) {
            // Another pull was first; ours is dropped.
            return Ok(());
        }
        fs::rename(&whole, &place).map_err(|source| Error::io("create", &place, source))?;
        state.apply(&[Change::PutLayer(record)]);
        Ok(())
    }
}
