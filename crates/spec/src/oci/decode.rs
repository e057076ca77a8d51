//! JSON as Go's decoder reads it, which every producer of a `config.json` was tested with.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What could not be read, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}{}{reason}", path, if path.is_empty() { "" } else { ": " })]
pub struct DecodeError {
    /// The member, such as `linux.resources.devices[1].major`; empty when the text is no JSON at all.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// Reads one value from the beginning of `text`. Unknown members are ignored, `null` is the same as absent, the last of
/// several members of one name counts, and so does nothing that follows the value.
///
/// # Errors
/// Names the member whose type is wrong, or the line and column where the text stops being JSON.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, DecodeError> {
    // What nearly everybody writes needs no second look.
    if let Ok(value) = T::deserialize(&mut serde_json::Deserializer::from_slice(text)) {
        return Ok(value);
    }
    let value: Value = serde::Deserialize::deserialize(&mut serde_json::Deserializer::from_slice(text))
        .map_err(|error: serde_json::Error| DecodeError { path: String::new(), reason: error.to_string() })?;
    if value.is_null() {
        return Err(DecodeError { path: String::new(), reason: "config cannot be null".to_owned() });
    }
    serde_path_to_error::deserialize(without_nulls(value)).map_err(|error| {
        let path = error.path().to_string();
        DecodeError { path: if path == "." { String::new() } else { path }, reason: error.into_inner().to_string() }
    })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| !member.is_null());
            Value::Object(kept.map(|(name, member)| (name, without_nulls(member))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
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
        let text = r#"{"ociVersion":"1.0.2","root":null,"hooks":null,"mounts":[{"destination":"/a","options":null,
            "uidMappings":null}],"process":{"args":null,"user":{"uid":1,"additionalGids":null},"capabilities":null,
            "rlimits":null},"annotations":null,"linux":{"namespaces":null,"sysctl":null,"seccomp":{"defaultAction":
            "SCMP_ACT_ALLOW","flags":null,"syscalls":null},"resources":{"pids":{"limit":null},"memory":null,
            "blockIO":{"weightDevice":null},"unified":null}}}"#;
        let spec: Spec = decode(text.as_bytes()).unwrap();
        assert_eq!(spec.mounts[0].destination, "/a");
        assert_eq!(spec.process.unwrap().user.uid, 1);
        let linux = spec.linux.unwrap();
        assert_eq!(linux.seccomp.unwrap().flags, None);
        assert_eq!(linux.resources.unwrap().pids.unwrap().limit, -1);
    }

    #[test]
    fn go_forgives() {
        let text = r#"{"ociVersion":"0","ociVersion":"1.0.0","unknown":{"a":1},"linux":{"who":[]}} trailing"#;
        assert_eq!(decode::<Spec>(text.as_bytes()).unwrap().oci_version, "1.0.0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (r#"{"process":{"user":{"uid":"root"}}}"#, "process.user.uid: invalid type: string"),
            (r#"{"process":{"user":{"uid":-1}}}"#, "process.user.uid: invalid value: integer `-1`"),
            (
                r#"{"linux":{"resources":{"devices":[{"allow":true},{"allow":"yes"}]}}}"#,
                "linux.resources.devices[1].allow",
            ),
            (r#"{"linux":{"sysctl":{"a.b":1}}}"#, "linux.sysctl.a.b: invalid type: integer"),
            (r#"{"hooks":{"prestart":{}}}"#, "hooks.prestart: invalid type: map"),
            ("{\"mounts\": [\n}", "expected value at line 2 column 1"),
            ("null", "config cannot be null"),
            ("", "EOF while parsing"),
        ];
        for (text, expected) in table {
            assert!(message(text).contains(expected), "{text}: {}", message(text));
        }
    }
}
