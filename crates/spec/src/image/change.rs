//! Dockerfile instructions that change how an image's containers start, outside of a build: `commit --change`.

use super::{Empty, Healthcheck, RunConfig};
use crate::units;

/// Why an instruction was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChangeError {
    message: String,
}

fn refused(message: impl Into<String>) -> ChangeError {
    ChangeError { message: message.into() }
}

/// Applies instructions in order; each text may hold several lines.
///
/// # Errors
/// [`ChangeError`] names the instruction that is unknown or does not parse.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), ChangeError> {
    let mut command_set = false;
    for line in changes.iter().flat_map(|text| lines(text)) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let (name, rest) = (word.to_ascii_uppercase(), rest.trim());
        match name.as_str() {
            "CMD" => {
                config.cmd = Some(command(config, rest));
                command_set = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(config, rest)).filter(|words| !words.is_empty());
                if !command_set {
                    config.cmd = None;
                }
            }
            _ if !KNOWN.contains(&name.as_str()) => {
                return Err(refused(format!("{word} is not a valid change command")));
            }
            _ if rest.is_empty() => return Err(refused(format!("{name} requires at least one argument"))),
            _ => instruction(config, &name, rest)?,
        }
    }
    Ok(())
}

/// What is allowed besides `CMD` and `ENTRYPOINT`.
const KNOWN: [&str; 9] =
    ["ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

/// Applies one of [`KNOWN`].
fn instruction(config: &mut RunConfig, name: &str, rest: &str) -> Result<(), ChangeError> {
    match name {
        "ENV" => {
            for (key, value) in pairs(config, name, rest)? {
                let start = format!("{key}=");
                match config.env.iter_mut().find(|entry| entry.starts_with(&start)) {
                    Some(entry) => *entry = start + &value,
                    None => config.env.push(start + &value),
                }
            }
        }
        "LABEL" => {
            let pairs = pairs(config, name, rest)?;
            config.labels.extend(pairs);
        }
        "EXPOSE" => {
            for word in words(config, rest)? {
                for port in ports(&word)? {
                    config.exposed_ports.insert(port, Empty {});
                }
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        "ONBUILD" => onbuild(config, rest)?,
        "STOPSIGNAL" => {
            let signal = single(config, name, rest)?;
            crate::signal::parse(&signal).ok_or_else(|| refused(format!("invalid signal: {signal}")))?;
            config.stop_signal = signal;
        }
        "USER" => config.user = single(config, name, rest)?,
        "VOLUME" => {
            let list = match json(rest) {
                Some(list) => list,
                None => words(config, rest)?,
            };
            if list.iter().any(|path| path.trim().is_empty()) {
                return Err(refused("VOLUME specified can not be an empty string"));
            }
            config.volumes.extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "WORKDIR" => {
            let path = single(config, name, rest)?;
            let base = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
            config.working_dir = join(base, &path);
        }
        _ => return Err(refused(format!("{name} is not a valid change command"))),
    }
    Ok(())
}

/// Lines without comments; one that ends in a backslash goes on in the next.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || (line.is_empty() && current.is_empty()) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(start) => current.push_str(start),
            None => {
                current.push_str(line);
                lines.push(std::mem::take(&mut current));
            }
        }
    }
    if !current.is_empty() {
        lines.push(current);
    }
    lines
}

fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A list in JSON as it is; anything else goes to the shell.
fn command(config: &RunConfig, text: &str) -> Vec<String> {
    if let Some(list) = json(text) {
        return list;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let shell = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
    let mut command = if config.shell.is_empty() { shell } else { config.shell.clone() };
    command.push(text.to_owned());
    command
}

/// `KEY=value KEY="other value"`, or the old `KEY value to the end of the line`.
fn pairs(config: &RunConfig, name: &str, text: &str) -> Result<Vec<(String, String)>, ChangeError> {
    let first = first_word(text);
    let bad = || refused(format!("Syntax error - can't find = in \"{first}\". Must be of the form: name=value"));
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| match name {
            "ENV" => refused("ENV must have two arguments"),
            _ => bad(),
        })?;
        let value = expand(config, value.trim())?.concat();
        return Ok(vec![(key.to_owned(), value)]);
    }
    let pair = |word: String| {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            refused(format!("Syntax error - can't find = in \"{word}\". Must be of the form: name=value"))
        })?;
        if key.is_empty() {
            Err(refused(format!("{name} names can not be blank")))
        } else {
            Ok((key.to_owned(), value.to_owned()))
        }
    };
    words(config, text)?.into_iter().map(pair).collect()
}

/// Up to the first blank that is not quoted, as it is written.
fn first_word(text: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            _ if escaped => escaped = false,
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => return &text[..at],
            _ => {}
        }
    }
    text
}

fn single(config: &RunConfig, name: &str, text: &str) -> Result<String, ChangeError> {
    let words = words(config, text)?;
    match <[String; 1]>::try_from(words) {
        Ok([word]) => Ok(word),
        Err(_) => Err(refused(format!("{name} requires exactly one argument"))),
    }
}

fn words(config: &RunConfig, text: &str) -> Result<Vec<String>, ChangeError> {
    expand(config, text).map(|words| words.into_iter().filter(|word| word != " ").collect())
}

