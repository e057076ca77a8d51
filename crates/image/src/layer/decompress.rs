//! What a layer is wrapped in: gzip, zstd or nothing, told by its first bytes. Media types are
//! often wrong; the bytes are checked by digest either way.

use std::io::{self, BufRead, BufReader, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A zstd stream may begin with a skippable frame: 0x184D2A50 to 0x184D2A5F, little endian.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Largest window a zstd stream may ask for, as a power of two: what its `--ultra -22` uses.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The reader of the uncompressed bytes.
pub(crate) enum Decompress<R: BufRead> {
    Plain(Prefixed<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Prefixed<R>>>),
    Zstd(Box<zstd::Decoder<'static, Prefixed<R>>>),
}

impl<R: BufRead> Decompress<R> {
    /// Looks at the first bytes of `input` and picks the decoder.
    pub(crate) fn new(mut input: R) -> io::Result<Decompress<R>> {
        let mut start = Vec::with_capacity(4);
        input.by_ref().take(4).read_to_end(&mut start)?;
        let is_zstd = start == ZSTD || (start.len() == 4 && start[0] & 0xf0 == 0x50 && start[1..] == ZSTD_SKIPPABLE);
        let is_gzip = start.starts_with(&GZIP);
        let other = match start.as_slice() {
            [b'B', b'Z', b'h', b'1'..=b'9'] => Some("bzip2"),
            [0xfd, b'7', b'z', b'X'] => Some("xz"),
            _ => None,
        };
        if let Some(kind) = other {
            let text = format!("unpacking an archive compressed with {kind} is not implemented");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let input = Prefixed { start, used: 0, input };
        if is_gzip {
            return Ok(Decompress::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))));
        }
        if is_zstd {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            return Ok(Decompress::Zstd(Box::new(decoder)));
        }
        Ok(Decompress::Plain(input))
    }
}

impl<R: BufRead> Read for Decompress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompress::Plain(input) => input.read(buffer),
            Decompress::Gzip(decoder) => decoder.read(buffer),
            Decompress::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Bytes that were looked at, then the rest.
pub(crate) struct Prefixed<R> {
    start: Vec<u8>,
    used: usize,
    input: R,
}

impl<R: BufRead> Read for Prefixed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = &self.start[self.used..];
        if start.is_empty() {
            return self.input.read(buffer);
        }
        let count = start.len().min(buffer.len());
        buffer[..count].copy_from_slice(&start[..count]);
        self.used += count;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Prefixed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used < self.start.len() {
            return Ok(&self.start[self.used..]);
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if self.used < self.start.len() {
            self.used += amount;
        } else {
            self.input.consume(amount);
        }
    }
}

/// Buffer between the decoder and the archive reader, bytes.
pub(crate) const BUFFER: usize = 128 << 10;

/// A buffered reader of [`BUFFER`] bytes.
pub(crate) fn buffered<R: Read>(input: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER, input)
}
