//! `spec`: a configuration to begin with.

use std::io::{self, Write};
use std::path::PathBuf;

use lexopt::Parser;
use rustix::process::{getegid, geteuid};

use super::arguments::{Word, flag, next, undefined};
use crate::cgroup;
use crate::defaults::bundle;
use crate::init::{Failing, failed, invalid};

const CONFIG: &str = "config.json";

pub(super) fn command(parser: &mut Parser) -> Failing<i32> {
    let (mut directory, mut rootless) = (PathBuf::new(), false);
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "b" || name == "bundle" => directory = parser.value()?.into(),
            Word::Flag(name) if name == "rootless" => rootless = flag(parser)?,
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => return Err(invalid(format!("unexpected argument {value:?}: spec takes none"))),
        }
    }
    let layout = cgroup::layout().ok().flatten();
    let mut spec = bundle::spec(layout.is_some_and(|layout| cgroup::is_v2(&layout)));
    if rootless {
        bundle::rootless(&mut spec, geteuid().as_raw(), getegid().as_raw());
    }
    let text = indented(&spec);
    let path = directory.join(CONFIG);
    // Whatever is there stays, a dangling link included.
    let file = std::fs::File::options().write(true).create_new(true).open(&path);
    let mut file = file.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => invalid(format!("File {CONFIG} exists. Remove it first")),
        _ => failed(&format!("create {}", path.display()))(e),
    })?;
    file.write_all(&text).map_err(failed(&format!("write {}", path.display())))?;
    Ok(0)
}

/// With tabs, for people to edit.
fn indented(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, format);
    value.serialize(&mut writer).expect("plain data always encodes");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_is_a_tab() {
        assert_eq!(indented(&serde_json::json!({"a": [1]})), b"{\n\t\"a\": [\n\t\t1\n\t]\n}");
    }
}
