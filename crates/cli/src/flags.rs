//! The habits of Docker's flag parser, laid over clap: `--flag=false`, options that stop at the
//! first argument, the last of a repeated flag wins, and Docker's texts for what is wrong.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::error::Error;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arity {
    /// Exactly this many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// No more than this many.
    AtMost(usize),
    /// Between two bounds, both included.
    Between(usize, usize),
}

/// What messages about a command need to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// `budu run`.
    pub(crate) name: &'a str,
    /// `[OPTIONS] IMAGE [COMMAND] [ARG...]`.
    pub(crate) usage: &'a str,
}

/// Gives a command made by clap's derive the habits described above.
pub(crate) fn adapt(command: clap::Command, options_first: bool) -> clap::Command {
    let short_h = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let mut help = Arg::new("help").long("help").help("Print usage").hide(true).action(ArgAction::SetTrue);
    if !short_h {
        help = help.short('h');
    }
    command
        .arg(help)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .mut_args(|arg| adapt_arg(arg, options_first))
}

fn adapt_arg(arg: Arg, options_first: bool) -> Arg {
    if arg.is_positional() {
        return arg.trailing_var_arg(options_first);
    }
    let on_by_default = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "bool"));
    if matches!(arg.get_action(), ArgAction::SetTrue) || on_by_default {
        return arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .required(false)
            .default_missing_value("true")
            .default_value(if on_by_default { "true" } else { "false" })
            .value_parser(parse_bool);
    }
    arg.allow_hyphen_values(true)
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Parses a signed number with Go's complaint.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    go_number(text, text.parse::<i64>(), "ParseInt")
}

/// Parses an unsigned 16-bit number with Go's complaint.
pub(crate) fn parse_u16(text: &str) -> Result<u16, String> {
    go_number(text, text.parse::<u16>(), "ParseUint")
}

/// Parses an unsigned number with Go's complaint.
pub(crate) fn parse_u64(text: &str) -> Result<u64, String> {
    go_number(text, text.parse::<u64>(), "ParseUint")
}

fn go_number<T>(text: &str, parsed: Result<T, std::num::ParseIntError>, function: &str) -> Result<T, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    parsed.map_err(|error| {
        let range = matches!(error.kind(), PosOverflow | NegOverflow);
        let why = if range { "value out of range" } else { "invalid syntax" };
        format!("strconv.{function}: parsing {text:?}: {why}")
    })
}

/// Checks a `name=value` filter.
pub(crate) fn parse_filter(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('=') {
        return Ok(text.to_owned());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

/// Parses a size such as `64m`.
pub(crate) fn parse_size(text: &str) -> Result<i64, String> {
    budu_spec::units::parse_bytes(text).map_err(|_| format!("invalid size: '{text}'"))
}

/// Parses a size or -1.
pub(crate) fn parse_swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { parse_size(text) }
}

/// Parses a Go duration into nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    budu_spec::units::parse_duration(text).map_err(|_| match text.trim_start_matches(['+', '-']) {
        rest if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            format!("time: missing unit in duration {text:?}")
        }
        _ => format!("time: invalid duration {text:?}"),
    })
}

/// Runs clap and turns its complaints into Docker's.
pub(crate) fn parse(command: &mut clap::Command, args: &[String], subject: Subject<'_>) -> Result<ArgMatches, Error> {
    match command.try_get_matches_from_mut(args) {
        Ok(matches) => Ok(matches),
        Err(error) => Err(wrong_flag(&explain(command, args, &error), subject)),
    }
}

/// The text and status for a flag that cannot be used.
pub(crate) fn wrong_flag(what: &str, subject: Subject<'_>) -> Error {
    let Subject { name, usage } = subject;
    let text = format!("{what}\n\nUsage:  {name} {usage}\n\nRun '{name} --help' for more information");
    Error::Usage { text: text.replace(" \n", "\n"), code: 125 }
}

/// Checks the number of arguments.
pub(crate) fn check_arity(arity: Arity, given: usize, subject: Subject<'_>) -> Result<(), Error> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (complaint, lead) = match arity {
        Arity::Exactly(0) if given > 0 => ("accepts no arguments".to_owned(), "Run"),
        Arity::Exactly(n) if given != n => (format!("requires {n} {}", plural(n)), "Run"),
        Arity::AtLeast(n) if given < n => (format!("requires at least {n} {}", plural(n)), "See"),
        Arity::AtMost(n) if given > n => (format!("requires at most {n} {}", plural(n)), "Run"),
        Arity::Between(low, high) if given < low || given > high => {
            (format!("requires at least {low} and at most {high} {}", plural(high)), "Run")
        }
        _ => return Ok(()),
    };
    let Subject { name, usage } = subject;
    let program = name.split(' ').next().unwrap_or_default();
    let text = format!(
        "{program}: '{name}' {complaint}\n\nUsage:  {name} {usage}\n\n{lead} '{name} --help' for more information"
    );
    Err(Error::Usage { text, code: 1 })
}

/// Says in Docker's words what clap found.
fn explain(command: &clap::Command, args: &[String], error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.join(", "),
        _ => String::new(),
    };
    let named = context(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(args, &named),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues => {
            let value = context(ContextKind::InvalidValue);
            let arg = command.get_arguments().find(|arg| !arg.is_positional() && arg.to_string() == named);
            let Some(arg) = arg else { return error.to_string() };
            if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
                return needs_argument(arg, args);
            }
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {value:?} for {:?} flag: {why}", spelled(arg))
        }
        _ => error.to_string().trim_start_matches("error: ").trim_end().to_owned(),
    }
}

fn spelled(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    arg.get_short().map_or_else(|| format!("--{long}"), |short| format!("-{short}, --{long}"))
}

fn needs_argument(arg: &Arg, args: &[String]) -> String {
    let last = args.last().map_or("", String::as_str);
    match arg.get_short() {
        Some(short) if !last.starts_with("--") => format!("flag needs an argument: '{short}' in -{short}"),
        _ => format!("flag needs an argument: --{}", arg.get_long().unwrap_or_default()),
    }
}

fn unknown(args: &[String], named: &str) -> String {
    if let Some(long) = named.strip_prefix("--") {
        return format!("unknown flag: --{}", long.split('=').next().unwrap_or_default());
    }
    let letter = named.chars().nth(1).unwrap_or('?');
    let bundle = args.iter().find(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.contains(letter));
    let rest = bundle.and_then(|arg| arg.find(letter).map(|at| &arg[at..])).unwrap_or_default();
    format!("unknown shorthand flag: '{letter}' in -{rest}")
}
