//! `info`.

use std::fmt::Write as _;

use budu_spec::docker::Info as ServerInfo;
use budu_spec::units::human_bytes;

use super::Command;
use crate::cli::Cli;
use crate::client::Call;
use crate::data::Data;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put;
use crate::template::Template;

/// `info`.
#[derive(Debug, clap::Args)]
pub(super) struct Info {
    /// Print with a Go template, or 'json'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    args: Vec<String>,
}

impl Command for Info {
    const ABOUT: &'static str = "Show the state of the engine";
    const USAGE: &'static str = "[OPTIONS]";
    const ARITY: Arity = Arity::Exactly(0);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let template = Template::of_object(self.format.as_deref())?;
        let answer = cli.client()?.bytes(Call::get("/info")).await;
        let broken = |error: serde_json::Error| Error::Transport { reason: error.to_string() };
        if let Some(template) = template {
            let mut data = Data::parse(&answer?).map_err(broken)?;
            if let Data::Map(members) = &mut data {
                let client = vec![
                    ("Version".to_owned(), Data::from(env!("CARGO_PKG_VERSION"))),
                    ("Context".to_owned(), Data::text(cli.context())),
                    ("Debug".to_owned(), Data::Bool(cli.debug)),
                ];
                members.push(("ClientInfo".to_owned(), Data::Map(client)));
            }
            put(&(template.render(&data)? + "\n"))?;
            return Ok(0);
        }
        let (version, context, debug) = (env!("CARGO_PKG_VERSION"), cli.context(), cli.debug);
        put(&format!("Client:\n Version:    {version}\n Context:    {context}\n Debug Mode: {debug}\n\nServer:\n"))?;
        let info: ServerInfo = serde_json::from_slice(&answer?).map_err(broken)?;
        put(&server_text(&info))?;
        for warning in info.warnings.iter().flatten() {
            eprintln!("{warning}");
        }
        Ok(0)
    }
}

fn server_text(info: &ServerInfo) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, " {name}: {value}");
        }
    };
    line("Containers", &info.containers.to_string());
    line(" Running", &info.containers_running.to_string());
    line(" Paused", &info.containers_paused.to_string());
    line(" Stopped", &info.containers_stopped.to_string());
    line("Images", &info.images.to_string());
    line("Server Version", &info.server_version);
    line("Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        line(&format!(" {name}"), value);
    }
    line("Logging Driver", &info.logging_driver);
    line("Cgroup Driver", &info.cgroup_driver);
    line("Cgroup Version", &info.cgroup_version);
    let _ = writeln!(text, " Plugins:");
    for (name, list) in
        [("Volume", &info.plugins.volume), ("Network", &info.plugins.network), ("Log", &info.plugins.log)]
    {
        let _ = writeln!(text, "  {name}: {}", list.join(" "));
    }
    if let Some(list) = info.plugins.authorization.as_ref().filter(|list| !list.is_empty()) {
        let _ = writeln!(text, "  Authorization: {}", list.join(" "));
    }
    if let Some(state) = info.swarm.get("LocalNodeState").and_then(|state| state.as_str()) {
        let _ = writeln!(text, " Swarm: {state}");
    }
    let runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    let _ = writeln!(text, " Runtimes: {}\n Default Runtime: {}", runtimes.join(" "), info.default_runtime);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, " {name}: {value}");
        }
    };
    line("Init Binary", &info.init_binary);
    line("containerd version", &info.containerd_commit.id);
    line("runc version", &info.runc_commit.id);
    line("init version", &info.init_commit.id);
    text += &security(&info.security_options);
    text += &machine(info);
    text
}

fn security(options: &[String]) -> String {
    if options.is_empty() {
        return String::new();
    }
    let mut text = " Security Options:\n".to_owned();
    for option in options {
        for field in option.split(',') {
            match field.split_once('=') {
                Some(("name", name)) => text += &format!("  {name}\n"),
                Some(("profile", profile)) => text += &format!("   Profile: {profile}\n"),
                Some((key, value)) => text += &format!("   {key}: {value}\n"),
                None => text += &format!("  {field}\n"),
            }
        }
    }
    text
}

fn machine(info: &ServerInfo) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("Kernel Version", info.kernel_version.clone()),
        ("Operating System", info.operating_system.clone()),
        ("OSType", info.os_type.clone()),
        ("Architecture", info.architecture.clone()),
        ("CPUs", info.ncpu.to_string()),
        ("Total Memory", human_bytes(info.mem_total as f64)),
        ("Name", info.name.clone()),
        ("ID", info.id.clone()),
        ("Docker Root Dir", info.docker_root_dir.clone()),
        ("Debug Mode", info.debug.to_string()),
        ("HTTP Proxy", info.http_proxy.clone()),
        ("HTTPS Proxy", info.https_proxy.clone()),
        ("No Proxy", info.no_proxy.clone()),
        ("Experimental", info.experimental_build.to_string()),
        ("Live Restore Enabled", info.live_restore_enabled.to_string()),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, " {name}: {value}");
        }
    }
    let insecure = info.registry_config.get("IndexConfigs").and_then(|all| all.as_object()).into_iter().flatten();
    let mut insecure: Vec<String> =
        insecure.filter(|(_, one)| one["Secure"] == false).map(|(name, _)| name.clone()).collect();
    let networks = info.registry_config.get("InsecureRegistryCIDRs").and_then(|list| list.as_array());
    insecure.extend(networks.into_iter().flatten().filter_map(|network| network.as_str().map(str::to_owned)));
    for (name, list) in [("Labels", &info.labels), ("Insecure Registries", &insecure)] {
        if !list.is_empty() {
            let _ = writeln!(text, " {name}:");
            list.iter().for_each(|one| text += &format!("  {one}\n"));
        }
    }
    text
}
