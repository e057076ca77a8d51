//! `features`: what this runtime can do (features.md).

use lexopt::Parser;

use super::arguments::{Word, next, undefined};
use super::output::print;
use crate::defaults::features::features;
use crate::init::{Failing, invalid};

pub(super) fn command(parser: &mut Parser) -> Failing<i32> {
    if let Some(word) = next(parser)? {
        return Err(match word {
            Word::Flag(name) => undefined(&name),
            Word::Value(value) => invalid(format!("unexpected argument {value:?}: features takes none")),
        });
    }
    let features = features(budu_sys::kernel::version());
    let mut text = serde_json::to_string_pretty(&features).expect("plain data always encodes");
    text.push('\n');
    print(&text)?;
    Ok(0)
}
