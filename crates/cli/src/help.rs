//! Help pages in Docker's layout.

use std::fmt::Write as _;

use clap::{Arg, ArgAction};

/// Renders the page of one command.
pub(crate) fn page(command: &clap::Command, name: &str, usage: &str, about: &str, aliases: &[String]) -> String {
    let mut page = format!("Usage:  {name} {usage}\n\n{about}\n");
    if aliases.len() > 1 {
        let _ = write!(page, "\nAliases:\n  {}\n", aliases.join(", "));
    }
    let options = options(command, width());
    if !options.is_empty() {
        let _ = write!(page, "\nOptions:\n{options}");
    }
    page
}

fn width() -> usize {
    crate::terminal::size().map_or(80, |(_, columns)| usize::from(columns)).max(40)
}

/// Renders the option lines, sorted, wrapped to `width` columns.
pub(crate) fn options(command: &clap::Command, width: usize) -> String {
    let mut shown: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
    shown.sort_by_key(|arg| arg.get_long());
    let heads: Vec<String> = shown.iter().map(|arg| head(arg)).collect();
    let column = heads.iter().map(|head| head.chars().count()).max().unwrap_or_default() + 3;
    let mut text = String::new();
    for (arg, head) in shown.iter().zip(heads) {
        let _ = write!(text, "{head:column$}");
        let room = width.saturating_sub(column + 1).max(24);
        for (n, line) in wrap(&body(arg), room).iter().enumerate() {
            if n > 0 {
                let _ = write!(text, "{:column$}", "");
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn is_boolean(arg: &Arg) -> bool {
    arg.is_require_equals_set() || matches!(arg.get_action(), ArgAction::SetTrue)
}

fn head(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let mut head = arg.get_short().map_or_else(|| format!("      --{long}"), |short| format!("  -{short}, --{long}"));
    if !is_boolean(arg)
        && let Some(kind) = arg.get_value_names().and_then(|names| names.first())
    {
        let _ = write!(head, " {kind}");
    }
    head
}

fn body(arg: &Arg) -> String {
    let mut body = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults = arg.get_default_values();
    if let Some(default) = defaults.first().and_then(|default| default.to_str()) {
        let textual =
            arg.get_value_names().is_some_and(|names| names.first().is_some_and(|name| name.as_str() == "string"));
        if textual {
            let _ = write!(body, " (default {default:?})");
        } else if default != "false" {
            let _ = write!(body, " (default {default})");
        }
    }
    body
}

fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}
