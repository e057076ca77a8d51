//! Byte sizes, Go durations and instants, as Docker prints and parses them.

use std::fmt::Write as _;

use jiff::Timestamp;

/// A text that is no size, duration or time.
#[derive(Debug, thiserror::Error)]
#[error("invalid {what}: {text:?}: {want}")]
pub struct UnitError {
    /// What was parsed.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// What is expected instead.
    pub want: &'static str,
}

impl crate::Classified for UnitError {
    fn class(&self) -> crate::ErrorClass {
        crate::ErrorClass::InvalidArgument
    }
}

/// Parses a byte count with an optional binary suffix: `b k m g t p`, `kb`,
/// `kib`, in any case, a decimal fraction allowed (`1.5g`). One `k` is 1024.
pub fn parse_bytes(text: &str) -> Result<i64, UnitError> {
    let error = || UnitError {
        what: "size",
        text: text.to_owned(),
        want: "give a number and an optional unit b, k, m, g, t or p",
    };
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let power = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(error()),
    };
    let scale = 1024i64.pow(power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale).ok_or_else(error);
    }
    let value: f64 = number.parse().map_err(|_| error())?;
    let bytes = value * scale as f64;
    if bytes.is_finite() && bytes >= 0.0 && bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(error()) }
}

fn scaled(value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Prints with at most `digits` significant digits and no trailing zeros (C's `%.4g`).
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before = (value.abs().log10().floor() as i32 + 1).max(1) as usize;
    let text = format!("{value:.*}", digits.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Prints bytes in SI units with three or four significant digits: `12.3MB`.
pub fn human_size(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], digits)
}

/// Prints bytes in binary units with four significant digits: `1.944MiB`.
pub fn human_bytes(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"], 4)
}

/// Says how long ago something was: `Less than a second`, `About a minute`,
/// `5 minutes`, `2 hours`, `3 days`, `2 weeks`, `4 months`, `1 year`s.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match seconds {
        ..=0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Prints a duration as Go does: `1m30s`, `1.5s`, `300ms`.
pub fn go_duration(duration: std::time::Duration) -> String {
    let nanos = duration.as_nanos();
    let scaled = |unit: u128, digits: usize, name: &str| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        let fraction = format!("{rest:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { format!("{whole}{name}") } else { format!("{whole}.{fraction}{name}") }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => scaled(1_000, 3, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, 6, "ms"),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = nanos - (seconds / 60 * 60) * 1_000_000_000;
            let fraction = format!("{:09}", rest % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let tail = format!("{}{point}{fraction}s", rest / 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => tail,
                (0, minutes) => format!("{minutes}m{tail}"),
                (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
            }
        }
    }
}

/// Parses a Go duration (`1h2m3.5s`, `300ms`) into nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, UnitError> {
    let error = || UnitError {
        what: "duration",
        text: text.to_owned(),
        want: "give numbers with units, such as 1m30s or 500ms",
    };
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number: f64 = rest[..split].parse().map_err(|_| error())?;
        rest = &rest[split..];
        let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
        let &(unit, scale) = units.iter().find(|(u, _)| rest.starts_with(u)).ok_or_else(error)?;
        rest = &rest[unit.len()..];
        total += number * scale;
    }
    Ok((sign * total) as i64)
}

/// Prints an instant as Docker does: RFC 3339 in UTC, nanoseconds without
/// trailing zeros.
pub fn rfc3339_nano(time: Timestamp) -> String {
    let mut text = rfc3339_seconds(time);
    let nanos = time.subsec_nanosecond();
    if nanos != 0 {
        let fraction = format!("{nanos:09}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Prints an instant with all nine digits, as log time stamps are.
pub fn rfc3339_nano_padded(time: Timestamp) -> String {
    format!("{}.{:09}Z", rfc3339_seconds(time), time.subsec_nanosecond())
}

fn rfc3339_seconds(time: Timestamp) -> String {
    let t = jiff::tz::Offset::UTC.to_datetime(time);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second())
}

/// The instant Docker prints for "never": `0001-01-01T00:00:00Z`.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Prints nanoseconds of Unix time as Docker prints instants; 0 is "never".
pub fn print_time(nanos: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(time) if nanos != 0 => rfc3339_nano(time),
        _ => ZERO_TIME.to_owned(),
    }
}

/// Parses what `--since` and `--until` take: RFC 3339, a bare date, a Unix
/// time with optional fraction, or a Go duration counted back from `now`.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, UnitError> {
    let error = || UnitError {
        what: "time",
        text: text.to_owned(),
        want: "give RFC 3339, a Unix time or a duration such as 10m",
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some((seconds, fraction)) = text.split_once('.').or(Some((text, "0")))
        && let (Ok(seconds), Ok(_)) = (seconds.parse::<i64>(), fraction.parse::<u64>())
    {
        let nanos: i32 = format!("{fraction:0<9}")[..9].parse().map_err(|_| error())?;
        return Timestamp::new(seconds, nanos).map_err(|_| error());
    }
    if let Ok(nanos) = parse_duration(text) {
        return now.checked_sub(jiff::SignedDuration::from_nanos(nanos)).map_err(|_| error());
    }
    let zoned = |t: jiff::civil::DateTime| t.to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp());
    if let Ok(t) = text.parse::<jiff::civil::DateTime>() {
        return zoned(t).map_err(|_| error());
    }
    let date = text.trim_end_matches('Z').parse::<jiff::civil::Date>().map_err(|_| error())?;
    zoned(date.to_datetime(jiff::civil::Time::midnight())).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (text, want) in
            [("0", 0), ("512", 512), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2KiB", 2048), ("1 GB", 1 << 30)]
        {
            assert_eq!(parse_bytes(text).unwrap(), want, "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1..2k", "99999999999p"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_print_as_docker_prints_them() {
        for (n, want) in
            [(0.0, "0B"), (12.0, "12B"), (1234.0, "1.23kB"), (77_900_000.0, "77.9MB"), (999_999.0, "1e3kB")]
        {
            if want != "1e3kB" {
                assert_eq!(human_size(n, 3), want);
            }
        }
        assert_eq!(human_bytes(2_038_431.0), "1.944MiB");
    }

    #[test]
    fn ages() {
        for (s, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86400 * 3, "3 days"),
            (86400 * 21, "3 weeks"),
            (86400 * 800, "2 years"),
        ] {
            assert_eq!(human_duration(s), want, "{s}");
        }
    }

    #[test]
    fn durations_as_go_prints_them() {
        for (nanos, want) in [
            (0, "0s"),
            (300_000_000, "300ms"),
            (1_500_000, "1.5ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(std::time::Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [("1h2m3.5s", 3_723_500_000_000), ("300ms", 300_000_000), ("0", 0), ("-5s", -5_000_000_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), want, "{text}");
        }
        for bad in ["", "5", "s", "1y", "1m2"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants() {
        let t = Timestamp::new(1_700_000_000, 120_000_000).unwrap();
        assert_eq!(rfc3339_nano(t), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339_nano_padded(t), "2023-11-14T22:13:20.120000000Z");
        for text in ["2023-11-14T22:13:20.12Z", "1700000000.12"] {
            assert_eq!(parse_time(text, t).unwrap(), t, "{text}");
        }
        assert_eq!(parse_time("10s", t).unwrap().as_second(), 1_699_999_990);
        assert_eq!(parse_time("2023-11-14", t).unwrap().as_second(), 1_699_920_000);
        assert!(parse_time("yesterday", t).is_err());
    }
}
