//! A writer of tar archives: POSIX ustar, with a pax header where ustar has no room.

use std::io::{self, Read, Write};

use super::archive::{Entry, Kind};

const BLOCK: usize = 512;

/// Largest number of 11 octal digits.
const MAX_SIZE: u64 = 0o777_7777_7777;
/// Largest number of 7 octal digits.
const MAX_ID: u32 = 0o777_7777;

/// An archive being written from front to back.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(output: W) -> Writer<W> {
        Writer { output }
    }

    /// Writes an entry's headers. [`Writer::data`] must follow for a file that has data, with the size stated here.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            let name = [b"PaxHeaders.0/", last(&entry.path)].concat();
            self.output.write_all(&header(&name, b"", b'x', 0o644, (0, 0), records.len() as u64, 0, (0, 0)))?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        let owner = (entry.uid, entry.gid);
        let bytes = header(&entry.path, &entry.link, kind, entry.mode, owner, size, entry.mtime.0, entry.device);
        self.output.write_all(&bytes)
    }

    /// Writes exactly `size` bytes of data: a file that shrinks meanwhile is filled up with zeros, what it grows by is
    /// left out.
    pub(crate) fn data(&mut self, mut input: impl Read, size: u64) -> io::Result<()> {
        let mut buffer = vec![0u8; 64 << 10];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match input.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    self.output.write_all(&buffer[..count])?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        io::copy(&mut io::repeat(0).take(left), &mut self.output)?;
        self.pad(size)
    }

    /// Writes the end marker.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (size % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.output.write_all(&[0; BLOCK][rest..]) }
    }
}

/// An entry of this kind and name with nothing said about it.
pub(crate) fn blank(kind: Kind, path: &[u8], mode: u32) -> Entry {
    Entry {
        path: path.to_vec(),
        link: Vec::new(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size: 0,
        device: (0, 0),
        xattrs: Vec::new(),
        regions: None,
    }
}

fn last(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    &name[..name.len().min(80)]
}

/// What does not fit into the ordinary header, as pax records.
fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut put = |key: &[u8], value: &[u8]| {
        // The length counts its own digits.
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while body + length.to_string().len() != length {
            length = body + length.to_string().len();
        }
        records.extend_from_slice(length.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(key);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    let plain = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    if !plain(&entry.path) {
        put(b"path", &entry.path);
    }
    if !plain(&entry.link) {
        put(b"linkpath", &entry.link);
    }
    if entry.size > MAX_SIZE {
        put(b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (&b"gid"[..], entry.gid)] {
        if id > MAX_ID {
            put(key, id.to_string().as_bytes());
        }
    }
    if u64::try_from(entry.mtime.0).is_ok_and(|seconds| seconds <= MAX_SIZE) {
        // Whole seconds, as everybody else writes them: archives of equal files stay equal.
    } else {
        put(b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        put(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

#[expect(clippy::too_many_arguments, reason = "the fields of a header, each once")]
fn header(
    path: &[u8],
    link: &[u8],
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: i64,
    device: (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, text: &[u8], most: usize| {
        let length = text.len().min(most);
        block[at..at + length].copy_from_slice(&text[..length]);
    };
    let fits = |number: u64, most: u64| if number > most { 0 } else { number };
    put(0, path, 100);
    put(100, format!("{:07o}", mode & 0o7777).as_bytes(), 8);
    put(108, format!("{:07o}", fits(owner.0.into(), MAX_ID.into())).as_bytes(), 8);
    put(116, format!("{:07o}", fits(owner.1.into(), MAX_ID.into())).as_bytes(), 8);
    put(124, format!("{:011o}", fits(size, MAX_SIZE)).as_bytes(), 12);
    put(136, format!("{:011o}", fits(u64::try_from(mtime).unwrap_or(0), MAX_SIZE)).as_bytes(), 12);
    put(148, b"        ", 8);
    put(157, link, 100);
    put(257, b"ustar\x0000", 8);
    put(329, format!("{:07o}", fits(device.0.into(), MAX_ID.into())).as_bytes(), 8);
    put(337, format!("{:07o}", fits(device.1.into(), MAX_ID.into())).as_bytes(), 8);
    block[156] = kind;
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::archive::Archive;

    /// What is written is read back the same, however odd it is.
    #[test]
    fn the_reader_reads_what_the_writer_writes() {
        let long = [&b"directory/"[..]; 40].concat();
        let mut odd = blank(Kind::File, &[&long[..], "ü\n".as_bytes()].concat(), 0o4755);
        (odd.uid, odd.gid, odd.mtime, odd.size) = (u32::MAX - 1, 3_000_000, (-5, 0), 700);
        odd.xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, b'\n', b'=', 9])];
        let mut link = blank(Kind::Symlink, b"link", 0o777);
        link.link = long.clone();
        let mut device = blank(Kind::CharDevice, b"null", 0o666);
        device.device = (1, 3);
        let entries = [odd, link, device, blank(Kind::Directory, b"d/", 0o755)];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).expect("written");
            if entry.kind == Kind::File {
                // Less data than stated.
                writer.data(&b"abc"[..], entry.size).expect("written");
            }
        }
        let bytes = writer.finish().expect("written");
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut archive = Archive::new(bytes.as_slice());
        for entry in &entries {
            assert_eq!(archive.next().expect("read").as_ref(), Some(entry));
            let mut data = Vec::new();
            let keep = |chunk: &[u8]| {
                data.extend_from_slice(chunk);
                Ok(())
            };
            archive.copy(entry.size, keep, b"").expect("read");
            assert!(entry.size == 0 || data.starts_with(b"abc\0") && data.len() == 700);
        }
        assert_eq!(archive.next().expect("read"), None);
    }

    #[test]
    fn other_programs_read_it_too() {
        let mut writer = Writer::new(Vec::new());
        let mut entry = blank(Kind::File, &[&b"x/"[..]; 80].concat(), 0o640);
        entry.path.extend_from_slice(b"file");
        entry.size = 2;
        writer.entry(&entry).expect("written");
        writer.data(&b"ok"[..], 2).expect("written");
        let bytes = writer.finish().expect("written");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let read = archive.entries().expect("entries").next().expect("one").expect("read");
        assert_eq!(read.path_bytes().as_ref(), entry.path);
        assert_eq!((read.header().mode().expect("mode"), read.size()), (0o640, 2));
    }
}
