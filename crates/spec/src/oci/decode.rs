//! JSON as Go's decoder reads it, which every producer of a `config.json` was tested with.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;

/// What could not be read, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}{}{reason}", path, if path.is_empty() { "" } else { ": " })]
pub struct DecodeError {
    /// The member, such as `linux.resources.devices[1].major`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// Reads one value from the beginning of `text`. Unknown members are ignored, `null` is the same as absent, members may
/// be written in other case, and whatever follows the value does not count.
///
/// # Errors
/// Names the member whose type is wrong, or the line and column where the text stops being JSON.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, DecodeError> {
    if text.trim_ascii_start().starts_with(b"null") {
        return Err(DecodeError { path: String::new(), reason: "config cannot be null".to_owned() });
    }
    strictly(text).or_else(|error| {
        // A member given twice in different case (`cpu`, `CPU`) is one to Go; so rare that it may cost.
        let twice = error.reason.starts_with("duplicate field");
        match serde_json::from_slice(text) {
            Ok(value) if twice => strictly(merged(value).to_string().as_bytes()),
            _ => Err(error),
        }
    })
}

fn strictly<T: DeserializeOwned>(text: &[u8]) -> Result<T, DecodeError> {
    let trail = Trail::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    T::deserialize(Lenient { inner: &mut json, trail: &trail })
        .map_err(|error| DecodeError { path: trail.path(), reason: error.to_string() })
}

/// Members whose names differ in case only become one, of which later values count.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut out = serde_json::Map::new();
            for (name, value) in members {
                let known = out.keys().find(|known| known.eq_ignore_ascii_case(&name)).cloned();
                let name = known.unwrap_or(name);
                let value = merged(value);
                match (out.get_mut(&name), value) {
                    (Some(Value::Object(before)), Value::Object(after)) => before.extend(after),
                    (_, value) => drop(out.insert(name, value)),
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(merged).collect()),
        other => other,
    }
}

/// The way back from an error to the whole, innermost first.
#[derive(Default)]
struct Trail(RefCell<Vec<String>>);

impl Trail {
    fn add(&self, step: impl Into<String>) {
        self.0.borrow_mut().push(step.into());
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.borrow().iter().rev() {
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        path
    }
}

/// Another deserializer, read with leniency.
struct Lenient<'t, D> {
    inner: D,
    trail: &'t Trail,
}

/// What is wanted; a `null` in its place becomes the empty one of these.
#[derive(Clone, Copy)]
enum Want {
    Any,
    Bool,
    Number,
    Text,
    Seq,
    Map,
    Struct(&'static [&'static str]),
}

macro_rules! wants {
    ($($method:ident $want:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.walk(visitor, Want::$want)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Lenient<'_, D> {
    fn walk<V: Visitor<'de>>(self, visitor: V, want: Want) -> Result<V::Value, D::Error> {
        let walk = Walk { visitor, trail: self.trail, want };
        match want {
            // Options tell null from values themselves.
            Want::Any => self.inner.deserialize_option(walk),
            _ => self.inner.deserialize_any(walk),
        }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<'_, D> {
    type Error = D::Error;

    wants! {
        deserialize_bool Bool;
        deserialize_i8 Number; deserialize_i16 Number; deserialize_i32 Number; deserialize_i64 Number;
        deserialize_u8 Number; deserialize_u16 Number; deserialize_u32 Number; deserialize_u64 Number;
        deserialize_f32 Number; deserialize_f64 Number;
        deserialize_char Text; deserialize_str Text; deserialize_string Text; deserialize_identifier Text;
        deserialize_bytes Text; deserialize_byte_buf Text;
        deserialize_seq Seq; deserialize_map Map;
        deserialize_option Any;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.walk(visitor, Want::Seq)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.walk(visitor, Want::Seq)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.walk(visitor, Want::Struct(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }
}

/// Passes on to a visitor what the JSON has.
struct Walk<'t, V> {
    visitor: V,
    trail: &'t Trail,
    want: Want,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Walk<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(formatter)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.visitor.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.visitor.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.visitor.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.visitor.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.visitor.visit_borrowed_str(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        let nothing = std::iter::empty::<(&str, u8)>();
        match self.want {
            Want::Any => self.visitor.visit_none(),
            Want::Bool => self.visitor.visit_bool(false),
            Want::Number => self.visitor.visit_u64(0),
            Want::Text => self.visitor.visit_borrowed_str(""),
            Want::Seq => self.visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<u8>())),
            Want::Map | Want::Struct(_) => self.visitor.visit_map(MapDeserializer::new(nothing)),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Lenient { inner, trail: self.trail })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        match self.want {
            Want::Struct(_) => Err(A::Error::invalid_type(Unexpected::Seq, &self.visitor)),
            _ => self.visitor.visit_seq(Items { inner, trail: self.trail, next: 0 }),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let fields: &[_] = if let Want::Struct(fields) = self.want { fields } else { &[] };
        self.visitor.visit_map(Members { inner, trail: self.trail, fields, name: Name::Known("") })
    }
}

struct Items<'t, A> {
    inner: A,
    trail: &'t Trail,
    next: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let number = self.next;
        self.next += 1;
        let element = self.inner.next_element_seed(Seed { seed, trail: self.trail });
        element.inspect_err(|_| self.trail.add(format!("[{number}]")))
    }
}

