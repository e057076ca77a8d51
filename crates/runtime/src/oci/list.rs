//! `list`: all containers below the root.

use std::os::unix::fs::MetadataExt;

use lexopt::Parser;

use super::arguments::{Global, Word, flag, next, undefined};
use super::container::{self, Container};
use super::output::{Format, print};
use super::state::Shown;
use crate::init::{Failing, invalid};

/// Least width of a column, and the space after its longest text.
const MIN_WIDTH: usize = 12;
const PADDING: usize = 3;

pub(super) fn command(global: &Global, parser: &mut Parser) -> Failing<i32> {
    let (mut format, mut quiet) = (Format::Table, false);
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "f" || name == "format" => format = Format::take(parser)?,
            Word::Flag(name) if name == "q" || name == "quiet" => quiet = flag(parser)?,
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => return Err(invalid(format!("unexpected argument {value:?}: list takes none"))),
        }
    }
    let containers = containers(global)?;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut shown = Vec::with_capacity(containers.len());
    for (container, owner) in &containers {
        match container.status() {
            Ok(status) => shown.push(Shown { owner: name_of(*owner, &passwd), ..Shown::of(container, status) }),
            Err(failure) => eprintln!("status for {}: {}", container.state.id, failure.message),
        }
    }
    let text = match format {
        _ if quiet => shown.iter().map(|one| format!("{}\n", one.id)).collect(),
        Format::Table => table(&shown),
        // As Go prints an empty list.
        Format::Json if shown.is_empty() => "null\n".to_owned(),
        Format::Json => format!("{}\n", serde_json::to_string(&shown).expect("plain data always encodes")),
    };
    print(&text)?;
    Ok(0)
}

/// All that can be read, with the user ids that own their directories. One
/// that is removed meanwhile is left out; what is wrong with one does not
/// keep the others from being shown.
fn containers(global: &Global) -> Failing<Vec<(Container, u32)>> {
    let mut found = Vec::new();
    for id in container::ids(global)? {
        match Container::open(global, &id) {
            Ok(container) => {
                if let Ok(meta) = std::fs::symlink_metadata(&container.path) {
                    found.push((container, meta.uid()));
                }
            }
            Err(_) if !global.root.join(&id).exists() => {}
            Err(failure) => eprintln!("load container {id}: {}", failure.message),
        }
    }
    Ok(found)
}

/// The user's name in `/etc/passwd`, or the number.
fn name_of(uid: u32, passwd: &str) -> String {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("#{uid}"))
}

fn table(shown: &[Shown<'_>]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(shown.iter().map(|one| {
        [
            one.id.to_owned(),
            one.pid.to_string(),
            one.status.to_owned(),
            one.bundle.display().to_string(),
            one.created.to_owned(),
            one.owner.clone(),
        ]
    }));
    let last = rows[0].len() - 1;
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + PADDING).max(MIN_WIDTH)
    };
    let widths: Vec<usize> = (0..last).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(&row[last]);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_text() {
        let annotations = BTreeMap::new();
        let shown = Shown {
            oci_version: "1.2.0",
            id: "a",
            pid: 17,
            status: "running",
            bundle: Path::new("/a/long/way/to/go"),
            rootfs: Path::new("/r"),
            created: "2026-01-02T03:04:05.6Z",
            annotations: &annotations,
            owner: "root".to_owned(),
        };
        let text = table(&[shown]);
        let expected = "\
ID          PID         STATUS      BUNDLE              CREATED                  OWNER
a           17          running     /a/long/way/to/go   2026-01-02T03:04:05.6Z   root
";
        assert_eq!(text, expected);
        assert_eq!(table(&[]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }

    #[test]
    fn owners_have_names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnonsense\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(1000, passwd), "ann");
        assert_eq!(name_of(0, passwd), "root");
        assert_eq!(name_of(7, passwd), "#7");
    }
}
