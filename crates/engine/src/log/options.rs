//! Options of log drivers: which there are, and what Docker says of wrong ones.
//!
//! Docker looks at names and a few values when a container is made, and at the
//! rest when it starts; so does this.

use std::collections::BTreeMap;

use budu_spec::docker::LogConfig;
use budu_spec::units;

use super::driver::Driver;
use crate::Error;

/// Options as they were given.
pub(crate) type Options = BTreeMap<String, String>;

/// Every driver takes these.
const COMMON: &[&str] = &["mode", "max-buffer-size", "cache-disabled"];
/// Which labels and variables go with each record, and the tag.
const ABOUT: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];
const FILE: &[&str] = &["max-size", "max-file", "compress"];
const SYSLOG: &[&str] = &[
    "syslog-address",
    "syslog-facility",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "syslog-format",
];
const FLUENTD: &[&str] = &[
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
];

/// Checks a driver and its options as Docker does when a container is made.
///
/// # Errors
/// [`Error::Invalid`] with Docker's text.
pub fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
    if driver == "none" {
        return Ok(());
    }
    let mode = text(options, "mode");
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            let message = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
            return Err(Error::invalid(message));
        }
        ram(size).map_err(|e| Error::invalid(format!("error parsing option max-buffer-size: {e}")))?;
    }
    if let Some(text) = options.get("cache-disabled").filter(|t| !t.is_empty() && boolean(t).is_none()) {
        return Err(Error::invalid(format!("invalid value for option cache-disabled: {text}")));
    }
    let Some(kind) = Driver::named(driver) else {
        let missing = format!("plugin \"{driver}\" not found");
        return Err(Error::invalid(format!("error looking up logging plugin {driver}: {missing}")));
    };
    names(kind, driver, options)?;
    match kind {
        Driver::Syslog => super::syslog::check(options),
        Driver::Gelf => super::gelf::check(options),
        Driver::Fluentd => super::fluentd::check(options),
        Driver::None | Driver::JsonFile | Driver::Local | Driver::Journald => Ok(()),
    }
}

/// Fills the daemon's defaults in, and checks the result.
///
/// # Errors
/// As [`check`].
pub(crate) fn settle(config: &mut LogConfig, defaults: &crate::Options) -> Result<(), Error> {
    if config.kind.is_empty() {
        config.kind.clone_from(&defaults.log_driver);
    }
    let same = config.kind == defaults.log_driver;
    for (key, value) in defaults.log_options.iter().filter(|(key, _)| same || key.starts_with("cache-")) {
        config.config.entry(key.clone()).or_insert_with(|| value.clone());
    }
    check(&config.kind, &config.config)
}

/// Whether every option is one of the driver.
fn names(kind: Driver, driver: &str, options: &Options) -> Result<(), Error> {
    let own: &[&str] = match kind {
        Driver::JsonFile | Driver::Local => FILE,
        Driver::Syslog => SYSLOG,
        Driver::Fluentd => FLUENTD,
        Driver::Journald | Driver::None => &[],
        // Says which of its own do not go with its address, too.
        Driver::Gelf => return Ok(()),
    };
    match options.keys().find(|key| !is_common(key) && !own.contains(&key.as_str())) {
        Some(key) if kind == Driver::Local => {
            Err(Error::invalid(format!("unknown log opt '{key}' for log driver local")))
        }
        Some(key) => Err(Error::invalid(format!("unknown log opt '{key}' for {driver} log driver"))),
        None => Ok(()),
    }
}

/// Options that every driver takes.
pub(super) fn is_common(key: &str) -> bool {
    let of_cache = key.strip_prefix("cache-").is_some_and(|key| FILE.contains(&key) || ABOUT.contains(&key));
    COMMON.contains(&key) || ABOUT.contains(&key) || of_cache
}

/// An option; empty when it was not given.
pub(super) fn text<'a>(options: &'a Options, key: &str) -> &'a str {
    options.get(key).map(String::as_str).unwrap_or_default()
}