struct Members<'t, A> {
    inner: A,
    trail: &'t Trail,
    fields: &'static [&'static str],
    name: Name,
}

/// A member's name: that of a field, whatever its case, or any other.
enum Name {
    Known(&'static str),
    Other(String),
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(name) = self.inner.next_key_seed(Namer(self.fields))? else { return Ok(None) };
        self.name = name;
        let key = match &self.name {
            Name::Known(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            Name::Other(name) => seed.deserialize(StringDeserializer::new(name.clone())),
        };
        key.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.inner.next_value_seed(Seed { seed, trail: self.trail });
        value.inspect_err(|_| match &self.name {
            Name::Known(name) => self.trail.add(*name),
            Name::Other(name) => self.trail.add(name.clone()),
        })
    }
}

struct Namer(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Namer {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Namer {
    type Value = Name;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        let exact = self.0.iter().find(|field| **field == name);
        let field = exact.or_else(|| self.0.iter().find(|field| field.eq_ignore_ascii_case(name)));
        Ok(field.map_or_else(|| Name::Other(name.to_owned()), |field| Name::Known(field)))
    }
}

struct Seed<'t, S> {
    seed: S,
    trail: &'t Trail,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Lenient { inner, trail: self.trail })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spec;
    use super::*;

    fn message(text: &str) -> String {
        decode::<Spec>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn null_is_absent_everywhere() {
        let text = r#"{"ociVersion":"1.0.2","root":null,"hooks":null,"hostname":null,"mounts":[{"destination":"/a",
            "options":null,"uidMappings":null}],"process":{"terminal":null,"args":null,"user":{"uid":1,"gid":null,
            "additionalGids":null},"capabilities":{"bounding":null},"rlimits":null,"env":["A=b",null]},"annotations":null,
            "linux":{"namespaces":null,"sysctl":null,"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":null,"syscalls":
            null},"resources":{"pids":{"limit":null},"memory":null,"blockIO":{"weightDevice":null},"unified":null}}}"#;
        let spec: Spec = decode(text.as_bytes()).unwrap();
        assert_eq!(spec.mounts[0].destination, "/a");
        let process = spec.process.unwrap();
        assert_eq!((process.user.uid, process.env[1].as_str()), (1, ""));
        let linux = spec.linux.unwrap();
        assert_eq!(linux.seccomp.unwrap().flags, None);
        assert_eq!(linux.resources.unwrap().pids.unwrap().limit, -1);
    }

    #[test]
    fn go_forgives() {
        let text = r#"{"OCIVersion":"1.0.0","unknown":{"a":1},"annotations":{"A":"1","a":"2"},"linux":{"who":[],
            "resources":{"CPU":{"Cpus":"0","mems":"1","shares":7}}}} trailing"#;
        let spec: Spec = decode(text.as_bytes()).unwrap();
        assert_eq!((spec.oci_version.as_str(), spec.annotations.len()), ("1.0.0", 2));
        let cpu = spec.linux.unwrap().resources.unwrap().cpu.unwrap();
        assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str(), cpu.shares), ("0", "1", Some(7)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (r#"{"process":{"user":{"uid":"root"}}}"#, "process.user.uid: invalid type: string"),
            (r#"{"process":{"user":{"uid":-1}}}"#, "process.user.uid: invalid value: integer `-1`"),
            (r#"{"process":{"user":[1]}}"#, "process.user: invalid type: sequence"),
            (
                r#"{"linux":{"resources":{"devices":[{"allow":true},{"allow":"yes"}]}}}"#,
                "linux.resources.devices[1].allow: invalid type: string",
            ),
            (r#"{"linux":{"sysctl":{"a.b":1}}}"#, "linux.sysctl.a.b: invalid type: integer"),
            (r#"{"hooks":{"prestart":{}}}"#, "hooks.prestart: invalid type: map"),
            (
                r#"{"linux":{"resources":{"memory":{"limit":1.5}}}}"#,
                "linux.resources.memory.limit: invalid type: floating",
            ),
            ("{\"mounts\": [\n}", "mounts[0]: expected value at line 2 column 1"),
            ("[]", "invalid type"),
            ("null", "config cannot be null"),
            ("", "EOF while parsing"),
        ];
        for (text, expected) in table {
            assert!(message(text).contains(expected), "{text}: {}", message(text));
        }
    }
}
