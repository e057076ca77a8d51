//! The key sequence that detaches a terminal.

use crate::Error;

/// Docker's default, ctrl-p ctrl-q.
const DEFAULT: &[u8] = &[16, 17];

/// Finds the sequence in what a user types.
#[derive(Debug)]
pub(crate) struct Scanner {
    keys: Vec<u8>,
    matched: usize,
}

/// What to do with what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Pass this on.
    Pass(Vec<u8>),
    /// Pass this on, then detach.
    Detach(Vec<u8>),
}

impl Scanner {
    /// `keys` as in `--detach-keys`; empty means the default.
    pub(crate) fn new(keys: &str) -> Result<Scanner, Error> {
        let keys = if keys.is_empty() { DEFAULT.to_vec() } else { parse(keys)? };
        Ok(Scanner { keys, matched: 0 })
    }

    /// Takes in what was typed. A start of the sequence is held back until it
    /// is complete or turns out to be something else.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> Typed {
        let mut pass = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return Typed::Detach(pass);
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(byte == self.keys[0]);
            if self.matched == 0 {
                pass.push(byte);
            } else if self.keys.len() == 1 {
                return Typed::Detach(pass);
            }
        }
        Typed::Pass(pass)
    }
}

/// Parses `ctrl-p,ctrl-q`, `a,b`, `ctrl-@`.
fn parse(text: &str) -> Result<Vec<u8>, Error> {
    text.split(',')
        .map(key)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| Error::invalid(format!("Invalid escape keys ({text}) provided")))
}

fn key(text: &str) -> Option<u8> {
    if let [single] = text.as_bytes() {
        return Some(*single);
    }
    match text.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_across_reads_and_false_starts_are_passed_on() {
        let mut scanner = Scanner::new("").unwrap();
        assert_eq!(scanner.feed(b"ab\x10"), Typed::Pass(b"ab".to_vec()));
        assert_eq!(scanner.feed(b"x"), Typed::Pass(b"\x10x".to_vec()));
        assert_eq!(scanner.feed(b"\x10\x10"), Typed::Pass(b"\x10".to_vec()));
        assert_eq!(scanner.feed(b"\x11never"), Typed::Detach(Vec::new()));
    }

    #[test]
    fn spellings() {
        for (text, want) in [
            ("a,b", Some(vec![97, 98])),
            ("ctrl-@", Some(vec![0])),
            ("ctrl-[,ctrl-_", Some(vec![27, 31])),
            ("ctrl-é", None),
            ("ab", None),
            ("a,,b", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn one_key_detaches_at_once() {
        assert_eq!(Scanner::new("q").unwrap().feed(b"abq"), Typed::Detach(b"ab".to_vec()));
    }
}
