//! `linux.netDevices`: which devices move, and how they are called then.

use budu_spec::oci;

use super::{Bundle, CompileError, namespaces, wrong};

/// Longest name the kernel takes, with its final NUL.
const IFNAMSIZ: usize = 16;

/// Name on the host, name in the container.
pub(super) fn plan(
    linux: &oci::Linux,
    own: u64,
    bundle: Option<&Bundle>,
) -> Result<Vec<(String, String)>, CompileError> {
    let reason = if linux.net_devices.is_empty() {
        return Ok(Vec::new());
    } else if own & namespaces::NETWORK == 0 {
        "unable to move network devices without a NET namespace"
    } else if bundle.is_some_and(|bundle| bundle.rootless) {
        "network devices are not supported for rootless containers"
    } else {
        return linux.net_devices.iter().map(|(name, device)| one(name, &device.name)).collect();
    };
    Err(wrong("linux.netDevices", reason))
}

fn one(outside: &str, inside: &str) -> Result<(String, String), CompileError> {
    let inside = if inside.is_empty() { outside } else { inside };
    for name in [outside, inside] {
        let fits = !name.is_empty() && name.len() < IFNAMSIZ && name != "." && name != "..";
        if !fits || name.contains(|letter: char| "/:\0".contains(letter) || letter.is_whitespace()) {
            return Err(wrong("linux.netDevices", format!("invalid network device name {name:?}")));
        }
    }
    Ok((outside.to_owned(), inside.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::one;

    #[test]
    fn names() {
        assert_eq!(one("eth0", "").unwrap(), ("eth0".into(), "eth0".into()));
        assert_eq!(one("eth0", "ctr%d").unwrap().1, "ctr%d");
        for bad in ["..", "a/b", "a b", "a:b", "sixteen-letters-"] {
            assert!(one("eth0", bad).is_err() && one(bad, "x").is_err(), "{bad}");
        }
    }
}
