//! Log files: what a shim writes and an engine reads.
//!
//! Two formats, both Docker's: `json-file`, a JSON object a line, and that of
//! the driver `local`, protobuf records with their length before and after.
//! Files rotate: `log` is written, `log.1` is the one before, `log.2` older;
//! with compression `log.1.gz`. Each has a *number* that only grows, so that a
//! reader knows where it is whatever is renamed.
//!
//! - [`entry`](Entry): one record; `json`, `local`: its two spellings.
//! - `index`: the file `log.index`, marks every [`BLOCK`] bytes.
//! - `writer`, `rotate`: the shim's side. `read`: [`Reader`], the engine's.
//! - [`Position`], [`Acknowledged`]: how far somebody came who sends it on.

mod entry;
mod index;
mod json;
mod local;
mod read;
mod rotate;
mod sent;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use entry::{Entry, Partial};
pub use read::{Reader, Start};
pub use sent::{Acknowledged, Position};
pub(crate) use writer::Log;

use crate::plan::LogFormat;

/// A line longer than this is split; readers join the pieces, which lack a
/// newline. Docker's size.
pub const MAX_LINE: usize = 16 << 10;

/// A mark in the index stands for this many bytes of log: what is read in vain
/// at most before the line that was asked for.
pub const BLOCK: u64 = 256 << 10;

/// Encodes what stands in each record besides the line: labels, variables, tag.
pub fn attributes(format: LogFormat, pairs: &BTreeMap<String, String>) -> Vec<u8> {
    match format {
        _ if pairs.is_empty() => Vec::new(),
        LogFormat::Json => json::attributes(pairs),
        LogFormat::Local => local::attributes(pairs),
    }
}

/// The file that is `age` rotations old; 0 is the one being written.
fn aged(path: &Path, age: u32) -> PathBuf {
    match age {
        0 => path.to_owned(),
        age => with_suffix(path, &format!(".{age}")),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The number of the file being written.
pub fn newest(path: &Path) -> u64 {
    let numbered = index::Index::state(path).ok().flatten().map(|(segment, _)| segment);
    numbered.or_else(|| rotate::unnumbered(path).ok()).unwrap_or(1)
}
