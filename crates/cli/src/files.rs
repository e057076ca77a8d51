//! Files of this machine, to and from archives: the client's half of `cp`.
//!
//! What a daemon sends is not trusted: nothing is written but below the destination, and no link that an archive
//! brought is followed.

pub(crate) mod names;
pub(crate) mod receive;
pub(crate) mod send;
