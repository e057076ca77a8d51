//! What is the same in two answers, and what is not.

use std::collections::{BTreeMap, BTreeSet};

use budu_testkit::http::Response;
use serde_json::Value;

/// A place in an answer, and what the two sides have there.
pub(super) type Difference = (String, Value, Value);

/// Headers that say nothing about the engine's answer.
const TRANSPORT: [&str; 4] = ["date", "content-length", "transfer-encoding", "connection"];

/// Fields whose values are random, or the moment's; only whether they are set counts.
const RANDOM: [&str; 9] = [
    "Pid",
    "MacAddress",
    "SandboxID",
    "SandboxKey",
    "EndpointID",
    "NetworkID",
    "HostnamePath",
    "HostsPath",
    "ResolvConfPath",
];

/// An answer without what is different in every run: ids, times, directories, names of bridges.
pub(super) fn plain(mut answer: Response, names: &BTreeMap<String, String>, bridge: &str) -> Response {
    let mut text = answer.text();
    for (name, value) in names.iter().filter(|(_, value)| value.len() > 8) {
        text = text.replace(value, &format!("<{name}>"));
    }
    answer.body = text.replace(bridge, "<bridge>").into_bytes();
    answer
}

/// All differences of two answers.
pub(super) fn answers(theirs: &Response, ours: &Response) -> Vec<Difference> {
    let mut found = Vec::new();
    if theirs.status != ours.status {
        found.push(("status".to_owned(), theirs.status.into(), ours.status.into()));
    }
    let fields = |answer: &Response| -> BTreeMap<String, Value> {
        let kept = answer.headers.iter().filter(|(name, _)| !TRANSPORT.contains(&name.as_str()));
        kept.map(|(name, value)| (name.clone(), value.clone().into())).collect()
    };
    let (left, right) = (fields(theirs), fields(ours));
    for name in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
        let (a, b) = (get(&left, name), get(&right, name));
        if a != b {
            found.push((format!("header {name}"), a, b));
        }
    }
    match (documents(theirs), documents(ours)) {
        (Some(a), Some(b)) => values("$", "", &a, &b, &mut found),
        _ => {
            let (a, b) = (line(&theirs.text()), line(&ours.text()));
            if a != b {
                found.push(("body".to_owned(), a.into(), b.into()));
            }
        }
    }
    found
}

fn get(map: &BTreeMap<String, Value>, name: &str) -> Value {
    map.get(name).cloned().unwrap_or_else(|| "<absent>".into())
}

/// The body as one JSON value, a stream of several as an array.
fn documents(answer: &Response) -> Option<Value> {
    let mut all =
        serde_json::Deserializer::from_slice(&answer.body).into_iter().collect::<Result<Vec<Value>, _>>().ok()?;
    match all.len() {
        0 => None,
        1 => all.pop(),
        _ => Some(Value::Array(all)),
    }
}

fn values(place: &str, key: &str, theirs: &Value, ours: &Value, found: &mut Vec<Difference>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let (a, b) = (by_plain_name(a), by_plain_name(b));
            for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let absent = Value::from("<absent>");
                let (a, b) = (a.get(name).unwrap_or(&absent), b.get(name).unwrap_or(&absent));
                values(&format!("{place}.{name}"), name, a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let (a, b) = (sorted(key, a), sorted(key, b));
            for (at, (a, b)) in a.iter().zip(&b).enumerate() {
                values(&format!("{place}[{at}]"), key, a, b, found);
            }
        }
        // Said in the place, so that it can be accepted without accepting anything else there.
        (Value::Null, Value::Array(list)) if list.is_empty() => {
            found.push((format!("{place} (null and [])"), theirs.clone(), ours.clone()));
        }
        (Value::Null, Value::Object(map)) if map.is_empty() => {
            found.push((format!("{place} (null and {{}})"), theirs.clone(), ours.clone()));
        }
        _ => {
            let (a, b) = (scalar(key, theirs), scalar(key, ours));
            if a != b {
                found.push((place.to_owned(), a, b));
            }
        }
    }
}

