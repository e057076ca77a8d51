//! Records as `json-file` has them: `{"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::Entry;
use crate::protocol::{STDERR, STDOUT};

/// Longest text of an instant: `2006-01-02T15:04:05.999999999Z`.
const TIME: usize = 30;

/// Prints instants; the text of a second is made once.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    /// RFC 3339 with as many digits as it takes, as Docker prints it.
    fn print(&mut self, time: i64, out: &mut Vec<u8>) {
        let (second, nanos) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
        if second != self.second || self.text.is_empty() {
            self.second = second;
            let whole = Timestamp::from_second(second).unwrap_or_default();
            self.text = budu_spec::units::rfc3339_nano(whole);
            self.text.pop();
        }
        out.extend_from_slice(self.text.as_bytes());
        if nanos != 0 {
            let mut digits = *b".000000000";
            let mut rest = nanos;
            for digit in digits[1..].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let end = digits.iter().rposition(|&d| d != b'0').map_or(0, |at| at + 1);
            out.extend_from_slice(&digits[..end]);
        }
        out.push(b'Z');
    }
}

/// Appends one record. `pieces` together are the line, with its newline if it has one.
pub(super) fn write(
    out: &mut Vec<u8>,
    stream: u8,
    pieces: [&[u8]; 2],
    attributes: &[u8],
    time: i64,
    clock: &mut Clock,
) {
    out.reserve(pieces[0].len() + pieces[1].len() + attributes.len() + TIME + 64);
    out.extend_from_slice(b"{\"log\":\"");
    match pieces {
        [[], second] => escape(out, second),
        [first, []] => escape(out, first),
        // A character may be cut in two between them.
        [first, second] => escape(out, &[first, second].concat()),
    }
    out.extend_from_slice(if stream == STDERR { b"\",\"stream\":\"stderr\"" } else { b"\",\"stream\":\"stdout\"" });
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attributes);
    }
    out.extend_from_slice(b",\"time\":\"");
    clock.print(time, out);
    out.extend_from_slice(b"\"}\n");
}

/// The value of `attrs`.
pub(super) fn attributes(pairs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (key, value) in pairs {
        if out.len() > 1 {
            out.push(b',');
        }
        for (text, after) in [(key, b':'), (value, b' ')] {
            out.push(b'"');
            escape(&mut out, text.as_bytes());
            out.extend_from_slice(&[b'"', after]);
        }
        out.pop();
    }
    out.push(b'}');
    out
}

/// Bytes that stand for themselves inside a JSON string of Docker's.
const fn plain(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x80 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = plain(byte as u8);
        byte += 1;
    }
    table
};

/// How many bytes at the start need no escape. Thirty-two at a time, without a
/// branch in between, which compilers turn into vector instructions.
fn run(text: &[u8]) -> usize {
    let mut at = 0;
    for chunk in text.chunks_exact(32) {
        let odd = chunk.iter().fold(0u8, |odd, &b| {
            odd | u8::from(b.wrapping_sub(0x20) >= 0x60)
                | u8::from(b == b'"')
                | u8::from(b == b'\\')
                | u8::from(b == b'<')
                | u8::from(b == b'>')
                | u8::from(b == b'&')
        });
        if odd != 0 {
            break;
        }
        at += 32;
    }
    at + text[at..].iter().take_while(|&&b| PLAIN[usize::from(b)]).count()
}

/// Appends text as the inside of a JSON string, escaped as Docker escapes it
/// (Go's rules for JSON within HTML; each byte that is no UTF-8 is U+FFFD).
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let count = run(rest);
        out.extend_from_slice(&rest[..count]);
        rest = &rest[count..];
        let Some(&byte) = rest.first() else { return };
        if byte < 0x80 {
            control(out, byte);
            rest = &rest[1..];
        } else {
            let count = rest.iter().take_while(|&&b| b >= 0x80).count();
            wide(out, &rest[..count]);
            rest = &rest[count..];
        }
    }
}

fn control(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
        }
    }
}

