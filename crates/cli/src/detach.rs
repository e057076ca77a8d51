//! Detach keys: the sequence that ends an attachment and leaves the container running.

use crate::error::Error;

/// Used when neither the command nor the configuration says otherwise.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Watches typed bytes for the sequence.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What became of some typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// These are for the container (the beginning of a sequence is held back).
    Forward(Vec<u8>),
    /// The sequence is complete; these came before it.
    Detach(Vec<u8>),
}

/// Parses `a,ctrl-x,…` into bytes.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, Error> {
    let unknown =
        |key: &str| Error::new(format_args!("invalid detach keys ({text}) provided: Unknown character: '{key}'"));
    text.split(',')
        .map(|key| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (Some(letter), _) => match letter.as_bytes() {
                [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
                [b'@'] => Ok(0),
                [letter @ (b'[' | b'\\' | b']' | b'^' | b'_')] => Ok(letter - b'[' + 27),
                _ => Err(unknown(key)),
            },
            (None, [byte]) => Ok(*byte),
            _ => Err(unknown(key)),
        })
        .collect()
}

impl DetachKeys {
    /// Builds the watcher; an empty text means the default sequence.
    pub(crate) fn new(text: &str) -> Result<DetachKeys, Error> {
        Ok(DetachKeys { sequence: parse(if text.is_empty() { DEFAULT } else { text })?, matched: 0 })
    }

    /// Takes typed bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut forward = Vec::with_capacity(bytes.len() + self.matched);
        for &byte in bytes {
            if byte != self.sequence[self.matched] {
                forward.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return Typed::Detach(forward);
                }
            } else {
                forward.push(byte);
            }
        }
        Typed::Forward(forward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(parse("a,ctrl-@,ctrl-[,ctrl-_").unwrap(), [b'a', 0, 27, 31]);
        for bad in ["", "ctrl-A", "ab", "ctrl-", "a,,b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broken_sequence_is_forwarded_whole() {
        let mut keys = DetachKeys::new("").unwrap();
        assert_eq!(keys.take(b"x\x10"), Typed::Forward(b"x".to_vec()));
        assert_eq!(keys.take(b"y"), Typed::Forward(b"\x10y".to_vec()));
        assert_eq!(keys.take(b"\x10\x10"), Typed::Forward(b"\x10".to_vec()));
        assert_eq!(keys.take(b"\x11z"), Typed::Detach(Vec::new()));
    }
}
