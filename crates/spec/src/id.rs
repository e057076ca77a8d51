//! Container, exec and network identifiers: 32 random bytes as 64 hexadecimal digits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A 64-digit lower-case hexadecimal identifier, as Docker uses for
/// containers, exec instances and networks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// Draws a new random identifier whose short form is not all digits (an
    /// all-digit host name would be read as a number by some programs).
    pub fn random() -> Id {
        loop {
            let mut bytes = [0u8; 32];
            getrandom::fill(&mut bytes).expect("the kernel's random source never fails once booted");
            let id = Id(hex(&bytes));
            if !id.short().bytes().all(|b| b.is_ascii_digit()) {
                return id;
            }
        }
    }

    /// Returns all 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits, as tables and host names show them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// Prints bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)] as char);
        out.push(DIGITS[usize::from(b & 15)] as char);
    }
    out
}

/// Cuts an identifier (with or without `sha256:`) to the 12 digits tables show.
pub fn truncate(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("invalid id {text:?}: want 64 lower-case hexadecimal digits")]
pub struct InvalidId {
    /// What was given.
    pub text: String,
}

impl TryFrom<String> for Id {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Id, InvalidId> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(digit) { Ok(Id(text)) } else { Err(InvalidId { text }) }
    }
}

impl std::str::FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Id, InvalidId> {
        Id::try_from(text.to_owned())
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let (a, b) = (Id::random(), Id::random());
        assert_ne!(a, b);
        assert_eq!(a, a.to_string().parse().unwrap());
        assert_eq!(a.short().len(), 12);
    }

    #[test]
    fn bad_ids_are_refused() {
        for bad in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../../../etc"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
