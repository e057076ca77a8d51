//! The functions templates may call: Go's built-in ones and Docker's additions.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::data::Data;

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "println", "printf",
    "html", "js", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
];

/// Tells whether `name` is a function.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function (`and` and `or` are the renderer's, they need not evaluate everything).
pub(super) fn call(name: &str, args: &[Data]) -> Result<Data, String> {
    Ok(match (name, args) {
        ("not", [value]) => Data::Bool(!value.truth()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            Data::Bool(rest.iter().any(|other| compare(first, other) == Some(Ordering::Equal)))
        }
        ("ne", [a, b]) => Data::Bool(compare(a, b) != Some(Ordering::Equal)),
        ("lt", [a, b]) => Data::Bool(order(a, b)?.is_lt()),
        ("le", [a, b]) => Data::Bool(order(a, b)?.is_le()),
        ("gt", [a, b]) => Data::Bool(order(a, b)?.is_gt()),
        ("ge", [a, b]) => Data::Bool(order(a, b)?.is_ge()),
        ("len", [value]) => Data::Int(length(value)?),
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("print", _) => Data::Text(print(args)),
        ("println", _) => Data::Text(args.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [Data::Text(format), rest @ ..]) => Data::Text(printf(format, rest)),
        ("html", _) => Data::Text(escape_html(&print(args))),
        ("js", _) => Data::Text(escape_js(&print(args))),
        ("urlquery", _) => Data::Text(crate::client::escape(&print(args)).replace("%20", "+")),
        ("json", [value]) => Data::Text(value.to_json()),
        ("split", [Data::Text(text), Data::Text(by)]) => Data::List(text.split(by.as_str()).map(Data::from).collect()),
        ("join", [Data::List(list), Data::Text(by)]) => {
            Data::Text(list.iter().map(ToString::to_string).collect::<Vec<_>>().join(by))
        }
        ("join", [Data::Null, Data::Text(_)]) => Data::text(""),
        ("title", [Data::Text(text)]) => Data::Text(title(text)),
        ("lower", [Data::Text(text)]) => Data::Text(text.to_lowercase()),
        ("upper", [Data::Text(text)]) => Data::Text(text.to_uppercase()),
        ("pad", [Data::Text(text), Data::Int(before), Data::Int(after)]) => Data::Text(pad(text, *before, *after)),
        ("truncate", [Data::Text(text), Data::Int(most)]) => {
            Data::Text(text.chars().take(usize::try_from(*most).unwrap_or_default()).collect())
        }
        _ => return Err(format!("wrong number or type of arguments ({} given)", args.len())),
    })
}

fn number(data: &Data) -> Option<f64> {
    match data {
        Data::Int(n) => Some(*n as f64),
        Data::Float(n) => Some(*n),
        _ => None,
    }
}

fn compare(a: &Data, b: &Data) -> Option<Ordering> {
    match (a, b) {
        (Data::Int(a), Data::Int(b)) => Some(a.cmp(b)),
        (Data::Text(a), Data::Text(b)) => Some(a.cmp(b)),
        (Data::Bool(a), Data::Bool(b)) => Some(a.cmp(b)),
        (Data::Null, Data::Null) => Some(Ordering::Equal),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

fn order(a: &Data, b: &Data) -> Result<Ordering, String> {
    compare(a, b).ok_or_else(|| "incompatible types for comparison".to_owned())
}

fn length(value: &Data) -> Result<i64, String> {
    Ok(match value {
        Data::Text(text) => text.len(),
        Data::List(list) => list.len(),
        Data::Map(members) => members.len(),
        Data::Null => 0,
        other => return Err(format!("len of type of {other}")),
    } as i64)
}

fn index(value: &Data, keys: &[Data]) -> Result<Data, String> {
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Data::List(list), Data::Int(n)) => {
                let at = usize::try_from(*n).ok().and_then(|n| list.get(n));
                at.cloned().ok_or_else(|| format!("index out of range: {n}"))?
            }
            (Data::Map(members), Data::Text(name)) => members
                .iter()
                .find(|(key, _)| key == name)
                .map_or(Data::Text(String::new()), |(_, value)| value.clone()),
            (Data::Null, Data::Int(n)) => return Err(format!("index out of range: {n}")),
            (Data::Null, _) => return Err("index of untyped nil".to_owned()),
            (_, key) => return Err(format!("cannot index with {key}")),
        };
    }
    Ok(value)
}

