//! Cuts a template into text and the tokens of its actions.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Literal text.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// A name: keyword or function.
    Word(String),
    /// `.a.b`; empty for the bare dot.
    Field(Vec<String>),
    /// `$name`, without the dollar sign, and fields behind it.
    Variable(String),
    /// A quoted text.
    Quoted(String),
    /// A whole number (or character).
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// `|`.
    Pipe,
    /// `(`.
    Left,
    /// `)`, directly followed by `.field`s when there are any.
    Right(Vec<String>),
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    /// `,`.
    Comma,
}

/// Cuts `text`.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(at) = rest.find("{{") {
        let (before, action) = (&rest[..at], &rest[at + 2..]);
        let trim_here = action.starts_with('-') && action[1..].starts_with(char::is_whitespace);
        push_text(&mut tokens, before, trim_next, trim_here);
        let action = if trim_here { &action[1..] } else { action };
        let (inner, after) = end_of_action(action)?;
        let (inner, trim) = match inner.strip_suffix('-') {
            Some(shorter) if shorter.is_empty() || shorter.ends_with(char::is_whitespace) => (shorter, true),
            _ => (inner, false),
        };
        trim_next = trim;
        rest = after;
        if inner.trim_start().starts_with("/*") {
            continue;
        }
        tokens.push(Token::Open);
        lex_action(inner, &mut tokens)?;
        tokens.push(Token::Close);
    }
    push_text(&mut tokens, rest, trim_next, false);
    Ok(tokens)
}

fn push_text(tokens: &mut Vec<Token>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// Finds the `}}` that is not inside quotes or a comment.
fn end_of_action(text: &str) -> Result<(&str, &str), String> {
    let bytes = text.as_bytes();
    if text.trim_start().starts_with("/*") {
        let end = text.find("*/").ok_or("unclosed comment")?;
        let close = text[end..].find("}}").ok_or("comment ends before closing delimiter")? + end;
        return Ok((&text[..close], &text[close + 2..]));
    }
    let mut at = 0;
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'`' | b'\'')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Ok((&text[..at], &text[at + 2..])),
            _ => {}
        }
        at += 1;
    }
    Err(if quote.is_some() { "unterminated quoted string" } else { "unclosed action" }.to_owned())
}

fn lex_action(text: &str, tokens: &mut Vec<Token>) -> Result<(), String> {
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = next_token(first, rest)?;
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(())
}

fn next_token(first: char, rest: &str) -> Result<(Token, &str), String> {
    Ok(match first {
        '|' => (Token::Pipe, &rest[1..]),
        ',' => (Token::Comma, &rest[1..]),
        '(' => (Token::Left, &rest[1..]),
        ')' => {
            let (fields, after) = fields(&rest[1..]);
            (Token::Right(fields), after)
        }
        ':' if rest.starts_with(":=") => (Token::Declare, &rest[2..]),
        '=' => (Token::Assign, &rest[1..]),
        '"' | '\'' | '`' => quoted(first, rest)?,
        '$' => {
            let end = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |at| at + 1);
            (Token::Variable(rest[1..end].to_owned()), &rest[end..])
        }
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (fields, after) = fields(rest);
            let after = if fields.is_empty() { &rest[1..] } else { after };
            (Token::Field(fields), after)
        }
        '0'..='9' | '-' | '+' | '.' => number(rest)?,
        _ if first.is_alphabetic() || first == '_' => {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), &rest[end..])
        }
        _ => return Err(format!("unexpected {first:?} in command")),
    })
}

/// Reads `.a.b.c`.
fn fields(text: &str) -> (Vec<String>, &str) {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some(name) = rest.strip_prefix('.') {
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        if end == 0 {
            break;
        }
        fields.push(name[..end].to_owned());
        rest = &name[end..];
    }
    (fields, rest)
}

fn number(rest: &str) -> Result<(Token, &str), String> {
    let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').map_or(rest.len(), |at| at + 1);
    let word = &rest[..end];
    let hexadecimal = word.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    let token = match (hexadecimal, word.parse::<i64>(), word.parse::<f64>()) {
        (Some(n), ..) | (None, Ok(n), _) => Token::Int(n),
        (_, _, Ok(n)) => Token::Float(n),
        _ => return Err(format!("bad number syntax: {word:?}")),
    };
    Ok((token, &rest[end..]))
}

fn quoted(quote: char, rest: &str) -> Result<(Token, &str), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let after = &rest[at + c.len_utf8()..];
            let token = match (quote, text.chars().next()) {
                ('\'', Some(c)) if text.chars().count() == 1 => Token::Int(i64::from(u32::from(c))),
                ('\'', _) => return Err("malformed character constant".to_owned()),
                _ => Token::Quoted(text),
            };
            return Ok((token, after));
        }
        if c != '\\' || quote == '`' {
            text.push(c);
            continue;
        }
        match chars.next().map(|(_, c)| c) {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(c @ ('"' | '\\' | '\'')) => text.push(c),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or("bad escape")?);
            }
            _ => return Err("unknown escape sequence".to_owned()),
        }
    }
    Err("unterminated quoted string".to_owned())
}
