//! Environment and labels, from flags and from files.

use std::collections::BTreeMap;

use crate::error::{self, Error};

/// Reads environment files, then adds the flags. A bare name takes its value from our environment.
pub(crate) fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            let (name, value) = line.split_once('=').map_or((line.as_str(), None), |(name, value)| (name, Some(value)));
            let name = name.trim_start();
            if name.contains(char::is_whitespace) {
                return Err(Error::new(format_args!(
                    "invalid env file ({file}): variable '{name}' contains whitespaces"
                )));
            }
            if name.is_empty() {
                return Err(Error::new(format_args!("invalid env file ({file}): no variable name on line '{line}'")));
            }
            match value {
                Some(value) => all.push(format!("{name}={value}")),
                // Unlike on the command line, an unset name in a file is dropped.
                None => all.extend(std::env::var(name).ok().map(|value| format!("{name}={value}"))),
            }
        }
    }
    for flag in flags {
        if flag.is_empty() || flag.starts_with('=') {
            return Err(Error::new(format_args!("invalid environment variable: {flag}")));
        }
        match std::env::var(flag) {
            Ok(value) if !flag.contains('=') => all.push(format!("{flag}={value}")),
            _ => all.push(flag.clone()),
        }
    }
    Ok(all)
}

/// Reads label files, then adds the flags.
pub(super) fn labels(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut all = Vec::new();
    for file in files {
        // A bare name in a file has no value, so there is no label.
        all.extend(lines(file)?.into_iter().filter(|line| line.contains('=')));
    }
    all.extend(flags.iter().cloned());
    Ok(pairs(&all))
}

/// `key=value` texts to a map; the last of a key wins.
pub(super) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// The lines of a file that are neither empty nor comments.
fn lines(path: &str) -> Result<Vec<String>, Error> {
    let text = std::fs::read(path).map_err(|error| error::open_failed(path, &error))?;
    let text = String::from_utf8(text)
        .map_err(|_| Error::new(format_args!("invalid env file ({path}): it is not valid UTF-8")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let keep = |line: &&str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    Ok(text.lines().filter(keep).map(|line| line.trim_start().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_no_quoting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        std::fs::write(&path, "# note\n\nA=1\n  B=\"x y\"\nBUDU_SURELY_UNSET\n").unwrap();
        let path = path.to_str().unwrap().to_owned();
        let env = environment(&[path], &["C=3".into(), "BUDU_SURELY_UNSET".into()]).unwrap();
        assert_eq!(env, ["A=1", "B=\"x y\"", "C=3", "BUDU_SURELY_UNSET"]);
        assert!(environment(&[], &["=x".into()]).is_err());
        let error = environment(&["/nonexistent".into()], &[]).unwrap_err().to_string();
        assert_eq!(error, "open /nonexistent: no such file or directory");
    }
}
