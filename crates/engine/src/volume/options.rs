//! The options of the `local` driver.

use std::collections::BTreeMap;

use crate::Error;

/// Options, and those that make no sense without others.
const NEEDS: [(&str, &[&str]); 4] =
    [("device", &["type"]), ("o", &["device", "type"]), ("size", &[]), ("type", &["device"])];

/// Refuses what the driver does not know.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), Error> {
    for key in options.keys() {
        if !NEEDS.iter().any(|(known, _)| known == key) {
            return Err(Error::invalid(format!("invalid option: \"{key}\"")));
        }
    }
    let given = |key: &str| options.get(key).map(String::as_str);
    if given("type") == Some("cifs") && given("device").is_some_and(has_port) {
        return Err(Error::invalid("port not allowed in CIFS device URL, include 'port' in 'o='"));
    }
    if let Some(size) = given("size") {
        size_of(size)?;
    }
    for (key, needs) in NEEDS.iter().filter(|(key, _)| options.contains_key(*key)) {
        if let Some(missing) = needs.iter().find(|needed| !options.contains_key(**needed)) {
            let _ = key;
            return Err(Error::invalid(format!("missing required option: \"{missing}\"")));
        }
    }
    Ok(())
}

/// `//host:445/share` and `smb://host:445/share` have one.
fn has_port(device: &str) -> bool {
    let rest = device.split_once("//").map_or("", |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Bytes of a size such as `10m`; 0 is no limit.
pub(super) fn size_of(text: &str) -> Result<u64, Error> {
    let size = budu_spec::units::parse_bytes(text).ok().and_then(|n| u64::try_from(n).ok());
    size.ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_together() {
        for (given, want) in [
            (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")][..], ""),
            (&[("size", "10m")], ""),
            (&[("nope", "1")], "invalid option: \"nope\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "x")], "missing required option: \"type\""),
            (&[("o", "bind")], "missing required option: \"device\""),
            (&[("size", "much")], "invalid size: 'much'"),
            (
                &[("type", "cifs"), ("device", "//host:445/share")],
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
            (&[("type", "cifs"), ("device", "//host/share")], ""),
        ] {
            let options = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let got = check(&options).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(got, want, "{given:?}");
        }
    }
}
