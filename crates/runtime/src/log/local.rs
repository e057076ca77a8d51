//! Records as the driver `local` has them: a protobuf message with its length,
//! four bytes big-endian, before and after it.
//!
//! Fields: 1 stream, 2 time in nanoseconds, 3 line without newline, 4 "is a
//! piece", 5 which piece (1 last, 2 id, 3 ordinal), 6 attributes (1 key, 2 value).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Entry, Partial};
use crate::protocol::{STDERR, STDOUT};

/// Larger records are not ours.
const LIMIT: usize = 4 << 20;
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// What the bytes at some place are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A record, and how long it is with its lengths.
    Record(&'a [u8], usize),
    /// The beginning of one.
    Beginning,
    /// No record.
    Nonsense,
}

/// Appends one record. `pieces` together are the line without newline.
pub(super) fn write(
    out: &mut Vec<u8>,
    stream: u8,
    pieces: [&[u8]; 2],
    attributes: &[u8],
    time: i64,
    partial: Option<&Partial>,
) {
    let start = out.len();
    out.reserve(pieces[0].len() + pieces[1].len() + attributes.len() + 160);
    out.extend_from_slice(&[0; 4]);
    bytes(out, 1, &[if stream == STDERR { b"stderr" } else { b"stdout" }]);
    out.push(2 << 3);
    varint(out, time.cast_unsigned());
    bytes(out, 3, &pieces);
    if let Some(partial) = partial {
        out.extend_from_slice(&[4 << 3, 1]);
        let mut about = Vec::with_capacity(80);
        if partial.last {
            about.extend_from_slice(&[1 << 3, 1]);
        }
        bytes(&mut about, 2, &[partial.id.as_bytes()]);
        about.push(3 << 3);
        varint(&mut about, partial.ordinal.into());
        bytes(out, 5, &[&about]);
    }
    out.extend_from_slice(attributes);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX).to_be_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

/// The fields for attributes, the same in every record.
pub(super) fn attributes(pairs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        let mut pair = Vec::new();
        bytes(&mut pair, 1, &[key.as_bytes()]);
        bytes(&mut pair, 2, &[value.as_bytes()]);
        bytes(&mut out, 6, &[&pair]);
    }
    out
}

fn bytes(out: &mut Vec<u8>, field: u8, pieces: &[&[u8]]) {
    out.push(field << 3 | 2);
    varint(out, pieces.iter().map(|p| p.len() as u64).sum());
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Looks for a whole record at the start of `data`.
pub(super) fn find(data: &[u8]) -> Found<'_> {
    let length = |at: usize| data.get(at..at + 4).and_then(|b| Some(u32::from_be_bytes(b.try_into().ok()?) as usize));
    match length(0) {
        None => Found::Beginning,
        Some(size) if size > LIMIT => Found::Nonsense,
        Some(size) => match length(4 + size) {
            None => Found::Beginning,
            Some(after) if after != size => Found::Nonsense,
            Some(_) => Found::Record(&data[4..4 + size], size + 8),
        },
    }
}

/// Reads the message of a record; `None` when it is none.
pub(super) fn parse(mut message: &[u8]) -> Option<Entry<'_>> {
    let mut entry = Entry { stream: STDOUT, time: 0, line: Cow::Borrowed(b""), partial: None, attributes: Vec::new() };
    let mut is_piece = false;
    while let Some((field, value)) = field(&mut message)? {
        match (field, value) {
            (1, Value::Bytes(name)) => entry.stream = if name == b"stderr" { STDERR } else { STDOUT },
            (2, Value::Number(time)) => entry.time = time.cast_signed(),
            (3, Value::Bytes(line)) => entry.line = Cow::Borrowed(line),
            (4, Value::Number(set)) => is_piece = set != 0,
            (5, Value::Bytes(about)) => entry.partial = Some(piece(about)?),
            (6, Value::Bytes(pair)) => entry.attributes.push(attribute(pair)?),
            _ => {}
        }
    }
    if is_piece {
        entry.partial.get_or_insert_default();
    } else {
        entry.partial = None;
    }
    if entry.partial.as_ref().is_none_or(|p| p.last) {
        let mut line = entry.line.into_owned();
        line.push(b'\n');
        entry.line = Cow::Owned(line);
    }
    Some(entry)
}

fn piece(mut message: &[u8]) -> Option<Partial> {
    let mut partial = Partial::default();
    while let Some((field, value)) = field(&mut message)? {
        match (field, value) {
            (1, Value::Number(set)) => partial.last = set != 0,
            (2, Value::Bytes(id)) => partial.id = String::from_utf8_lossy(id).into_owned(),
            (3, Value::Number(ordinal)) => partial.ordinal = u32::try_from(ordinal).ok()?,
            _ => {}
        }
    }
    Some(partial)
}

fn attribute(mut message: &[u8]) -> Option<(String, String)> {
    let mut pair = (String::new(), String::new());
    while let Some((field, value)) = field(&mut message)? {
        match (field, value) {
            (1, Value::Bytes(key)) => pair.0 = String::from_utf8_lossy(key).into_owned(),
            (2, Value::Bytes(value)) => pair.1 = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    Some(pair)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes a field off the front: `None` when it is broken, `Some(None)` at the end.
#[expect(clippy::option_option, reason = "the question mark ends a broken message, the inner one a whole one")]
fn field<'a>(message: &mut &'a [u8]) -> Option<Option<(u64, Value<'a>)>> {
    if message.is_empty() {
        return Some(None);
    }
    let tag = number(message)?;
    let value = match tag & 7 {
        VARINT => Value::Number(number(message)?),
        BYTES => {
            let length = usize::try_from(number(message)?).ok()?;
            let (value, rest) = message.split_at_checked(length)?;
            *message = rest;
            Value::Bytes(value)
        }
        _ => return None,
    };
    Some(Some((tag >> 3, value)))
}

fn number(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let pairs = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let partial = Partial { id: "ab".repeat(32), ordinal: 300, last: false };
        let mut out = Vec::new();
        write(&mut out, STDERR, [b"on", b"e"], &attributes(&pairs), 1_700_000_000_000_000_001, None);
        write(&mut out, STDOUT, [b"piece", b""], b"", 7, Some(&partial));
        let Found::Record(message, size) = find(&out) else { panic!() };
        let first = parse(message).unwrap();
        assert_eq!((first.stream, first.time, &*first.line), (STDERR, 1_700_000_000_000_000_001, &b"one\n"[..]));
        assert_eq!(first.attributes, [("k".to_owned(), "v".to_owned())]);
        let Found::Record(message, _) = find(&out[size..]) else { panic!() };
        let second = parse(message).unwrap();
        assert_eq!((&*second.line, second.partial), (&b"piece"[..], Some(partial)));
        for cut in 0..size {
            assert_eq!(find(&out[..cut]), Found::Beginning, "cut at {cut}");
        }
        assert_eq!(find(&[0xff; 16]), Found::Nonsense);
        assert_eq!(find(&[0, 0, 0, 0, 0, 0, 0, 1]), Found::Nonsense);
    }
}
