//! The few messages of CRIU's protocol (rpc.proto in its sources), encoded as
//! protocol buffers: a sequence of fields, each a number with a kind of
//! encoding, and a value. What we do not know is skipped.

/// Kinds of request and response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// A message being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

const VARINT: u64 = 0;
const BYTES: u64 = 2;

impl Message {
    pub(super) fn request(kind: Kind) -> Message {
        let mut message = Message::default();
        message.number(1, kind as i32);
        message
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A signed number, an unsigned one below 2^31, or an enumeration.
    pub(super) fn number(&mut self, field: u64, value: i32) {
        self.varint(field << 3 | VARINT);
        // Negative ones are extended to 64 bits.
        self.varint(i64::from(value).cast_unsigned());
    }

    pub(super) fn flag(&mut self, field: u64, value: bool) {
        self.number(field, i32::from(value));
    }

    pub(super) fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn nested(&mut self, field: u64, value: &Message) {
        self.bytes(field, &value.0);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> i32 {
        match self {
            // Negative numbers come extended to 64 bits.
            Value::Number(number) => number as i32,
            Value::Bytes(_) => 0,
        }
    }

    fn text(self) -> String {
        match self {
            Value::Number(_) => String::new(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    fn fields(self) -> Fields<'a> {
        match self {
            Value::Number(_) => Fields(&[]),
            Value::Bytes(bytes) => Fields(bytes),
        }
    }
}

/// Reads fields until the end, or until what is no field.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            BYTES => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

/// What CRIU said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(super) kind: i32,
    pub(super) success: bool,
    /// Where it is in its work, if it is not done.
    pub(super) script: String,
    /// The process that `script` is about.
    pub(super) pid: i32,
    pub(super) errno: i32,
    pub(super) message: String,
    /// `mem_track` and `lazy_pages`.
    pub(super) features: (bool, bool),
    /// As 31701 for 3.17.1.
    pub(super) version: i32,
}

impl Response {
    /// Whether CRIU has come to this point of its work.
    pub(crate) fn is(&self, script: &str) -> bool {
        self.script == script
    }

    /// The process that the point of its work is about.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn parse(bytes: &[u8]) -> Response {
        let mut response = Response::default();
        for (field, value) in Fields(bytes) {
            match field {
                1 => response.kind = value.number(),
                2 => response.success = value.number() != 0,
                5 => {
                    for (field, value) in value.fields() {
                        match field {
                            1 => response.script = value.text(),
                            2 => response.pid = value.number(),
                            _ => {}
                        }
                    }
                }
                7 => response.errno = value.number(),
                8 => {
                    for (field, value) in value.fields() {
                        match field {
                            1 => response.features.0 = value.number() != 0,
                            2 => response.features.1 = value.number() != 0,
                            _ => {}
                        }
                    }
                }
                9 => response.message = value.text(),
                10 => response.version = version(value.fields()),
                _ => {}
            }
        }
        response
    }
}

fn version(fields: Fields<'_>) -> i32 {
    let (mut number, mut development) = (0, false);
    for (field, value) in fields {
        match field {
            1 => number += value.number().saturating_mul(10_000),
            2 => number += value.number().saturating_mul(100),
            3 => development = true,
            4 => number += value.number(),
            _ => {}
        }
    }
    // Between two versions: as good as the next.
    if development { (number / 100 + 1) * 100 } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_as_the_protocol_says() {
        let mut options = Message::default();
        options.number(1, 5);
        options.number(2, -1);
        options.text(10, "a.log");
        let mut request = Message::request(Kind::Dump);
        request.nested(2, &options);
        let mut expected = vec![0x08, 0x01, 0x12, 0x14, 0x08, 0x05, 0x10];
        expected.extend([0xff; 9]);
        expected.extend([0x01, 0x52, 0x05]);
        expected.extend(b"a.log");
        assert_eq!(request.as_bytes(), expected);
        let mut large = Message::default();
        large.flag(50, true);
        large.number(38, 0x4000_0000);
        assert_eq!(large.as_bytes(), [0x90, 0x03, 0x01, 0xb0, 0x02, 0x80, 0x80, 0x80, 0x80, 0x04]);
    }

    fn response(parts: &[(u64, Result<i32, Message>)]) -> Response {
        let mut message = Message::default();
        for (field, part) in parts {
            match part {
                Ok(number) => message.number(*field, *number),
                Err(nested) => message.nested(*field, nested),
            }
        }
        Response::parse(message.as_bytes())
    }

    #[test]
    fn responses_are_read() {
        let mut notify = Message::default();
        notify.text(1, "post-restore");
        notify.number(2, 77);
        let read = response(&[(1, Ok(6)), (2, Ok(1)), (5, Err(notify)), (99, Ok(1))]);
        assert_eq!((read.kind, read.success, read.script.as_str(), read.pid), (6, true, "post-restore", 77));
        let mut numbers = Message::default();
        [(1, 3), (2, 17), (4, 1)].iter().for_each(|&(field, value)| numbers.number(field, value));
        assert_eq!(response(&[(10, Err(numbers.clone()))]).version, 31701);
        numbers.text(3, "v3.17.1-5-gdeadbeef");
        assert_eq!(response(&[(10, Err(numbers))]).version, 31800);
        let failed = response(&[(1, Ok(1)), (2, Ok(0)), (7, Ok(-3))]);
        assert_eq!((failed.success, failed.errno), (false, -3));
    }

    #[test]
    fn nonsense_ends_the_reading() {
        for bytes in [&[0xff; 20][..], &[0x12, 0x7f, 1], &[0x0b], &[]] {
            assert_eq!(Response::parse(bytes), Response::default());
        }
    }
}
