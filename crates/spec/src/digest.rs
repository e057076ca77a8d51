//! Content digests: `sha256:` followed by 64 lower-case hexadecimal digits.
//!
//! A digest becomes a file name and part of a URL, so nothing but the one accepted
//! spelling is ever turned into a [`Digest`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Classified, ErrorClass};

/// A validated SHA-256 content digest. Prints as `sha256:<64 hex>`.
///
/// ```
/// use budu_spec::Digest;
/// let text = format!("sha256:{}", "ab".repeat(32));
/// let digest: Digest = text.parse().expect("well formed");
/// assert_eq!(digest.to_string(), text);
/// assert_eq!(digest.short(), "abababababab");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("invalid digest {text:?}: want sha256: and 64 lower-case hexadecimal digits")]
    Invalid {
        /// The text, cut to 100 bytes.
        text: String,
    },
    /// A well formed name of an algorithm that is not sha256.
    #[error("unsupported digest algorithm {algorithm:?}: only sha256 is supported")]
    Algorithm {
        /// The algorithm's name.
        algorithm: String,
    },
}

impl Classified for DigestError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl Digest {
    /// The digest whose 32 bytes are already known.
    pub const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest named by exactly 64 lower-case hexadecimal digits, without `sha256:`.
    ///
    /// # Errors
    /// [`DigestError::Invalid`] for any other text.
    pub fn from_hex(hex: &str) -> Result<Digest, DigestError> {
        let invalid = || DigestError::Invalid { text: cut(hex) };
        let text = hex.as_bytes();
        if text.len() != 64 {
            return Err(invalid());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let high = nibble(pair[0]).ok_or_else(invalid)?;
            let low = nibble(pair[1]).ok_or_else(invalid)?;
            *byte = high << 4 | low;
        }
        Ok(Digest(bytes))
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// The first 12 hexadecimal digits, as tables and progress lines show them.
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(12);
        text
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Error texts must stay readable whatever a peer sends.
fn cut(text: &str) -> String {
    let mut end = text.len().min(100);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            return Digest::from_hex(hex).map_err(|_| DigestError::Invalid { text: cut(text) });
        }
        match text.split_once(':') {
            Some((algorithm @ ("sha512" | "sha384" | "blake3"), _)) => {
                Err(DigestError::Algorithm { algorithm: algorithm.to_owned() })
            }
            _ => Err(DigestError::Invalid { text: cut(text) }),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sha256:")?;
        out.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_one_spelling_and_prints_it_back() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let digest: Digest = text.parse().expect("valid");
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.hex(), &text[7..]);
        assert_eq!(digest.short(), "0123456789ab");
        let json = serde_json::to_string(&digest).expect("serialises");
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).expect("reads back"), digest);
    }

    #[test]
    fn refuses_everything_that_could_become_another_path() {
        let hex = "a".repeat(64);
        for text in [
            String::new(),
            "sha256:".into(),
            "sha256".into(),
            hex.clone(),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}", "a".repeat(65)),
            format!("sha256:../{}", "a".repeat(61)),
            format!("sha1:{}", "a".repeat(40)),
            format!("sha512:{}", "a".repeat(128)),
            format!(" sha256:{hex}"),
            format!("sha256:{hex}\n"),
            format!("SHA256:{hex}"),
            format!("sha256:{}", "é".repeat(32)),
            "sha256:".to_owned() + &"a".repeat(10_000_000),
        ] {
            let error = text.parse::<Digest>().expect_err("must be refused");
            assert!(error.to_string().len() < 300, "{error}");
        }
    }
}
