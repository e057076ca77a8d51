//! Where credentials are kept: helper programs (`docker-credential-…`), or `config.json` itself.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use budu_spec::docker::AuthConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::Error;

/// What helpers speak.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// A helper says this when it has nothing for a server.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// Instead of a user name, when the secret is a token.
const TOKEN: &str = "<token>";

/// Runs a helper.
fn ask(helper: &str, verb: &str, input: &[u8]) -> Result<Vec<u8>, Error> {
    let program = format!("docker-credential-{helper}");
    let failed =
        |error: std::io::Error| Error::new(format_args!("error getting credentials - err: {program}: {error}"));
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Err(Error::new(format_args!("error getting credentials - err: {}, out: `{text}`", output.status)))
}

/// Credentials for a server, if the helper has any.
pub(crate) fn get(helper: &str, server: &str) -> Result<Option<AuthConfig>, Error> {
    let answer = match ask(helper, "get", server.as_bytes()) {
        Err(error) if error.to_string().contains(NOT_FOUND) => return Ok(None),
        other => other?,
    };
    let kept: Kept = serde_json::from_slice(&answer).map_err(Error::new)?;
    let server = server.to_owned();
    Ok(Some(match kept.username.as_str() {
        TOKEN => AuthConfig { identitytoken: kept.secret, serveraddress: server, ..AuthConfig::default() },
        _ => AuthConfig {
            username: kept.username,
            password: kept.secret,
            serveraddress: server,
            ..AuthConfig::default()
        },
    }))
}

/// Keeps credentials with a helper, or in the file.
pub(crate) fn store(helper: Option<&str>, directory: &Path, auth: &AuthConfig) -> Result<(), Error> {
    if let Some(helper) = helper {
        let (username, secret) = match auth.identitytoken.is_empty() {
            true => (auth.username.clone(), auth.password.clone()),
            false => (TOKEN.to_owned(), auth.identitytoken.clone()),
        };
        let kept = Kept { server: auth.serveraddress.clone(), username, secret };
        ask(helper, "store", &serde_json::to_vec(&kept).map_err(Error::new)?)?;
        return edit(directory, |auths| {
            auths.insert(auth.serveraddress.clone(), json!({}));
        });
    }
    let plain = format!("{}:{}", auth.username, auth.password);
    let mut entry = json!({"auth": base64::engine::general_purpose::STANDARD.encode(plain)});
    if !auth.identitytoken.is_empty() {
        entry["identitytoken"] = json!(auth.identitytoken);
    }
    edit(directory, |auths| {
        auths.insert(auth.serveraddress.clone(), entry);
    })
}

/// Forgets credentials.
pub(crate) fn erase(helper: Option<&str>, directory: &Path, server: &str) -> Result<(), Error> {
    if let Some(helper) = helper {
        ask(helper, "erase", server.as_bytes())?;
    }
    edit(directory, |auths| {
        auths.remove(server);
    })
}

/// Changes `auths` in `config.json`; what else is in it stays.
fn edit(directory: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), Error> {
    let path = directory.join("config.json");
    let failed =
        |error: std::io::Error| Error::new(format_args!("error saving credentials: {}: {error}", path.display()));
    let mut config: Value = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(Error::new)?,
        Err(_) => json!({}),
    };
    if !config["auths"].is_object() {
        config["auths"] = json!({});
    }
    if let Some(auths) = config["auths"].as_object_mut() {
        change(auths);
        if auths.is_empty()
            && let Some(all) = config.as_object_mut()
        {
            all.remove("auths");
        }
    }
    let text = serde_json::to_string_pretty(&config).map_err(Error::new)?.replace("\n  ", "\n\t");
    std::fs::create_dir_all(directory).map_err(failed)?;
    // Where a link points to is where the file is; its place is taken over at once.
    let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let temporary = real.with_extension(format!("json.{}", std::process::id()));
    let mode = std::fs::metadata(&real).map_or(0o600, |state| state.permissions().mode() & 0o777);
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&temporary, &real)).map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_keeps_what_else_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"psFormat":"x","auths":{"a.example":{"auth":"eA=="}}}"#).unwrap();
        let auth = AuthConfig {
            username: "u".into(),
            password: "p:w".into(),
            serveraddress: "r.example".into(),
            ..AuthConfig::default()
        };
        store(None, dir.path(), &auth).unwrap();
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read()["auths"]["r.example"]["auth"], "dTpwOnc=");
        erase(None, dir.path(), "r.example").unwrap();
        assert_eq!(read(), json!({"psFormat": "x", "auths": {"a.example": {"auth": "eA=="}}}));
        erase(None, dir.path(), "a.example").unwrap();
        assert_eq!(read(), json!({"psFormat": "x"}));
    }
}
