//! One record of a log.

use std::borrow::Cow;

/// What a program said, a line or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// [`crate::protocol::STDOUT`] or [`crate::protocol::STDERR`].
    pub stream: u8,
    /// Unix time, nanoseconds.
    pub time: i64,
    /// With its newline, unless a piece without the line's end.
    pub line: Cow<'a, [u8]>,
    /// Which piece of a long line it is, where the format says so.
    pub partial: Option<Partial>,
    /// Labels, variables, tag.
    pub attributes: Vec<(String, String)>,
}

/// Docker's marks on the pieces of a line longer than [`super::MAX_LINE`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// The same for all pieces of one line.
    pub id: String,
    /// From 1.
    pub ordinal: u32,
    /// The piece with the line's end.
    pub last: bool,
}

impl Entry<'_> {
    /// The text without the newline.
    pub fn text(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }
}
