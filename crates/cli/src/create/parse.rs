//! Values of single flags. The texts of complaints are Docker's: scripts look for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use budu_spec::docker::{DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};
use budu_spec::kernel::{RLIMITS, Scope, sysctl_scope};

/// `--attach`: one of the three streams.
pub(super) fn attach(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    match lower.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(lower),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// `--add-host`: `host:ip` or `host=ip`, address perhaps in brackets.
pub(super) fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let at = text.find(['=', ':']).ok_or_else(bad)?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    if name.is_empty() {
        return Err(bad());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

/// `--dns`: an address.
pub(super) fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// `--cpus`: a decimal number or a fraction, in billionths.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (over, under) = text.split_once('/').unwrap_or((text, "1"));
    let scaled = |number: &str| -> Option<i128> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let (negative, whole) = whole.strip_prefix('-').map_or((false, whole), |whole| (true, whole));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 9 || fraction.len() > 18 {
            return None;
        }
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok().map(i128::from) };
        let value = digits(whole)? * 10i128.pow(18) + digits(&format!("{fraction:0<18}"))?;
        Some(if negative { -value } else { value })
    };
    let (over, under) = (scaled(over).ok_or_else(bad)?, scaled(under).ok_or_else(bad)?);
    if under == 0 {
        return Err(bad());
    }
    let nanos = over * 1_000_000_000;
    if nanos % under != 0 {
        return Err("value is too precise".to_owned());
    }
    i64::try_from(nanos / under).map_err(|_| bad())
}

/// `--sysctl`: `name=value` in a namespaced part of the kernel's parameters.
pub(super) fn sysctl(text: &str) -> Result<(String, String), String> {
    let refused = || format!("sysctl '{text}' is not allowed");
    let (name, value) = text.split_once('=').ok_or_else(refused)?;
    let allowed = matches!(sysctl_scope(name), Some(Scope::Ipc | Scope::Network));
    if allowed { Ok((name.to_owned(), value.to_owned())) } else { Err(refused()) }
}

/// `--ulimit`: `name=soft[:hard]`.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !RLIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let limit = |text: &str| if text.is_empty() { Ok(-1) } else { crate::flags::parse_int(text) };
    let (soft, hard) = limits.split_once(':').map_or((limits, None), |(soft, hard)| (soft, Some(hard)));
    let soft = crate::flags::parse_int(soft)?;
    let hard = hard.map_or(Ok(soft), limit)?;
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

fn device(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `--blkio-weight-device`: `/dev/x:weight`.
pub(super) fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device(text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(WeightDevice { path: path.to_owned(), weight })
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `--device-read-bps` and its like: `/dev/x:size`.
pub(super) fn throttle_bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device(text)?;
    let rate = budu_spec::units::parse_bytes(rate).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `--device-read-iops` and its like: `/dev/x:count`.
pub(super) fn throttle_count(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device(text)?;
    let rate = rate.parse().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `--device-cgroup-rule`: `c 42:* rmw`.
pub(super) fn device_rule(text: &str) -> Result<String, String> {
    let bad = || format!("invalid device cgroup format '{text}'");
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let numbers_good = numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor));
    let access_good = (1..=3).contains(&access.len()) && access.bytes().all(|b| b"rwm".contains(&b));
    if matches!(kind, "a" | "b" | "c") && numbers_good && access_good { Ok(text.to_owned()) } else { Err(bad()) }
}

/// `--gpus`: `all`, a count, or `key=value` pairs.
pub(super) fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { options: Some(BTreeMap::new()), ..DeviceRequest::default() };
    let gpu = || vec!["gpu".to_owned()];
    for (n, field) in csv(text)?.iter().enumerate() {
        let (key, value) = match field.split_once('=') {
            Some(pair) => pair,
            None if n == 0 => ("count", field.as_str()),
            None => return Err(format!("unexpected key/value pair {field:?}")),
        };
        let words = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "driver" => value.clone_into(&mut request.driver),
            "count" if value == "all" => request.count = -1,
            "count" => {
                request.count = value.parse().map_err(|_| {
                    format!("invalid count ({value}): value must be either \"all\" or an integer: invalid syntax")
                })?;
            }
            "device" => request.device_ids = Some(words()),
            "capabilities" => request.capabilities = Some(vec![[words(), gpu()].concat()]),
            "options" => {
                for option in csv(value)? {
                    let (key, value) = option.split_once('=').unwrap_or((&option, ""));
                    request.options.get_or_insert_default().insert(key.to_owned(), value.to_owned());
                }
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    request.capabilities.get_or_insert_with(|| vec![gpu()]);
    if request.count == 0 && request.device_ids.is_none() {
        request.count = 1;
    }
    Ok(request)
}

/// Splits a line of comma-separated values with quotes.
pub(super) fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut start = true;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always a last field");
        match c {
            ',' => {
                fields.push(String::new());
                start = true;
                continue;
            }
            '"' if start => loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => {
                        return Err(
                            r#"parse error on line 1, column 1: extraneous or missing " in quoted-field"#.to_owned()
                        );
                    }
                }
            },
            '"' => return Err(r#"parse error on line 1, column 1: bare " in non-quoted-field"#.to_owned()),
            c => field.push(c),
        }
        start = false;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(cpus("1.5").unwrap(), 1_500_000_000);
        assert_eq!(cpus(".25").unwrap(), 250_000_000);
        assert_eq!(cpus("1/2").unwrap(), 500_000_000);
        for bad in ["x", "", "1/0", "1.0000000001"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(extra_host("a=[::1]").unwrap(), "a:::1");
        assert_eq!(extra_host("a:host-gateway").unwrap(), "a:host-gateway");
        assert_eq!(ulimit("nofile=5:9").unwrap(), Ulimit { name: "nofile".into(), hard: 9, soft: 5 });
        assert!(ulimit("nofile=9:5").is_err() && ulimit("nope=1").is_err());
        assert!(device_rule("c 1:* rwm").is_ok() && device_rule("x 1:1 r").is_err());
        assert_eq!(csv(r#"a=1,"b=2,3",c"#).unwrap(), ["a=1", "b=2,3", "c"]);
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("device=0").unwrap().device_ids, Some(vec!["0".to_owned()]));
    }
}
