//! The `filters` query parameter of list, prune and event requests.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Classified, ErrorClass};

/// Filter keys and their wished values. Several values of one key are
/// alternatives, except for labels, which must all hold.
///
/// Accepts both spellings on the wire: `{"label":{"a=b":true}}` and the older
/// `{"label":["a=b"]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// The `filters` parameter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Not JSON of either form.
    #[error("invalid filter")]
    Malformed,
    /// A key this list does not know.
    #[error("invalid filter '{key}'")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A value this key does not take.
    #[error("invalid filter '{key}={value}'{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    BadValue {
        /// The key.
        key: String,
        /// The value; in brackets, where the key takes only one.
        value: String,
        /// What would be right; may be empty.
        reason: String,
    },
}

impl Classified for FilterError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl Filters {
    /// Parses the parameter; an empty text means no filters.
    pub fn parse(text: &str) -> Result<Filters, FilterError> {
        let mut filters = Filters::default();
        if text.is_empty() {
            return Ok(filters);
        }
        let value: Value = serde_json::from_str(text).map_err(|_| FilterError::Malformed)?;
        let Value::Object(map) = value else { return Err(FilterError::Malformed) };
        for (key, values) in map {
            let list = match values {
                Value::Object(set) => {
                    set.into_iter().filter(|(_, on)| on != &Value::Bool(false)).map(|(v, _)| v).collect()
                }
                Value::Array(list) => list
                    .into_iter()
                    .map(|v| v.as_str().map(str::to_owned).ok_or(FilterError::Malformed))
                    .collect::<Result<Vec<_>, _>>()?,
                _ => return Err(FilterError::Malformed),
            };
            filters.0.insert(key, list);
        }
        Ok(filters)
    }

    /// Adds one wished value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// Prints the map-of-maps form that every API version understands.
    pub fn to_json(&self) -> String {
        let map: BTreeMap<&str, BTreeMap<&str, bool>> =
            self.0.iter().map(|(k, v)| (k.as_str(), v.iter().map(|v| (v.as_str(), true)).collect())).collect();
        serde_json::to_string(&map).expect("a map of strings is always JSON")
    }

    /// Tells whether no filter is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses keys outside `known`.
    pub fn check_keys(&self, known: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) => Err(FilterError::UnknownKey { key: key.clone() }),
            None => Ok(()),
        }
    }

    /// Returns the values of `key`, empty when it is not filtered on.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// True when `key` is not filtered on or one of its values equals `value`.
    pub fn allows(&self, key: &str, value: &str) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|v| v == value)
    }

    /// True when `key` is not filtered on or one of its values, read as a
    /// regular expression, matches `value` anywhere (a pattern that does not
    /// compile is compared as text).
    pub fn matches(&self, key: &str, value: &str) -> bool {
        let values = self.values(key);
        values.is_empty()
            || values.iter().any(|v| v == value || regex_lite::Regex::new(v).is_ok_and(|re| re.is_match(value)))
    }

    /// True when every `label` filter (`key` or `key=value`) holds and no `label!` does.
    pub fn labels_match(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wish: &String| match wish.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wish),
        };
        self.values("label").iter().all(holds) && !self.values("label!").iter().any(holds)
    }

    /// Reads a boolean filter such as `dangling`; `None` when it is not set.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let Some(value) = self.values(key).first() else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(Some(true)),
            "0" | "f" | "false" => Ok(Some(false)),
            _ => Err(FilterError::BadValue {
                key: key.to_owned(),
                value: format!("[{}]", self.values(key).join(" ")),
                reason: String::new(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wire_forms() {
        let new = Filters::parse(r#"{"label":{"a=b":true},"status":{"running":true}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a=b"],"status":["running"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse(&new.to_json()).unwrap(), new);
        assert!(Filters::parse("").unwrap().is_empty());
        for bad in ["[]", "{", "{\"a\":1}", "{\"a\":[1]}"] {
            assert!(Filters::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_key_is_named() {
        let error = Filters::parse(r#"{"nope":["x"]}"#).unwrap().check_keys(&["id"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'nope'");
        let error = Filters::parse(r#"{"dangling":["x"]}"#).unwrap().flag("dangling").unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'dangling=[x]'");
        assert_eq!(Filters::parse("x").unwrap_err().to_string(), "invalid filter");
    }

    #[test]
    fn labels_are_all_required() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (json, want) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","c"]}"#, false),
            (r#"{"label!":["a"]}"#, false),
        ] {
            assert_eq!(Filters::parse(json).unwrap().labels_match(&labels), want, "{json}");
        }
    }
}
