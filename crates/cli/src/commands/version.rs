//! `version`.

use std::fmt::Write as _;

use budu_spec::docker::{ApiVersion, Version as ServerVersion};

use super::{BUILD, Command};
use crate::cli::Cli;
use crate::client::Call;
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;
use crate::template::Template;

/// `version`.
#[derive(Debug, clap::Args)]
pub(super) struct Version {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    args: Vec<String>,
}

impl Command for Version {
    const ABOUT: &'static str = "Show the versions of client and engine";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let template = Template::of_object(self.format.as_deref())?;
        let client = cli.client()?;
        let answer = client.bytes(Call::get("/version")).await;
        let client_side = client_members(cli, client.version());
        let mut text = match (&template, &answer) {
            (None, _) => client_text(&client_side),
            (Some(_), _) => String::new(),
        };
        let broken = |error: serde_json::Error| Error::Transport { reason: error.to_string() };
        if let Some(template) = &template {
            let server = match &answer {
                Ok(body) => Data::parse(body).map_err(broken)?,
                Err(_) => Data::Null,
            };
            let all = Data::Map(vec![("Client".to_owned(), client_side), ("Server".to_owned(), server)]);
            let rendered = template.render(&all);
            if rendered.is_err() && answer.is_err() {
                // Nobody answered: that is what is wrong, not the template.
                return answer.map(|_| 0);
            }
            text = rendered? + "\n";
        } else if let Ok(body) = &answer {
            text += &server_text(&serde_json::from_slice(body).map_err(broken)?);
        }
        put(&text)?;
        answer.map(|_| 0)
    }
}

fn client_members(cli: &Cli, api: ApiVersion) -> Data {
    let text = |name: &str, value: &str| (name.to_owned(), Data::from(value));
    Data::Map(vec![
        text("Version", env!("CARGO_PKG_VERSION")),
        text("ApiVersion", &api.to_string()),
        text("DefaultAPIVersion", &ApiVersion::MAX.to_string()),
        text("GitCommit", BUILD),
        text("GoVersion", ""),
        text("Os", std::env::consts::OS),
        text("Arch", architecture()),
        text("BuildTime", ""),
        text("Context", &cli.context()),
    ])
}

/// The architecture under Docker's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn client_text(client: &Data) -> String {
    let member = |name: &str| client.member(name).map(ToString::to_string).unwrap_or_default();
    let (newest, used) = (member("DefaultAPIVersion"), member("ApiVersion"));
    let api = if newest == used { used } else { format!("{used} (downgraded from {newest})") };
    let mut text = "Client: Budu\n".to_owned();
    for (name, value) in [
        ("Version:", member("Version")),
        ("API version:", api),
        ("Git commit:", member("GitCommit")),
        ("OS/Arch:", format!("{}/{}", member("Os"), member("Arch"))),
        ("Context:", member("Context")),
    ] {
        let _ = writeln!(text, " {name:18} {value}");
    }
    text
}

fn server_text(server: &ServerVersion) -> String {
    let mut text = format!("\nServer: {}\n", server.platform.name).replace(": \n", ":\n");
    let engine = |name: &str, value: &str, text: &mut String| {
        let _ = writeln!(text, "  {name:17} {value}");
    };
    let mut parts = server.components.iter().peekable();
    if parts.peek().is_none_or(|part| part.name != "Engine") {
        text += " Engine:\n";
        engine("Version:", &server.version, &mut text);
        engine(
            "API version:",
            &format!("{} (minimum version {})", server.api_version, server.min_api_version),
            &mut text,
        );
        engine("Git commit:", &server.git_commit, &mut text);
        engine("OS/Arch:", &format!("{}/{}", server.os, server.arch), &mut text);
    }
    for part in parts {
        let _ = writeln!(text, " {}:", part.name);
        engine("Version:", &part.version, &mut text);
        let detail = |name: &str| part.details.get(name).map(String::as_str).unwrap_or_default();
        if part.name != "Engine" {
            for (name, value) in &part.details {
                engine(&format!("{name}:"), value, &mut text);
            }
            continue;
        }
        engine(
            "API version:",
            &format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion")),
            &mut text,
        );
        for (name, key) in [("Go version:", "GoVersion"), ("Git commit:", "GitCommit"), ("Built:", "BuildTime")] {
            if !detail(key).is_empty() {
                engine(name, detail(key), &mut text);
            }
        }
        engine("OS/Arch:", &format!("{}/{}", detail("Os"), detail("Arch")), &mut text);
        if !detail("Experimental").is_empty() {
            engine("Experimental:", detail("Experimental"), &mut text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let server: ServerVersion = serde_json::from_str(
            r#"{"Platform":{"Name":"Budu"},"Components":[{"Name":"Engine","Version":"0.1","Details":{"ApiVersion":"1.51","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64","GitCommit":"abc"}}]}"#,
        )
        .unwrap();
        assert_eq!(
            server_text(&server),
            "\nServer: Budu\n Engine:\n  Version:          0.1\n  API version:      1.51 (minimum version 1.24)\n  Git commit:       abc\n  OS/Arch:          linux/amd64\n"
        );
    }
}
