//! Small changes of valid documents.

use serde_json::{Value, json};

/// xorshift: the same cases every time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, case: u64) -> Random {
        let mut random = Random((seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Texts that have meant trouble somewhere.
const TEXTS: [&str; 40] = [
    "",
    "/",
    "..",
    "../..",
    "/..",
    "/proc/self/fd/3",
    "//",
    "./",
    "a\0b",
    "\n",
    "*",
    "=",
    "A=",
    "=A",
    ":",
    "1:2:3",
    "0",
    "-1",
    "+0",
    "0x0",
    "1e9",
    "4294967296",
    "18446744073709551616",
    "0-",
    "-0",
    "3-1",
    "0-4294967295",
    "0-99999999999999",
    "1,,2",
    "max",
    "unlimited",
    "ü",
    "\u{feff}",
    "\u{202e}",
    "tmpfs",
    "bind",
    "rro",
    "SCMP_ACT_NOTIFY",
    "CAP_SYS_ADMIN",
    "RLIMIT_NOFILE",
];

fn edge(random: &mut Random) -> Value {
    let numbers = [
        json!(-1),
        json!(0),
        json!(1),
        json!(7),
        json!(255),
        json!(65536),
        json!(i32::MAX),
        json!(u32::MAX),
        json!(1u64 << 32),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(-0.0),
        json!(1e308),
    ];
    match random.below(7) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 | 3 => random.pick(&numbers).clone(),
        4 => json!(*random.pick(&TEXTS)),
        5 => json!([]),
        _ => json!({}),
    }
}

/// The number of values in a document.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        _ => 0,
    }
}

/// The value with this number, counted from the top.
fn at<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|one| at(one, number)),
        Value::Object(members) => members.values_mut().find_map(|one| at(one, number)),
        _ => None,
    }
}

fn pick<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let mut number = random.below(size(value));
    if number == 0 {
        return value;
    }
    let total = size(value);
    number = number.min(total - 1);
    at(value, &mut number).unwrap()
}

/// Changes a document in up to four places.
pub(crate) fn mutate(document: &mut Value, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let other = pick(document, random).clone();
        let place = pick(document, random);
        match random.below(9) {
            0 | 1 => *place = edge(random),
            2 => *place = other,
            3 => *place = json!([place.take()]),
            4 => more(place, random),
            5 => less(place, random),
            6 | 7 => twist(place, random),
            _ => rename(place, random),
        }
    }
}

/// More of the same.
fn more(place: &mut Value, random: &mut Random) {
    match place {
        Value::Array(list) if !list.is_empty() => {
            let one = random.pick(list).clone();
            // Size is what is tried here, but not that of our own memory.
            let times = if size(&one) > 30 { 3 } else { [1, 2, 40, 700][random.below(4)] };
            list.extend(std::iter::repeat_n(one, times));
        }
        Value::String(text) if text.len() < 1000 => {
            let times = [2, 3, 300, 5000][random.below(4)];
            *text = text.repeat(times);
        }
        Value::Object(members) => {
            let value = edge(random);
            members.insert((*random.pick(&TEXTS)).to_owned(), value);
        }
        other => *other = edge(random),
    }
}

fn less(place: &mut Value, random: &mut Random) {
    match place {
        Value::Array(list) if !list.is_empty() => {
            let number = random.below(list.len());
            list.remove(number);
        }
        Value::Object(members) if !members.is_empty() => {
            let key = members.keys().nth(random.below(members.len())).cloned().unwrap();
            members.remove(&key);
        }
        Value::String(text) => {
            text.pop();
        }
        other => *other = Value::Null,
    }
}

/// Almost what it was.
fn twist(place: &mut Value, random: &mut Random) {
    match place {
        Value::String(text) => *text = twisted(text, random),
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            *place = json!(number.wrapping_add([-1, 1, 1 << 31, 1 << 32, i64::MAX][random.below(5)]));
        }
        Value::Bool(set) => *set = !*set,
        Value::Array(list) if list.len() > 1 => {
            let (one, other) = (random.below(list.len()), random.below(list.len()));
            list.swap(one, other);
        }
        other => *other = edge(random),
    }
}

/// A text with one change.
pub(crate) fn twisted(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let place = random.below(letters.len() + 1);
    match random.below(5) {
        0 => letters.insert(place, *random.pick(&['/', '.', '\0', '\n', '-', ',', '0', '9', ' ', '%', 'ü', ':', '='])),
        1 if place < letters.len() => drop(letters.remove(place)),
        2 => letters.truncate(place),
        3 => letters.splice(place..place, random.pick(&TEXTS).chars()).for_each(drop),
        _ => return text.to_uppercase(),
    }
    letters.into_iter().collect()
}

/// Another case, or another name altogether.
fn rename(place: &mut Value, random: &mut Random) {
    let Value::Object(members) = place else { return twist(place, random) };
    let Some(key) = members.keys().nth(random.below(members.len())).cloned() else { return };
    let value = members.remove(&key).unwrap_or_default();
    let key = if random.below(2) == 0 { key.to_uppercase() } else { twisted(&key, random) };
    members.insert(key, value);
}
