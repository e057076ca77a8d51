//! Archives out of what they are wrapped in.

use std::io::{self, BufRead};

use crate::layer::decompress::{Decompress, buffered};

/// Reads an archive that may be compressed, whichever way, told by its first bytes.
///
/// # Errors
/// What `input` fails with.
pub fn decompress<'a>(input: impl BufRead + 'a) -> io::Result<impl BufRead + 'a> {
    Ok(buffered(Decompress::new(input)?))
}
