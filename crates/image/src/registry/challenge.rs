//! `WWW-Authenticate` (RFC 9110 section 11): which proof a registry wants.

/// One acceptable proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password.
    Basic,
    /// A token from somewhere else.
    Bearer(Bearer),
}

/// Where to get a token and what to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
    /// Why an earlier token was not enough.
    pub(crate) error: Option<String>,
}

/// Reads one header value, which may hold several challenges. Unknown ones are left out.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let (scheme, after) = rest.split_at(end);
        let (parameters, after) = parameters(after);
        rest = after.trim_start_matches([',', ' ']);
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            if let Some(realm) = get("realm") {
                let (service, scope, error) = (get("service"), get("scope"), get("error"));
                challenges.push(Challenge::Bearer(Bearer { realm, service, scope, error }));
            }
        }
    }
    challenges
}

/// Takes `key=value` pairs as long as there are any; the rest starts at the next scheme.
fn parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([',', ' ']);
        let Some((key, value)) = start.split_once('=') else { return (found, start) };
        let token = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if !token(key.trim_end()) {
            return (found, start);
        }
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        found.push((key.trim_end().to_ascii_lowercase(), value));
        text = rest;
    }
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        assert_eq!(
            parse(hub),
            [Challenge::Bearer(Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: Some("repository:library/x:pull,push".into()),
                error: None,
            })]
        );
        assert_eq!(parse("basic realm=\"a, b\""), [Challenge::Basic]);
        let two =
            parse("Digest realm=\"x\", nonce=abc, Basic realm=\"y\", bearer realm=z , error=\"insufficient_scope\"");
        assert_eq!(two.len(), 2);
        assert_eq!(two[0], Challenge::Basic);
        assert!(matches!(&two[1], Challenge::Bearer(bearer) if bearer.realm == "z"));
        for nonsense in ["", ",,,", "Bearer", "Bearer realm", "\"", "=", "Bearer realm=\"unterminated", "a=b=c"] {
            let _ = parse(nonsense);
        }
    }
}
