//! A reader of tar archives: POSIX ustar and pax, GNU and old V7.
//!
//! Names are bytes. Whatever the archive says, no more than [`MAX_EXTENSION`] bytes of one
//! header and [`MAX_REGIONS`] regions of one sparse file are held in memory.

use std::io::{self, BufRead};

use super::Fault;
use super::extension::{self, Extension, MAX_EXTENSION};

const BLOCK: usize = 512;

/// Most data regions of one sparse file.
pub(crate) const MAX_REGIONS: usize = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, without its data.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Of the file, holes included.
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offsets and lengths of the data of a sparse file.
    pub(crate) regions: Option<Vec<(u64, u64)>>,
}

/// An archive being read from front to back.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes of the current entry's data not read yet, and of the padding after it.
    data: u64,
    padding: u64,
}

/// Extra headers seen before the entry they describe.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    extension: Option<Extension>,
}

impl Pending {
    fn any(&self) -> bool {
        self.path.is_some() || self.link.is_some() || self.extension.is_some()
    }
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Archive<R> {
        Archive { input, data: 0, padding: 0 }
    }

    /// The input, wherever reading has come to.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// Goes to the next entry, past what is left of the current one's data.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let mut pending = Pending::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if pending.any() {
                    return Err(Fault::malformed("it ends after a header for an entry that is missing"));
                }
                return Ok(None);
            };
            let stored = header.size()?;
            let twice = || Fault::malformed("two headers of one kind for one entry");
            match header.bytes[156] {
                b'L' => {
                    let name = self.long_name(stored)?;
                    pending.path.replace(name).map_or(Ok(()), |_| Err(twice()))?;
                }
                b'K' => {
                    let name = self.long_name(stored)?;
                    pending.link.replace(name).map_or(Ok(()), |_| Err(twice()))?;
                }
                b'x' => {
                    let records = extension::parse(&self.extra(stored)?)?;
                    pending.extension.replace(records).map_or(Ok(()), |_| Err(twice()))?;
                }
                b'g' => {
                    // Global records are not applied, as in Docker; those that would move the
                    // place of the next header would make us disagree with other readers.
                    let global = extension::parse(&self.extra(stored)?)?;
                    if global.size.is_some() || global.path.is_some() || global.link.is_some() {
                        return Err(Fault::malformed("a global header sets a name or a size"));
                    }
                }
                _ => return self.entry(&header, stored, pending).map(Some),
            }
        }
    }

    /// Reads from the current entry's data; 0 at its end.
    fn some_data(&mut self) -> Result<&[u8], Fault> {
        let chunk = self.input.fill_buf().map_err(|source| Fault::Read { source })?;
        if chunk.is_empty() && self.data > 0 {
            return Err(truncated());
        }
        let most = usize::try_from(self.data).unwrap_or(usize::MAX).min(chunk.len());
        Ok(&chunk[..most])
    }

    /// Gives the next `length` bytes of data to `sink`, piece by piece, without copying.
    pub(crate) fn copy(
        &mut self,
        mut length: u64,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
        path: &[u8],
    ) -> Result<(), Fault> {
        while length > 0 {
            let chunk = self.some_data()?;
            if chunk.is_empty() {
                return Err(Fault::malformed("a file has less data than its map says"));
            }
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(chunk.len());
            sink(&chunk[..most]).map_err(|source| Fault::write(path, source))?;
            self.input.consume(most);
            self.data -= most as u64;
            length -= most as u64;
        }
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Fault> {
        let mut left = self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        while left > 0 {
            let chunk = self.input.fill_buf().map_err(|source| Fault::Read { source })?.len();
            if chunk == 0 {
                return Err(truncated());
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk);
            self.input.consume(most);
            left -= most as u64;
        }
        Ok(())
    }

    /// Reads a block; false when the input ends before it.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Fault> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Fault::Read { source }),
            }
        }
        Ok(true)
    }

    /// The next header with a good checksum; `None` at the end of the archive, which is two
    /// blocks of zeros or the end of the input.
    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let mut bytes = [0; BLOCK];
        if !self.block(&mut bytes)? {
            return Ok(None);
        }
        if bytes == [0; BLOCK] {
            let second = self.block(&mut bytes)?;
            if second && bytes != [0; BLOCK] {
                return Err(Fault::malformed("a single block of zeros is not its end"));
            }
            return Ok(None);
        }
        let header = Header { bytes };
        header.check()?;
        Ok(Some(header))
    }

    /// The data of an extra header.
    fn extra(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > MAX_EXTENSION {
            return Err(Fault::malformed(format!("a header of {size} bytes is too long")));
        }
        self.begin_data(size)?;
        let mut bytes = Vec::new();
        self.copy(
            size,
            |chunk| {
                bytes.extend_from_slice(chunk);
                Ok(())
            },
            b"",
        )?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        let name = self.extra(size)?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Ok(name[..end].to_vec())
    }

    fn begin_data(&mut self, size: u64) -> Result<(), Fault> {
        let block = BLOCK as u64;
        if size > i64::MAX as u64 {
            return Err(Fault::malformed("an entry is larger than any file can be"));
        }
        self.data = size;
        self.padding = (block - size % block) % block;
        Ok(())
    }

    fn entry(&mut self, header: &Header, stored: u64, pending: Pending) -> Result<Entry, Fault> {
        let extension = pending.extension.unwrap_or_default();
        let path = extension.path.or(pending.path).unwrap_or_else(|| header.path());
        let link = extension.link.or(pending.link).unwrap_or_else(|| header.text(157, 100).to_vec());
        let size = extension.size.unwrap_or(stored);
        let kind = header.kind(&path)?;
        // Entries of other kinds have no data, whatever size they state.
        self.begin_data(if kind == Kind::File { size } else { 0 })?;
        let id = |wide: Option<u64>, at: usize, length: usize| match wide {
            Some(id) => u32::try_from(id).map_err(|_| Fault::malformed("an owner does not fit")),
            None => header.small(at, length),
        };
        let mut entry = Entry {
            mode: header.small(100, 8)? & 0o7777,
            uid: id(extension.uid, 108, 8)?,
            gid: id(extension.gid, 116, 8)?,
            mtime: match extension.mtime {
                Some(time) => time,
                None => (header.number(136, 12)?, 0),
            },
            size: self.data,
            device: match kind {
                Kind::CharDevice | Kind::BlockDevice => (header.small(329, 8)?, header.small(337, 8)?),
                _ => (0, 0),
            },
            xattrs: extension.xattrs,
            regions: None,
            path,
            link,
            kind,
        };
        self.sparse(header, extension.sparse, &mut entry)?;
        Ok(entry)
    }

    /// Fills in the regions of a sparse file, in any of the forms GNU tar writes but the oldest
    /// pax one.
    fn sparse(&mut self, header: &Header, sparse: extension::Sparse, entry: &mut Entry) -> Result<(), Fault> {
        if sparse.unsupported {
            return Err(Fault::refused(&entry.path, "sparse file in an unsupported format"));
        }
        if let Some(name) = sparse.name {
            entry.path = name;
        }
        let (regions, size) = if header.bytes[156] == b'S' {
            self.old_sparse(header)?
        } else if sparse.in_data {
            (self.map_in_data()?, sparse.real_size.unwrap_or(entry.size))
        } else if let Some(map) = sparse.map {
            (extension::sparse_map(&map, MAX_REGIONS)?, sparse.real_size.unwrap_or(entry.size))
        } else {
            return Ok(());
        };
        let mut end = 0;
        let mut total = 0u64;
        for &(offset, length) in &regions {
            let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
            end = next.ok_or_else(|| Fault::malformed("the map of a sparse file is not in order"))?;
            total += length;
        }
        if total != self.data {
            return Err(Fault::malformed("a sparse file's map and its data differ"));
        }
        if i64::try_from(size).is_err() {
            return Err(Fault::malformed("an entry is larger than any file can be"));
        }
        entry.size = size;
        entry.regions = Some(regions);
        Ok(())
    }

    /// The form with four regions in the header and more in blocks behind it.
    fn old_sparse(&mut self, header: &Header) -> Result<(Vec<(u64, u64)>, u64), Fault> {
        let size = header.positive(483, 12)?;
        let mut regions = Vec::new();
        push_regions(&header.bytes[386..482], &mut regions)?;
        let mut more = header.bytes[482] != 0;
        let mut bytes = [0; BLOCK];
        while more {
            if !self.block(&mut bytes)? {
                return Err(truncated());
            }
            push_regions(&bytes[..504], &mut regions)?;
            more = bytes[504] != 0;
        }
        Ok((regions, size))
    }

    /// The form with the map in decimal lines before the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, Fault> {
        let mut read = 0u64;
        let count = self.decimal_line(&mut read)?;
        if count > MAX_REGIONS as u64 {
            return Err(Fault::malformed("a sparse file has too many regions"));
        }
        let mut regions = Vec::new();
        for _ in 0..count {
            regions.push((self.decimal_line(&mut read)?, self.decimal_line(&mut read)?));
        }
        let block = BLOCK as u64;
        let padding = (block - read % block) % block;
        self.copy(padding, |_| Ok(()), b"")?;
        Ok(regions)
    }

    fn decimal_line(&mut self, read: &mut u64) -> Result<u64, Fault> {
        let mut number = 0u64;
        let mut digits = 0;
        loop {
            let Some(&byte) = self.some_data()?.first() else {
                return Err(Fault::malformed("the map of a sparse file is cut off"));
            };
            self.input.consume(1);
            self.data -= 1;
            *read += 1;
            match byte {
                b'\n' if digits > 0 => return Ok(number),
                b'0'..=b'9' if digits < 19 => {
                    number = number * 10 + u64::from(byte - b'0');
                    digits += 1;
                }
                _ => return Err(Fault::malformed("the map of a sparse file does not parse")),
            }
        }
    }
}