/// A switch; `None` when it is none. The words are those of Go.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A switch that is off when it was not given, with the text for a wrong value.
pub(super) fn flag(options: &Options, key: &str) -> Result<bool, Error> {
    match text(options, key) {
        "" => Ok(false),
        value => boolean(value)
            .ok_or_else(|| Error::invalid(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))),
    }
}

/// A size with binary units.
pub(super) fn ram(text: &str) -> Result<u64, String> {
    size(text, 1024)
}

/// A size with decimal units, as `max-size` has them.
pub(super) fn decimal(text: &str) -> Result<u64, String> {
    size(text, 1000)
}

fn size(text: &str, base: u64) -> Result<u64, String> {
    let bad = || format!("invalid size: '{text}'");
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(bad)? + 1;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| bad())?;
    if number < 0.0 {
        return Err(bad());
    }
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{unit}'")),
    };
    Ok((number * base.pow(power) as f64) as u64)
}

/// A duration in Go's spelling, with Go's text for a wrong one.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    units::parse_duration(text).map_err(|_| {
        let number = text.trim_start_matches(['-', '+']);
        match () {
            () if number.is_empty() || !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                format!("time: invalid duration {text:?}")
            }
            () if number.chars().all(|c| c.is_ascii_digit() || c == '.') => {
                format!("time: missing unit in duration {text:?}")
            }
            () => {
                let unit: String = number.chars().skip_while(|c| c.is_ascii_digit() || *c == '.').collect();
                let unit = unit.split(|c: char| c.is_ascii_digit() || c == '.').next().unwrap_or_default();
                format!("time: unknown unit {unit:?} in duration {text:?}")
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(driver: &str, pairs: &[(&str, &str)]) -> String {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        check(driver, &options).map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn refusals_are_dockers() {
        for (driver, pairs, want) in [
            ("json-file", &[("max-size", "nonsense"), ("tag", "x"), ("mode", "blocking")][..], ""),
            ("none", &[("whatever", "x")], ""),
            ("local", &[("cache-max-size", "1m"), ("env-regex", "^A")], ""),
            ("json-file", &[("mode", "fast")], "logger: logging mode not supported: fast"),
            (
                "json-file",
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                "json-file",
                &[("max-buffer-size", "x"), ("mode", "non-blocking")],
                "error parsing option max-buffer-size: invalid size: 'x'",
            ),
            ("syslog", &[("cache-disabled", "maybe")], "invalid value for option cache-disabled: maybe"),
            ("splonk", &[], "error looking up logging plugin splonk: plugin \"splonk\" not found"),
            ("json-file", &[("syslog-address", "x")], "unknown log opt 'syslog-address' for json-file log driver"),
            ("local", &[("nope", "x")], "unknown log opt 'nope' for log driver local"),
            ("journald", &[("max-size", "1m")], "unknown log opt 'max-size' for journald log driver"),
            ("fluentd", &[("nope", "1")], "unknown log opt 'nope' for fluentd log driver"),
        ] {
            assert_eq!(said(driver, pairs), want, "{driver} {pairs:?}");
        }
    }

    #[test]
    fn sizes_and_durations() {
        assert_eq!((decimal("20m"), ram("1m")), (Ok(20_000_000), Ok(1 << 20)));
        assert_eq!(decimal("1.5k"), Ok(1500));
        assert_eq!(decimal("10q"), Err("invalid suffix: 'q'".to_owned()));
        assert_eq!(ram("-1"), Err("invalid size: '-1'".to_owned()));
        for (text, want) in [
            ("x", "time: invalid duration \"x\""),
            ("10", "time: missing unit in duration \"10\""),
            ("10y", "time: unknown unit \"y\" in duration \"10y\""),
        ] {
            assert_eq!(duration(text), Err(want.to_owned()));
        }
    }
}
