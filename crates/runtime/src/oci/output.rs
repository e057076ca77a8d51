//! What commands print, and in which form.

use std::io::{self, Write};

use lexopt::Parser;

use super::arguments::text;
use crate::init::{Failing, failed, invalid};

/// Forms of output that `list` and `ps` share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    #[default]
    Table,
    Json,
}

impl Format {
    /// Takes the value of `--format`.
    pub(super) fn take(parser: &mut Parser) -> Failing<Format> {
        match text(parser)?.as_str() {
            "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            other => Err(invalid(format!("invalid format option {other:?}: want table or json"))),
        }
    }
}

/// Writes to standard output at once. A reader that has seen enough is no error.
pub(super) fn print(text: &str) -> Failing<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(failed("write to standard output")),
    }
}