fn slice(value: &Data, bounds: &[Data]) -> Result<Data, String> {
    let end = usize::try_from(length(value)?).unwrap_or_default();
    let bound = |n: usize, default| match bounds.get(n) {
        None => Ok(default),
        Some(Data::Int(n)) => usize::try_from(*n).ok().filter(|n| *n <= end).ok_or(format!("index out of range: {n}")),
        Some(other) => Err(format!("cannot index slice/array with {other}")),
    };
    let (from, to) = (bound(0, 0)?, bound(1, end)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Data::Text(text) => Data::text(text.get(from..to).ok_or("slice cuts a character")?),
        Data::List(list) => Data::List(list[from..to].to_vec()),
        _ => return Err("can't slice item".to_owned()),
    })
}

/// Go's `Sprint`: a space between two operands when neither is a text.
fn print(args: &[Data]) -> String {
    let mut out = String::new();
    for (n, value) in args.iter().enumerate() {
        let is_text = |data: &Data| matches!(data, Data::Text(_));
        if n > 0 && !is_text(value) && !is_text(&args[n - 1]) {
            out.push(' ');
        }
        let _ = write!(out, "{value}");
    }
    out
}

fn printf(format: &str, args: &[Data]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(c) = chars.next_if(|c| "+-# 0123456789.".contains(*c)) {
            spec.push(c);
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(verb) => match args.next() {
                Some(value) => out.push_str(&formatted(&spec, verb, value)),
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
            },
            None => out.push_str("%!(NOVERB)"),
        }
    }
    if args.len() > 0 {
        let rest: Vec<String> = args.map(|value| format!("{}={value}", type_name(value))).collect();
        let _ = write!(out, "%!(EXTRA {})", rest.join(", "));
    }
    out
}

fn type_name(data: &Data) -> &'static str {
    match data {
        Data::Null => "<nil>",
        Data::Bool(_) => "bool",
        Data::Int(_) => "int",
        Data::Float(_) => "float64",
        Data::List(_) => "[]interface {}",
        Data::Map(_) | Data::Row(_) | Data::Lookup(_) | Data::Head => "map[string]interface {}",
        Data::Text(_) => "string",
    }
}

fn formatted(spec: &str, verb: char, value: &Data) -> String {
    let flags: String = spec.chars().take_while(|c| "+-# 0".contains(*c)).collect();
    let (width, precision) =
        spec[flags.len()..].split_once('.').map_or((&spec[flags.len()..], None), |(w, p)| (w, Some(p)));
    let precision = precision.map(|digits| digits.parse::<usize>().unwrap_or_default());
    let body = match (verb, value) {
        ('s' | 'v', value) => {
            let text = value.to_string();
            precision.filter(|_| verb == 's').map_or(text.clone(), |most| text.chars().take(most).collect())
        }
        ('q', Data::Int(n)) => format!("{:?}", u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')),
        ('q', value) => serde_json::to_string(&value.to_string()).unwrap_or_default(),
        ('d', Data::Int(n)) => n.to_string(),
        ('x', Data::Int(n)) => format!("{n:x}"),
        ('X', Data::Int(n)) => format!("{n:X}"),
        ('o', Data::Int(n)) => format!("{n:o}"),
        ('b', Data::Int(n)) => format!("{n:b}"),
        ('c', Data::Int(n)) => u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        ('x', value @ Data::Text(_)) => budu_spec::id::hex(value.to_string().as_bytes()),
        ('t', Data::Bool(on)) => on.to_string(),
        ('f', value) if number(value).is_some() => {
            format!("{:.*}", precision.unwrap_or(6), number(value).unwrap_or_default())
        }
        ('g', value) if number(value).is_some() => value.to_string(),
        ('T', value) => type_name(value).to_owned(),
        _ => format!("%!{verb}({}={value})", type_name(value)),
    };
    let width: usize = width.parse().unwrap_or_default();
    let missing = width.saturating_sub(body.chars().count());
    if flags.contains('-') {
        return body + &" ".repeat(missing);
    }
    if flags.contains('0') {
        let (sign, digits) = body.strip_prefix('-').map_or(("", body.as_str()), |digits| ("-", digits));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &body
}

fn pad(text: &str, before: i64, after: i64) -> String {
    if text.is_empty() {
        return String::new();
    }
    let spaces = |n: i64| " ".repeat(usize::try_from(n).unwrap_or_default());
    spaces(before) + text + &spaces(after)
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let upper = start;
            start = !c.is_alphanumeric() && c != '_';
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => {
                out.push('\\');
                out.push(c);
            }
            '<' | '>' | '&' | '=' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c if u32::from(c) < 32 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}