/// Text outside ASCII.
fn wide(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        // Line ends in JavaScript.
        while let Some(at) = rest.find(['\u{2028}', '\u{2029}']) {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            out.extend_from_slice(if rest.as_bytes()[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
            rest = &rest[at + 3..];
        }
        out.extend_from_slice(rest.as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// Reads one record; `None` when it is none.
pub(super) fn parse(text: &[u8]) -> Option<Entry<'_>> {
    let line = serde_json::from_slice::<Line<'_>>(text).ok()?;
    Some(Entry {
        stream: if line.stream == "stderr" { STDERR } else { STDOUT },
        time: instant(line.time.as_bytes()).or_else(|| slow_instant(&line.time)).unwrap_or(0),
        line: match line.log {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        partial: None,
        attributes: line.attrs.into_iter().collect(),
    })
}

/// Reads `2006-01-02T15:04:05[.999999999]Z`, which is what is written here.
fn instant(text: &[u8]) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        text.get(from..to)?.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let (head, fraction) = (text.get(..19)?, text.get(19..)?.strip_suffix(b"Z")?);
    if (head[4], head[7], head[10], head[13], head[16]) != (b'-', b'-', b'T', b':', b':') || fraction.len() > 10 {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let nanos = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if !digits.is_empty() => {
            number(20, 20 + digits.len())? * 10i64.pow(9 - u32::try_from(digits.len()).ok()?)
        }
        Some(_) => return None,
    };
    // Days since 1970 in the Gregorian calendar, counted in years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, shifted) = (year.div_euclid(400), (month + 9) % 12);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (days * 86_400 + seconds).checked_mul(1_000_000_000)?.checked_add(nanos)
}

fn slow_instant(text: &str) -> Option<i64> {
    i64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &[u8], time: i64) -> String {
        let mut out = Vec::new();
        write(&mut out, STDOUT, [line, b""], b"", time, &mut Clock::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_are_dockers_to_the_byte() {
        let time = 1_700_000_000_120_000_000;
        assert_eq!(
            record(b"a\t<b>&\"c\\\"\r\x1b\n", time),
            "{\"log\":\"a\\u0009\\u003cb\\u003e\\u0026\\\"c\\\\\\\"\\r\\u001b\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
        let odd = record("é\u{2028}\u{10348}\n".as_bytes(), time);
        assert!(odd.starts_with("{\"log\":\"é\\u2028\u{10348}\\n\""), "{odd}");
        let broken = record(b"x\xff\xe2\x82y", time);
        assert!(broken.starts_with("{\"log\":\"x\\ufffd\\ufffd\\ufffdy\""), "{broken}");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut clock = Clock::default();
        let pairs = BTreeMap::from([("a".to_owned(), "x\"y".to_owned()), ("b".to_owned(), String::new())]);
        for (nanos, length) in [(0, 0usize), (1, 31), (999_999_999, 32), (500_000_000, 33), (120_000_000, 100)] {
            let line = [vec![b'x'; length], b"<\n".to_vec()].concat();
            let mut out = Vec::new();
            write(
                &mut out,
                STDERR,
                [&line[..1], &line[1..]],
                &attributes(&pairs),
                951_782_400_000_000_000 + nanos,
                &mut clock,
            );
            let entry = parse(&out).unwrap();
            assert_eq!((entry.stream, entry.time), (STDERR, 951_782_400_000_000_000 + nanos));
            assert_eq!(&*entry.line, &line[..]);
            assert_eq!(entry.attributes, pairs.clone().into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn instants_of_others() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500_000_000)),
            ("2024-12-31T23:59:59.000000001Z", Some(1_735_689_599_000_000_001)),
            ("2024-12-31T23:59:59.Z", None),
            ("2024-12-31 23:59:59Z", None),
        ] {
            assert_eq!(instant(text.as_bytes()), want, "{text}");
        }
        assert_eq!(slow_instant("1970-01-01T01:00:00+01:00"), Some(0));
    }
}
