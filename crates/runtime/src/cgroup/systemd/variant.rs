//! Properties from annotations, in GVariant's text format
//! (<https://docs.gtk.org/glib/gvariant-text-format.html>): as much of it as
//! properties of units need, which are numbers, texts, truth and lists of these.

use budu_sys::dbus::Value;

use super::Property;
use crate::init::{Failing, invalid};

/// What an annotation may not change: which processes and limits belong
/// together is the configuration's business, and none of a container's
/// properties acts on the host.
const FIXED: &[&str] = &[
    "Slice",
    "PIDs",
    "PIDFDs",
    "Delegate",
    "DelegateControllers",
    "DelegateSubgroup",
    "DevicePolicy",
    "DeviceAllow",
    "BPFProgram",
    "IPIngressFilterPath",
    "IPEgressFilterPath",
    "Controller",
    "User",
    "Group",
    "SuccessAction",
    "FailureAction",
    "JobTimeoutAction",
    "StartLimitAction",
    "OnFailure",
    "OnSuccess",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Upholds",
    "Wants",
    "Conflicts",
    "PropagatesStopTo",
    "Triggers",
];

/// The properties that annotations `org.systemd.property.NAME` ask for.
pub(super) fn annotated(annotations: &[(String, String)]) -> Failing<Vec<Property>> {
    annotations.iter().map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Failing<Property> {
    let key = format!("org.systemd.property.{name}");
    let wrong = |reason: &str| invalid(format!("annotation {key} name incorrect: {reason}"));
    if name.len() < 3 {
        return Err(wrong("too short"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong("contains non-alphabetic character"));
    }
    if FIXED.contains(&name) || name.starts_with("Exec") {
        return Err(wrong("it is not an annotation's to set"));
    }
    let bad = |reason: &str| invalid(format!("annotation {key}={text} value parse error: {reason}"));
    let value = parse(text).ok_or_else(|| bad("want GVariant text, such as 'text', true, 7 or uint64 7"))?;
    // Documented in seconds, told in microseconds.
    match name.strip_suffix("Sec") {
        Some(rest) if rest.ends_with(|letter: char| letter.is_ascii_lowercase()) => {
            let value = microseconds(&value).ok_or_else(|| bad("not a number"))?;
            Ok((format!("{rest}USec"), Value::U64(value)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    const MICRO: u64 = 1_000_000;
    let whole = match value {
        Value::Byte(number) => u64::from(*number),
        Value::I16(number) => u64::try_from(*number).ok()?,
        Value::U16(number) => u64::from(*number),
        Value::I32(number) => u64::try_from(*number).ok()?,
        Value::U32(number) => u64::from(*number),
        Value::I64(number) => u64::try_from(*number).ok()?,
        Value::U64(number) => *number,
        // Saturates; a length of time is not negative.
        Value::F64(number) if *number >= 0.0 => return Some((number * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(MICRO)
}

/// One value and nothing after it.
fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, letter: char) -> bool {
        self.space();
        let found = self.rest.strip_prefix(letter);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn word(&mut self) -> String {
        self.space();
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-._".contains(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word.to_owned()
    }

    /// `kind` is the type if it is known.
    fn value(&mut self, kind: Option<&str>, depth: u8) -> Option<Value> {
        if depth > 8 {
            return None;
        }
        self.space();
        match self.rest.chars().next()? {
            '\'' | '"' => self.quoted().and_then(|text| texts(kind, text)),
            '[' => self.list(kind, depth),
            '(' => self.fields(kind, depth),
            '@' => {
                self.rest = &self.rest[1..];
                let end = self.rest.find(char::is_whitespace)?;
                let (kind, rest) = self.rest.split_at(end);
                let kind = kind.to_owned();
                self.rest = rest;
                self.value(Some(&kind), depth + 1)
            }
            '<' => {
                self.eat('<');
                let inner = self.value(None, depth + 1)?;
                self.eat('>').then(|| inner.boxed())
            }
            _ => {
                let word = self.word();
                match word.as_str() {
                    "true" | "false" if kind.is_none_or(|kind| kind == "b") => Some(Value::Bool(word == "true")),
                    named => match keyword(named) {
                        Some(kind) => self.value(Some(kind), depth + 1),
                        None => number(kind, named),
                    },
                }
            }
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let mut letters = self.rest.chars();
        let quote = letters.next()?;
        let mut text = String::new();
        loop {
            match letters.next()? {
                '\\' => text.push(match letters.next()? {
                    'n' => '\n',
                    't' => '\t',
                    same @ ('\\' | '\'' | '"') => same,
                    _ => return None,
                }),
                end if end == quote => break,
                '\0' => return None,
                other => text.push(other),
            }
        }
        self.rest = letters.as_str();
        Some(text)
    }

    fn list(&mut self, kind: Option<&str>, depth: u8) -> Option<Value> {
        self.eat('[');
        let mut element = match kind {
            Some(kind) => Some(kind.strip_prefix('a')?.to_owned()),
            None => None,
        };
        let mut values = Vec::new();
        while !self.eat(']') {
            if !values.is_empty() && !self.eat(',') {
                return None;
            }
            let value = self.value(element.as_deref(), depth + 1)?;
            element = Some(value.signature());
            values.push(value);
        }
        Some(Value::Array(element?, values))
    }

    fn fields(&mut self, kind: Option<&str>, depth: u8) -> Option<Value> {
        // The types of fields are told by the fields.
        if kind.is_some_and(|kind| !kind.starts_with('(')) {
            return None;
        }
        self.eat('(');
        let mut values = Vec::new();
        while !self.eat(')') {
            if !values.is_empty() && !self.eat(',') {
                return None;
            }
            values.push(self.value(None, depth + 1)?);
        }
        let value = Value::Struct(values);
        kind.is_none_or(|kind| kind == value.signature()).then_some(value)
    }
}

fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

fn texts(kind: Option<&str>, text: String) -> Option<Value> {
    match kind {
        None | Some("s") => Some(Value::Text(text)),
        Some("o") => text.starts_with('/').then_some(Value::Path(text)),
        Some("g") => Some(Value::Signature(text)),
        _ => None,
    }
}

/// A number without type is `i`, or `d` when it has a point.
fn number(kind: Option<&str>, word: &str) -> Option<Value> {
    let kind = kind.unwrap_or(if word.contains('.') { "d" } else { "i" });
    if kind == "d" {
        return word.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::F64);
    }
    let (digits, negative) = word.strip_prefix('-').map_or((word, false), |digits| (digits, true));
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??,
    };
    let whole: i128 = if negative { -magnitude } else { magnitude };
    Some(match kind {
        "y" => Value::Byte(whole.try_into().ok()?),
        "n" => Value::I16(whole.try_into().ok()?),
        "q" => Value::U16(whole.try_into().ok()?),
        "i" => Value::I32(whole.try_into().ok()?),
        "u" => Value::U32(whole.try_into().ok()?),
        "x" => Value::I64(whole.try_into().ok()?),
        "t" => Value::U64(whole.try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let cases = [
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            ("\"it's\"", Value::text("it's")),
            (" true ", Value::Bool(true)),
            ("7", Value::I32(7)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("@t 5", Value::U64(5)),
            ("-1", Value::I32(-1)),
            ("0x10", Value::I32(16)),
            ("1.5", Value::F64(1.5)),
            ("['a', 'b']", Value::Array("s".into(), vec![Value::text("a"), Value::text("b")])),
            ("@as []", Value::Array("s".into(), Vec::new())),
            ("[byte 1, 2]", Value::Array("y".into(), vec![Value::Byte(1), Value::Byte(2)])),
            ("('a', true)", Value::Struct(vec![Value::text("a"), Value::Bool(true)])),
        ];
        for (text, value) in cases {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "x",
            "'a",
            "[1, 'a']",
            "[]",
            "uint64 -1",
            "byte 256",
            "7 8",
            "true x",
            "[1",
            "(1",
            "@t 'a'",
            "{'a': 1}",
            "nan",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"[".repeat(1000)), None);
    }

    #[test]
    fn names_and_seconds() {
        assert_eq!(property("TimeoutStopSec", "1").unwrap(), ("TimeoutStopUSec".to_owned(), Value::U64(1_000_000)));
        assert_eq!(property("RuntimeMaxSec", "2.5").unwrap(), ("RuntimeMaxUSec".to_owned(), Value::U64(2_500_000)));
        assert_eq!(property("TimeoutStopUSec", "uint64 7").unwrap().1, Value::U64(7));
        assert_eq!(property("CollectMode", "'x'").unwrap().0, "CollectMode");
        let message = property("x1", "1").unwrap_err().message;
        assert_eq!(message, "annotation org.systemd.property.x1 name incorrect: too short");
        for bad in ["Exec-Start", "Memory.Max", "ÄÄÄ", "Slice", "DeviceAllow", "ExecStart", "FailureAction", "PIDs"]
        {
            assert!(property(bad, "'x'").is_err(), "{bad}");
        }
        assert!(property("TimeoutStopSec", "'soon'").is_err());
    }
}
