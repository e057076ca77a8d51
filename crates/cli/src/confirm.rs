//! Asking before something is lost.

use std::io::{BufRead as _, Write as _};

use crate::error::Error;

/// Asks, and reads one line of standard input: only `y` is yes.
pub(crate) fn confirm(warning: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    let asked = write!(out, "{warning}\nAre you sure you want to continue? [y/N] ").and_then(|()| out.flush());
    asked.map_err(|error| Error::new(format_args!("cannot ask: {error}")))?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Error::new(format_args!("cannot read the answer: {error}")))?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}
