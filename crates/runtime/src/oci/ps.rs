//! `ps`: the processes of a container, as the host's `ps` shows them.

use std::ffi::OsString;
use std::io;
use std::process::Command;

use lexopt::Parser;

use super::arguments::{Global, Word, next, required, undefined};
use super::container::Container;
use super::output::{Format, print};
use crate::init::{Failing, failed, invalid};
use crate::protocol::{Failure, FailureClass};

pub(super) fn command(global: &Global, parser: &mut Parser) -> Failing<i32> {
    let (mut id, mut format) = (None, Format::Table);
    let mut options: Vec<OsString> = Vec::new();
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "f" || name == "format" => format = Format::take(parser)?,
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => {
                id = Some(value.into_string().map_err(|id| invalid(format!("invalid container id {id:?}")))?);
                // Whatever follows is for ps.
                options.extend(parser.raw_args()?);
                break;
            }
        }
    }
    let container = Container::open(global, &required(id, "ps")?)?;
    let pids = pids(&container)?;
    let text = match format {
        // As Go prints an empty list.
        Format::Json if pids.is_empty() => "null\n".to_owned(),
        Format::Json => format!("{}\n", serde_json::to_string(&pids).expect("numbers always encode")),
        Format::Table => filter(&run(&options)?, &pids)?,
    };
    print(&text)?;
    Ok(0)
}

/// Process ids in the host's pid namespace.
fn pids(container: &Container) -> Failing<Vec<i32>> {
    if container.state.group.is_empty() {
        let message = "the container has no cgroup of its own, so its processes cannot be told from others";
        return Err(Failure { class: FailureClass::State, message: message.to_owned() });
    }
    // The group of one that has stopped may be gone.
    let Some(group) = container.group()? else { return Ok(Vec::new()) };
    Ok(group.procs()?.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect())
}

/// Runs the host's `ps`, the one program whose columns and options users mean.
fn run(options: &[OsString]) -> Failing<String> {
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(options).output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            invalid("ps not found: install it (package procps), or use --format json".to_owned())
        }
        _ => failed("run ps")(e),
    })?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        return Err(invalid(format!("ps: {}: {}", output.status, said.trim_end())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The title and the lines about these processes.
fn filter(text: &str, pids: &[i32]) -> Failing<String> {
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| invalid("couldn't find PID field in ps output".to_owned()))?;
    let mut kept = format!("{title}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let field = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = field.parse().map_err(|_| invalid(format!("unable to parse pid: {field:?} is no number")))?;
        if pids.contains(&pid) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_are_left_out() {
        let text = "UID   PID PPID CMD\nroot    1    0 init 12\nroot   12    1 sh\n\nroot  120    1 cat\n";
        assert_eq!(filter(text, &[12]).unwrap(), "UID   PID PPID CMD\nroot   12    1 sh\n");
        assert_eq!(filter(text, &[]).unwrap(), "UID   PID PPID CMD\n");
        assert!(filter("USER CMD\nroot sh\n", &[1]).unwrap_err().message.contains("couldn't find PID"));
        assert!(filter("", &[1]).is_err());
        assert!(filter("PID\nx\n", &[1]).unwrap_err().message.contains("unable to parse pid"));
    }
}
