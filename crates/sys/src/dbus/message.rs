//! Messages ("Message Format").

use super::read::Reader;
use super::value::Writer;
use super::{Error, Value};

/// Largest message taken; the bus itself allows 128 MiB, what we ask for is small.
const LARGEST: usize = 4 << 20;
/// Bytes that tell how long a message is.
pub(super) const START: usize = 16;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Calls a method.
    #[default]
    Call,
    /// Answers a call.
    Return,
    /// Answers a call with an error.
    Error,
    /// Tells whoever listens.
    Signal,
}

/// One message. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Number given by the sender, not 0.
    pub serial: u32,
    /// Object called or telling.
    pub path: String,
    /// Of that object.
    pub interface: String,
    /// Method or signal.
    pub member: String,
    /// Name of an error.
    pub error: String,
    /// Serial of the call that this answers.
    pub reply_to: u32,
    /// To whom.
    pub destination: String,
    /// From whom, as the bus says.
    pub sender: String,
    /// Arguments or results.
    pub body: Vec<Value>,
}

impl Message {
    /// As it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.value(value));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let field = |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), value.boxed()]);
        let mut fields = Vec::new();
        if !self.path.is_empty() {
            fields.push(field(PATH, Value::Path(self.path.clone())));
        }
        for (code, text) in [
            (INTERFACE, &self.interface),
            (MEMBER, &self.member),
            (ERROR_NAME, &self.error),
            (DESTINATION, &self.destination),
            (SENDER, &self.sender),
        ] {
            if !text.is_empty() {
                fields.push(field(code, Value::text(text)));
            }
        }
        if self.reply_to != 0 {
            fields.push(field(REPLY_SERIAL, Value::U32(self.reply_to)));
        }
        if !signature.is_empty() {
            fields.push(field(SIGNATURE, Value::Signature(signature)));
        }
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
        };
        let mut head = Writer::default();
        head.bytes.extend([b'l', kind, 0, 1]);
        head.value(&Value::U32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX)));
        head.value(&Value::U32(self.serial));
        head.value(&Value::Array("(yv)".to_owned(), fields));
        head.align(8);
        head.bytes.extend(body.bytes);
        head.bytes
    }

    /// Length of the whole message that begins with these [`START`] bytes.
    pub(super) fn length(start: &[u8; START]) -> Result<usize, Error> {
        let big_endian = big_endian(start[0])?;
        let body = Reader::new(start, 4, big_endian).u32()? as usize;
        let fields = Reader::new(start, 12, big_endian).u32()? as usize;
        if body > LARGEST || fields > LARGEST {
            return Err(Error::Malformed("larger than anything we asked for"));
        }
        Ok((START + fields).next_multiple_of(8) + body)
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Message, Error> {
        let start: &[u8; START] = bytes.first_chunk().ok_or(Error::Malformed("it ends too early"))?;
        let big_endian = big_endian(start[0])?;
        if start[3] != 1 {
            return Err(Error::Malformed("version"));
        }
        if Message::length(start)? != bytes.len() {
            return Err(Error::Malformed("length"));
        }
        let kind = match start[1] {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(Error::Malformed("kind")),
        };
        let serial = Reader::new(bytes, 8, big_endian).u32()?;
        let mut reader = Reader::new(bytes, 12, big_endian);
        let mut message = Message { kind, serial, ..Message::default() };
        let mut signature = String::new();
        for field in reader.values("a(yv)")?.into_iter().flat_map(elements) {
            message.field(field, &mut signature);
        }
        reader.align(8);
        message.body = Reader::new(bytes, reader.position(), big_endian).values(&signature)?;
        Ok(message)
    }

    /// Takes a header field; unknown ones are none of our business.
    fn field(&mut self, field: Value, signature: &mut String) {
        let Value::Struct(parts) = field else { return };
        let [Value::Byte(code), Value::Variant(value)] = parts.as_slice() else { return };
        match (*code, value.as_ref()) {
            (PATH, Value::Path(text)) => self.path.clone_from(text),
            (INTERFACE, Value::Text(text)) => self.interface.clone_from(text),
            (MEMBER, Value::Text(text)) => self.member.clone_from(text),
            (ERROR_NAME, Value::Text(text)) => self.error.clone_from(text),
            (DESTINATION, Value::Text(text)) => self.destination.clone_from(text),
            (SENDER, Value::Text(text)) => self.sender.clone_from(text),
            (REPLY_SERIAL, Value::U32(serial)) => self.reply_to = *serial,
            (SIGNATURE, Value::Signature(text)) => signature.clone_from(text),
            _ => {}
        }
    }
}

fn elements(value: Value) -> Vec<Value> {
    match value {
        Value::Array(_, values) => values,
        _ => Vec::new(),
    }
}

fn big_endian(mark: u8) -> Result<bool, Error> {
    match mark {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err(Error::Malformed("byte order")),
    }
}
