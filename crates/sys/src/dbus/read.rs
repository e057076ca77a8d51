//! Values read back. Nothing that arrives is trusted.

use super::value::alignment;
use super::{Error, Value};

/// Arrays, structures and variants in each other.
const DEPTH: u8 = 32;

/// Reads values; positions count from the start of the message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, big_endian: bool) -> Reader<'a> {
        Reader { bytes, at, big_endian }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).ok_or(Error::Malformed("length"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Malformed("it ends too early"))?;
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.align(N);
        let mut bytes: [u8; N] = self.take(N)?.try_into().map_err(|_| Error::Malformed("length"))?;
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.number().map(u32::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        let bytes = self.take(length)?;
        if self.take(1)? != [0] {
            return Err(Error::Malformed("text without end"));
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::Malformed("text that is not UTF-8"))
    }

    fn signature(&mut self) -> Result<String, Error> {
        let length = self.take(1)?[0];
        self.text(usize::from(length))
    }

    /// Values of these types, one after the other.
    pub(super) fn values(&mut self, signature: &str) -> Result<Vec<Value>, Error> {
        self.sequence(signature.as_bytes(), DEPTH)
    }

    fn sequence(&mut self, mut signature: &[u8], depth: u8) -> Result<Vec<Value>, Error> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (one, rest) = first_type(signature)?;
            values.push(self.value(one, depth)?);
            signature = rest;
        }
        Ok(values)
    }

    /// One value of a single complete type.
    fn value(&mut self, kind: &[u8], depth: u8) -> Result<Value, Error> {
        let depth = depth.checked_sub(1).ok_or(Error::Malformed("nested too deeply"))?;
        Ok(match kind {
            b"y" => Value::Byte(self.take(1)?[0]),
            b"b" => Value::Bool(self.u32()? != 0),
            b"n" => Value::I16(i16::from_le_bytes(self.number()?)),
            b"q" => Value::U16(u16::from_le_bytes(self.number()?)),
            b"i" => Value::I32(i32::from_le_bytes(self.number()?)),
            // A descriptor's index.
            b"u" | b"h" => Value::U32(self.u32()?),
            b"x" => Value::I64(i64::from_le_bytes(self.number()?)),
            b"t" => Value::U64(u64::from_le_bytes(self.number()?)),
            b"d" => Value::F64(f64::from_le_bytes(self.number()?)),
            b"s" | b"o" => {
                let length = self.u32()? as usize;
                let text = self.text(length)?;
                if kind == b"s" { Value::Text(text) } else { Value::Path(text) }
            }
            b"g" => Value::Signature(self.signature()?),
            b"v" => {
                let signature = self.signature()?;
                let (one, rest) = first_type(signature.as_bytes())?;
                if !rest.is_empty() {
                    return Err(Error::Malformed("variant of several types"));
                }
                self.value(one, depth)?.boxed()
            }
            [b'a', element @ ..] => self.array(element, depth)?,
            [b'(', fields @ .., b')'] => {
                self.align(8);
                Value::Struct(self.sequence(fields, depth)?)
            }
            [b'{', fields @ .., b'}'] => {
                self.align(8);
                let mut fields = self.sequence(fields, depth)?.into_iter();
                match (fields.next(), fields.next(), fields.next()) {
                    (Some(key), Some(value), None) => Value::Entry(Box::new(key), Box::new(value)),
                    _ => return Err(Error::Malformed("entry of other than two")),
                }
            }
            _ => return Err(Error::Malformed("unknown type")),
        })
    }

    fn array(&mut self, element: &[u8], depth: u8) -> Result<Value, Error> {
        let length = self.u32()? as usize;
        self.align(alignment(element.first().copied().unwrap_or(b'y')));
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Error::Malformed("array longer than the message"))?;
        let mut values = Vec::new();
        while self.at < end {
            let before = self.at;
            values.push(self.value(element, depth)?);
            if self.at == before {
                return Err(Error::Malformed("array of nothing"));
            }
        }
        if self.at != end {
            return Err(Error::Malformed("array of another length"));
        }
        Ok(Value::Array(String::from_utf8_lossy(element).into_owned(), values))
    }
}

/// The first complete type of a signature, and the rest.
fn first_type(signature: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut open: Vec<u8> = Vec::new();
    for (at, letter) in signature.iter().enumerate() {
        match letter {
            b'a' => continue,
            b'(' => open.push(b')'),
            b'{' => open.push(b'}'),
            b')' | b'}' if open.pop() != Some(*letter) => return Err(Error::Malformed("brackets")),
            _ => {}
        }
        if open.len() > usize::from(DEPTH) {
            return Err(Error::Malformed("nested too deeply"));
        }
        if open.is_empty() {
            return Ok(signature.split_at(at + 1));
        }
    }
    Err(Error::Malformed("type that ends too early"))
}