/// Splits into words and single blanks, taking quotes away and putting variables in.
fn expand(config: &RunConfig, text: &str) -> Result<Vec<String>, ChangeError> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                let next = letters.next().unwrap_or('\\');
                let kept = quote.is_some() && !matches!(next, '"' | '$' | '\\');
                let word = word.get_or_insert_default();
                if kept {
                    word.push('\\');
                }
                word.push(next);
            }
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('$', None | Some('"')) => {
                let mut name = String::new();
                let braces = letters.next_if_eq(&'{').is_some();
                while let Some(next) = letters.peek().copied() {
                    let part = if braces { next != '}' } else { next.is_ascii_alphanumeric() || next == '_' };
                    if !part {
                        break;
                    }
                    name.push(next);
                    letters.next();
                }
                if braces && letters.next() != Some('}') {
                    return Err(refused(format!("failed to process \"{text}\": missing closing brace")));
                }
                word.get_or_insert_default().push_str(&variable(config, &name));
            }
            (letter, None) if letter.is_whitespace() => {
                if let Some(word) = word.take() {
                    words.push(word);
                    words.push(" ".to_owned());
                }
            }
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(refused(format!(
            "failed to process \"{text}\": unexpected end of statement while looking for matching quote"
        )));
    }
    words.extend(word);
    Ok(words)
}

/// `NAME`, `NAME:-default`, `NAME:+instead`.
fn variable(config: &RunConfig, text: &str) -> String {
    let (name, modifier) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let found = config.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    let value = found.unwrap_or_default();
    match modifier.and_then(|text| text.split_at_checked(1)) {
        Some(("-", default)) if value.is_empty() => default.to_owned(),
        Some(("+", instead)) if !value.is_empty() => instead.to_owned(),
        Some(("+", _)) => String::new(),
        _ => value.to_owned(),
    }
}

/// `80`, `80/udp`, `8000-8002/tcp`.
fn ports(text: &str) -> Result<Vec<String>, ChangeError> {
    let bad = || refused(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(refused(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first == 0 || first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn healthcheck(text: &str) -> Result<Healthcheck, ChangeError> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (key, value) = flag.split_once('=').ok_or_else(|| refused(format!("Missing a value on flag: {flag}")))?;
        let time = || units::parse_duration(value).map_err(|error| refused(error.to_string()));
        match key {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => {
                check.retries = value.parse().map_err(|_| refused(format!("invalid value of --retries: {value}")))?;
            }
            _ => return Err(refused(format!("Unknown flag: {key}"))),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" => check.test = vec!["NONE".to_owned()],
        "CMD" if command.is_empty() => return Err(refused("Missing command after HEALTHCHECK CMD")),
        "CMD" => {
            check.test = match json(command) {
                Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            }
        }
        other => return Err(refused(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    }
    Ok(check)
}

fn onbuild(config: &mut RunConfig, text: &str) -> Result<(), ChangeError> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let name = word.to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" => Err(refused("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => Err(refused(format!("{name} isn't allowed as an ONBUILD trigger"))),
        _ => {
            config.on_build.push(format!("{name} {}", rest.trim()));
            Ok(())
        }
    }
}

/// Puts a path behind another and takes `.` and `..` out.
fn join(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<RunConfig, String> {
        let mut config = RunConfig { env: vec!["HOME=/root".into(), "A=1".into()], ..RunConfig::default() };
        config.cmd = Some(vec!["old".into()]);
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        apply(&mut config, &changes).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(&[
            "cmd [\"a\", \"b c\"]",
            "ENV A=2 B=\"two words\" C='$HOME' D=$HOME/x\\ y E=${NONE:-z}",
            "ENV OLD form here",
            "LABEL x=y\nLABEL \"a b\"=c",
            "EXPOSE 80 9000-9001/udp",
            "WORKDIR /work\nWORKDIR deeper/../deep",
            "VOLUME [\"/a\", \"/b\"]\nVOLUME /c /d",
            "USER 1000:1000",
            "STOPSIGNAL SIGUSR1",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl \\\n localhost",
            "ONBUILD run make",
        ])
        .expect("applied");
        assert_eq!(config.cmd, Some(vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(config.env, ["HOME=/root", "A=2", "B=two words", "C=$HOME", "D=/root/x y", "E=z", "OLD=form here"]);
        assert_eq!(config.labels.get("a b").map(String::as_str), Some("c"));
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "9000/udp", "9001/udp"]);
        assert_eq!(config.working_dir, "/work/deep");
        assert_eq!(config.volumes.len(), 4);
        assert_eq!((config.user.as_str(), config.stop_signal.as_str()), ("1000:1000", "SIGUSR1"));
        let check = config.healthcheck.expect("there");
        assert_eq!((check.interval, check.retries, check.test[1].as_str()), (5_000_000_000, 2, "curl localhost"));
        assert_eq!(config.on_build, ["RUN make"]);
    }

    #[test]
    fn an_entry_point_drops_the_command_unless_one_was_given() {
        assert_eq!(changed(&["ENTRYPOINT echo hi"]).expect("applied").cmd, None);
        let both = changed(&["CMD x", "ENTRYPOINT [\"e\"]"]).expect("applied");
        assert_eq!(both.cmd.expect("kept"), ["/bin/sh", "-c", "x"]);
        assert_eq!(both.entrypoint.expect("set"), ["e"]);
    }

    #[test]
    fn what_is_refused() {
        for (text, want) in [
            ("RUN make", "RUN is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("LABEL a=b c", "can't find = in \"c\""),
            ("EXPOSE x", "invalid containerPort: x"),
            ("USER a b", "USER requires exactly one argument"),
            ("ENV A=\"x", "quote"),
        ] {
            let error = changed(&[text]).expect_err("refused");
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
