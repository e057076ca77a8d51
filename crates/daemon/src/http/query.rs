//! Query strings.

use std::str::FromStr;

use super::Failure;

/// The parameters of a request; of a repeated one the first counts, but for [`Query::all`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`.
    pub(crate) fn parse(text: &str) -> Query {
        let pair = |piece: &str| {
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            (decode(key, true), decode(value, true))
        };
        Query(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// A parameter, when it is there and not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// A parameter as text, empty when it is not there.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of a parameter that may be repeated; empty ones do not count.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.clone()).collect()
    }

    /// A switch: everything but the words for "no" is yes.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| {
            !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// A number, when it is there.
    pub(crate) fn number<N: FromStr>(&self, key: &str) -> Result<Option<N>, Failure> {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_| Failure::invalid(format!("invalid value \"{value}\" of parameter {key}: want a number")))
        };
        self.get(key).map(parse).transpose()
    }
}

/// Decodes `%41`, and `+` as space where `plus` says so.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            (b'+', _) if plus => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_dockers() {
        for (text, want) in [
            ("a=1", true),
            ("a=true", true),
            ("a=yes", true),
            ("a=0", false),
            ("a=False", false),
            ("a=none", false),
            ("a=", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(Query::parse(text).flag("a"), want, "{text}");
        }
    }

    #[test]
    fn decoding() {
        let query = Query::parse("filters=%7B%22a%22%3A1%7D&x=a+b%20c&t=%zz");
        assert_eq!((query.text("filters"), query.text("x"), query.text("t")), ("{\"a\":1}", "a b c", "%zz"));
        assert_eq!(decode("a+b%2Fc", false), "a+b/c");
        assert!(query.number::<u32>("x").is_err());
    }
}
