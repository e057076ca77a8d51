//! `ociVersion` (config.md "Specification version").

use super::{CompileError, wrong};

/// Whether a configuration of that version means here what its author meant.
pub(super) fn check(version: &str) -> Result<(), CompileError> {
    let bad = |reason: &str| Err(wrong("ociVersion", format!("{version:?} {reason}")));
    let Some(major) = major(version) else { return bad("is not a semantic version, such as 1.3.0") };
    if major > 1 {
        return bad("is newer than this runtime: the specification is supported up to 1.3");
    }
    Ok(())
}

/// The major number of MAJOR.MINOR.PATCH[-pre][+build].
fn major(version: &str) -> Option<u64> {
    let (version, build) = version.split_once('+').unwrap_or((version, "0"));
    let (core, pre) = version.split_once('-').unwrap_or((version, "0"));
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let mut numbers = core.split('.');
    let mut number = || {
        let text = numbers.next()?;
        let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
        text.parse().ok().filter(|_| canonical)
    };
    let (major, _, _): (u64, u64, u64) = (number()?, number()?, number()?);
    (numbers.next().is_none() && pre.split('.').all(word) && build.split('.').all(word)).then_some(major)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.0.2-dev", "0.1.0", "1.3.0", "1.99.0", "1.2.1+dev", "1.0.0-rc.5+x.y"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "invalid", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "v1.0.0", "2.0.0", "1.0.x", "1.+1.0"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
