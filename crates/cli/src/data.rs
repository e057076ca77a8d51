//! JSON-like values that keep the order of their members: what templates work on.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    /// `null`, Go's nil.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Data>),
    /// An object, in the order of the wire.
    Map(Vec<(String, Data)>),
    /// A row of a list: an object whose JSON has sorted members and escapes `<`, `>` and `&`.
    Row(Vec<(String, Data)>),
    /// A method with one argument that looks a key up: `.Label "key"`. Not part of JSON output.
    Lookup(Vec<(String, String)>),
    /// The same method in a head line: it names the column after the key's last part.
    Head,
}

impl Data {
    /// Makes a text.
    pub(crate) fn text(text: impl Into<String>) -> Data {
        Data::Text(text.into())
    }

    /// Reads JSON.
    pub(crate) fn parse(json: &[u8]) -> Result<Data, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Finds a member: by its exact name, or by any spelling of it (`.ID` finds `Id`).
    pub(crate) fn member(&self, name: &str) -> Option<&Data> {
        let (Data::Map(members) | Data::Row(members)) = self else { return None };
        members
            .iter()
            .find(|(key, _)| key == name)
            .or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value)
    }

    /// Go's idea of truth: neither zero nor empty.
    pub(crate) fn truth(&self) -> bool {
        match self {
            Data::Null => false,
            Data::Bool(on) => *on,
            Data::Int(n) => *n != 0,
            Data::Float(n) => *n != 0.0,
            Data::Text(text) => !text.is_empty(),
            Data::List(list) => !list.is_empty(),
            Data::Map(members) | Data::Row(members) => !members.is_empty(),
            Data::Lookup(members) => !members.is_empty(),
            Data::Head => true,
        }
    }

    /// Compact JSON.
    pub(crate) fn to_json(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        match self {
            Data::Row(_) => json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
            _ => json,
        }
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Data {
        Data::Text(text.to_owned())
    }
}

impl From<String> for Data {
    fn from(text: String) -> Data {
        Data::Text(text)
    }
}

/// Prints as Go's `%v` does.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Null => f.write_str("<nil>"),
            Data::Bool(on) => write!(f, "{on}"),
            Data::Int(n) => write!(f, "{n}"),
            Data::Float(n) => write!(f, "{n}"),
            Data::Text(text) => f.write_str(text),
            Data::List(list) => {
                f.write_str("[")?;
                for (n, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if n > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Data::Map(members) | Data::Row(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                f.write_str("map[")?;
                for (n, (key, value)) in sorted.into_iter().enumerate() {
                    write!(f, "{}{key}:{value}", if n > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Data::Lookup(_) | Data::Head => f.write_str("<method>"),
        }
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Data::Null | Data::Lookup(_) | Data::Head => serializer.serialize_unit(),
            Data::Bool(on) => serializer.serialize_bool(*on),
            Data::Int(n) => serializer.serialize_i64(*n),
            Data::Float(n) => serializer.serialize_f64(*n),
            Data::Text(text) => serializer.serialize_str(text),
            Data::List(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                for item in list {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Data::Map(members) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in members.iter().filter(|(_, value)| !matches!(value, Data::Lookup(_))) {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Data::Row(members) => {
                let mut sorted: Vec<_> =
                    members.iter().filter(|(_, value)| !matches!(value, Data::Lookup(_))).collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                serializer.collect_map(sorted.into_iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Data, E> {
        Ok(Data::Bool(on))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Data, E> {
        Ok(Data::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Data, E> {
        Ok(i64::try_from(n).map_or(Data::Float(n as f64), Data::Int))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Data, E> {
        Ok(Data::Float(n))
    }

    fn visit_str<E>(self, text: &str) -> Result<Data, E> {
        Ok(Data::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Data, E> {
        Ok(Data::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Data::Map(members))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}