/// A map's key may be an id or an address; of several of them each has its place in the order of their values.
fn by_plain_name(map: &serde_json::Map<String, Value>) -> BTreeMap<String, Value> {
    let mut plain = BTreeMap::new();
    for (name, value) in map {
        let mut name = line(name);
        while plain.contains_key(&name) {
            name.push('+');
        }
        plain.insert(name, value.clone());
    }
    plain
}

/// Docker lists what has names, mounts and what was pruned in the order of a hash map; of masked paths the order is
/// nobody's business.
fn sorted(key: &str, list: &[Value]) -> Vec<Value> {
    let mut list = list.to_vec();
    let by = ["Destination", "Name"].into_iter().find(|by| list.iter().all(|item| item[*by].is_string()));
    if let Some(by) = by {
        list.sort_by_key(|item| line(item[by].as_str().unwrap_or_default()));
    } else if key.ends_with("Deleted") || key == "MaskedPaths" {
        list.sort_by_key(|item| line(item.as_str().unwrap_or_default()));
    }
    list
}

fn scalar(key: &str, value: &Value) -> Value {
    let set = match value {
        Value::String(text) => !text.is_empty() && text != "<absent>",
        Value::Number(number) => number.as_i64() != Some(0),
        _ => false,
    };
    match value {
        _ if set && RANDOM.contains(&key) => "<set>".into(),
        Value::String(text) => line(text).into(),
        // Seconds or nanoseconds since 1970, or memory: never the same twice.
        Value::Number(number) if number.as_i64().is_some_and(|number| number > 1_500_000_000) => "<large>".into(),
        other => other.clone(),
    }
}

/// Text with ids, times and durations replaced.
fn line(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || "-:.+".contains(c) {
            word.push(c);
            continue;
        }
        out.push_str(&plain_word(&word));
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    for (start, end) in [("Up ", ""), ("Exited (0) ", " ago"), ("Exited (1) ", " ago"), ("Exited (137) ", " ago")] {
        if out.starts_with(start) && out.ends_with(end) {
            return format!("{start}<duration>{end}");
        }
    }
    out
}

fn plain_word(word: &str) -> String {
    let hex = |len: usize| word.len() == len && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
    let date = word.split('T').next().unwrap_or_default();
    let mut parts = date.split('-');
    let is_date = word.contains('T')
        && parts.next().is_some_and(|part| digits(part, 4) && part > "2001")
        && parts.next().is_some_and(|part| digits(part, 2));
    let is_clock = word.split_once(':').is_some_and(|(hour, minute)| digits(hour, 2) && digits(minute, 2));
    if is_clock {
        "<clock>".to_owned()
    } else if hex(64) || (hex(12) && word.bytes().any(|b| b.is_ascii_alphabetic())) {
        "<id>".to_owned()
    } else if is_date && !word.starts_with("2026-01-02T03:04:05") {
        "<time>".to_owned()
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_random_is_the_same() {
        let a = json!({"Id": "a".repeat(64), "State": {"Pid": 12, "StartedAt": "2026-11-21T10:00:00.12Z"}, "n": 1});
        let b = json!({"Id": "b".repeat(64), "State": {"Pid": 77, "StartedAt": "2026-11-21T10:00:07.9Z"}, "n": 2});
        let mut found = Vec::new();
        values("$", "", &a, &b, &mut found);
        assert_eq!(found, [("$.n".to_owned(), json!(1), json!(2))]);
    }

    #[test]
    fn the_order_of_hash_maps_is_none() {
        let a = json!({"Mounts": [{"Destination": "/b"}, {"Destination": "/a"}], "NetworksDeleted": ["y", "x"]});
        let b = json!({"Mounts": [{"Destination": "/a"}, {"Destination": "/b"}], "NetworksDeleted": ["x", "y"]});
        let mut found = Vec::new();
        values("$", "", &a, &b, &mut found);
        let ids = |letter: &str| json!({letter.repeat(64): {"Name": "x"}});
        values("$", "", &ids("a"), &ids("b"), &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn zero_times_and_sentences_stay() {
        assert_eq!(line("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00Z");
        assert_eq!(line("No such container: nobody"), "No such container: nobody");
        assert_eq!(line("Exited (137) 3 seconds ago"), "Exited (137) <duration> ago");
    }
}
