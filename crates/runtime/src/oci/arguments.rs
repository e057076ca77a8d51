//! Arguments common to all commands.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::help;
use crate::compile::CompileError;
use crate::init::{Failing, invalid};
use crate::protocol::Failure;

/// Options before the command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Global {
    /// Directory of the containers' states.
    pub(crate) root: PathBuf,
    /// `--log`.
    pub(crate) log: Option<PathBuf>,
    /// `--log-format json`.
    pub(crate) json_log: bool,
    /// `--debug`.
    pub(crate) debug: bool,
    /// `--systemd-cgroup`.
    pub(crate) systemd: bool,
    /// The caller is not root, or root of a user namespace only.
    pub(crate) rootless: bool,
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Failure {
        invalid(error.to_string())
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Failure {
        invalid(error.to_string())
    }
}

/// One word of the command line.
#[derive(Debug)]
pub(crate) enum Word {
    /// An option's name without dashes; its value, if it has one, is still to be taken.
    Flag(String),
    /// A positional argument.
    Value(OsString),
}

/// The next word; `None` at the end.
pub(crate) fn next(parser: &mut Parser) -> Failing<Option<Word>> {
    Ok(parser.next()?.map(|arg| match arg {
        Arg::Short(letter) => Word::Flag(letter.to_string()),
        Arg::Long(name) => Word::Flag(name.to_owned()),
        Arg::Value(value) => Word::Value(value),
    }))
}

/// An option that a command does not have.
pub(crate) fn undefined(name: &str) -> Failure {
    invalid(format!("flag provided but not defined: -{name}"))
}

/// A value that is text.
pub(crate) fn text(parser: &mut Parser) -> Failing<String> {
    Ok(parser.value()?.string()?)
}

/// A value that is a number.
pub(crate) fn number<N: std::str::FromStr>(parser: &mut Parser, name: &str) -> Failing<N> {
    let text = text(parser)?;
    text.trim()
        .parse()
        .map_err(|_| invalid(format!("invalid value {text:?} for flag -{name}: not a number, or out of range")))
}

/// Reads the global options and the command's name; `called` is the program's own. `None` when everything
/// asked for (help, version) is printed.
pub(crate) fn global(parser: &mut Parser, called: &str) -> Failing<Option<(Global, String)>> {
    let mut global = Global::default();
    let (mut root, mut rootless) = (None, None);
    while let Some(word) = next(parser)? {
        let name = match word {
            Word::Flag(name) => name,
            Word::Value(command) => {
                global.rootless = is_rootless(rootless.as_deref())?;
                global.root = root.unwrap_or_else(|| default_root(global.rootless));
                return Ok(Some((global, command.string()?)));
            }
        };
        match name.as_str() {
            "root" => root = Some(PathBuf::from(parser.value()?)),
            "log" => global.log = Some(PathBuf::from(parser.value()?)).filter(|path| path.as_os_str() != ""),
            "log-format" => {
                global.json_log = match text(parser)?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => return Err(invalid(format!("invalid log-format: {other:?}: want text or json"))),
                }
            }
            "debug" => global.debug = flag(parser)?,
            "systemd-cgroup" => global.systemd = flag(parser)?,
            "rootless" => rootless = Some(text(parser)?),
            "criu" => drop(parser.value()?),
            "help" | "h" => {
                print!("{}", help::overview(called));
                return Ok(None);
            }
            "version" | "v" => {
                println!("{called} version {}", env!("CARGO_PKG_VERSION"));
                println!("commit: {}", option_env!("BUDU_COMMIT").unwrap_or("unknown"));
                println!("spec: {}", budu_spec::oci::VERSION);
                return Ok(None);
            }
            other => return Err(undefined(other)),
        }
    }
    print!("{}", help::overview(called));
    Ok(None)
}

fn is_rootless(asked: Option<&str>) -> Failing<bool> {
    match asked {
        None | Some("auto") => Ok(!rustix::process::geteuid().is_root()),
        Some("true" | "1" | "t" | "TRUE" | "True" | "T") => Ok(true),
        Some("false" | "0" | "f" | "FALSE" | "False" | "F") => Ok(false),
        Some(other) => Err(invalid(format!("--rootless {other:?}: want true, false or auto"))),
    }
}

fn default_root(rootless: bool) -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| rootless && !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("budu/oci"),
        None => PathBuf::from("/run/budu/oci"),
    }
}

/// A switch: given alone, or with `=true` or `=false`.
pub(crate) fn flag(parser: &mut Parser) -> Failing<bool> {
    match parser.optional_value() {
        None => Ok(true),
        Some(text) => match text.string()?.as_str() {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
            other => Err(invalid(format!("invalid boolean value {other:?}"))),
        },
    }
}

/// Takes positional arguments into `into`, in order; more than there are places is an error.
pub(crate) fn positional(value: OsString, into: &mut [&mut Option<String>]) -> Failing<()> {
    let text = value.string()?;
    for place in into {
        if place.is_none() {
            **place = Some(text);
            return Ok(());
        }
    }
    Err(invalid(format!("unexpected argument {text:?}")))
}

/// For commands whose only argument is a container id.
pub(crate) fn only_id(parser: &mut Parser, command: &str) -> Failing<String> {
    let mut id = None;
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(value) => positional(value, &mut [&mut id])?,
            Word::Flag(name) => return Err(undefined(&name)),
        }
    }
    required(id, command)
}

/// The id, or a message that says how the command is used.
pub(crate) fn required(id: Option<String>, command: &str) -> Failing<String> {
    let id = id.ok_or_else(|| invalid(format!("{command}: \"budu oci {command}\" requires a container id")))?;
    if id.is_empty() {
        return Err(invalid("container id cannot be empty".to_owned()));
    }
    Ok(id)
}