fn push_regions(bytes: &[u8], regions: &mut Vec<(u64, u64)>) -> Result<(), Fault> {
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        if regions.len() == MAX_REGIONS {
            return Err(Fault::malformed("a sparse file has too many regions"));
        }
        let number = |bytes: &[u8]| u64::try_from(field(bytes)?).map_err(|_| Fault::malformed("a negative number"));
        regions.push((number(&pair[..12])?, number(&pair[12..])?));
    }
    Ok(())
}

fn truncated() -> Fault {
    Fault::malformed("it ends in the middle of an entry")
}

struct Header {
    bytes: [u8; BLOCK],
}

impl Header {
    fn check(&self) -> Result<(), Fault> {
        let stated = self.number(148, 8)?;
        let others = || self.bytes[..148].iter().chain(&self.bytes[156..]);
        let spaces = 8 * i64::from(b' ');
        let unsigned: i64 = others().map(|&byte| i64::from(byte)).sum::<i64>() + spaces;
        // Some old writers summed signed bytes.
        let signed: i64 = others().map(|&byte| i64::from(byte.cast_signed())).sum::<i64>() + spaces;
        if stated == unsigned || stated == signed {
            Ok(())
        } else {
            Err(Fault::malformed("the checksum of a header is wrong"))
        }
    }

