//! `--security-opt`: some of it is files that only the client can read.

use std::collections::BTreeSet;

use crate::error::{Error, open_failed};

/// What the options come to.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// Sent as they are.
    pub(super) options: Option<Vec<String>>,
    /// `systempaths=unconfined`: nothing is masked or read-only.
    pub(super) open_system_paths: bool,
}

/// Reads the options.
pub(super) fn plan(options: &[String]) -> Result<Security, Error> {
    let mut security = Security::default();
    for option in options {
        if option == "systempaths=unconfined" {
            security.open_system_paths = true;
            continue;
        }
        let option = match option.split_once(['=', ':']) {
            None if option == "no-new-privileges" => option.clone(),
            None => return Err(Error::new(format_args!("Invalid --security-opt: {option:?}"))),
            Some(("seccomp", value)) if !matches!(value, "unconfined" | "builtin") => {
                format!("seccomp={}", profile(value)?)
            }
            Some((key, value)) if option.contains('=') => format!("{key}={value}"),
            Some(_) => option.clone(),
        };
        security.options.get_or_insert_default().push(option);
    }
    Ok(security)
}

/// Capabilities under their full names, each once, sorted; `None` when there are none.
pub(super) fn capabilities(names: &[String]) -> Option<Vec<String>> {
    let names: BTreeSet<String> = names.iter().map(|name| full_name(name)).collect();
    (!names.is_empty()).then(|| names.into_iter().collect())
}

fn full_name(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase();
    if upper.starts_with("CAP_") || matches!(upper.as_str(), "ALL" | "RESET") { upper } else { format!("CAP_{upper}") }
}

fn profile(path: &str) -> Result<String, Error> {
    let failed =
        |why: &dyn std::fmt::Display| Error::new(format_args!("opening seccomp profile ({path}) failed: {why}"));
    let text = std::fs::read(path).map_err(|error| failed(&open_failed(path, &error)))?;
    let json = crate::data::Data::parse(&text)
        .map_err(|error| Error::new(format_args!("compacting json for seccomp profile ({path}) failed: {error}")))?;
    Ok(json.to_json())
}
