//! Asking before something is lost.

use std::io::{BufRead as _, Write as _};

use crate::error::Error;

/// Shows a warning and asks whether to go on; anything but `y` means no.
pub(super) fn confirm(warning: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout();
    write!(out, "WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
        .and_then(|()| out.flush())
        .map_err(Error::new)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Error::new)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