    fn text(&self, at: usize, length: usize) -> &[u8] {
        let field = &self.bytes[at..at + length];
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(length);
        &field[..end]
    }

    fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        // GNU's magic is `ustar  `; its headers have other things where the prefix would be.
        let prefix = if &self.bytes[257..263] == b"ustar\0" { self.text(345, 155) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    fn kind(&self, path: &[u8]) -> Result<Kind, Fault> {
        Ok(match self.bytes[156] {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let kind = char::from(other).escape_default();
                return Err(Fault::refused(path, format!("unknown kind of entry '{kind}'")));
            }
        })
    }

    fn number(&self, at: usize, length: usize) -> Result<i64, Fault> {
        field(&self.bytes[at..at + length])
    }

    fn positive(&self, at: usize, length: usize) -> Result<u64, Fault> {
        u64::try_from(self.number(at, length)?).map_err(|_| Fault::malformed("a negative number in a header"))
    }

    fn size(&self) -> Result<u64, Fault> {
        self.positive(124, 12)
    }

    fn small(&self, at: usize, length: usize) -> Result<u32, Fault> {
        u32::try_from(self.number(at, length)?).map_err(|_| Fault::malformed("a number in a header does not fit"))
    }
}

/// Octal digits between blanks, or GNU's big-endian binary form, marked by the highest bit.
fn field(bytes: &[u8]) -> Result<i64, Fault> {
    let malformed = || Fault::malformed("a number in a header does not parse");
    if bytes[0] & 0x80 != 0 {
        let negative = bytes[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, &byte) in bytes.iter().enumerate() {
            let byte = if index == 0 && !negative { byte & 0x7f } else { byte };
            value = value << 8 | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| malformed());
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(byte - b'0')).ok_or_else(malformed),
        _ => Err(malformed()),
    })
}
