//! Flags, with dockerd's names.

use std::ffi::OsString;

use lexopt::prelude::*;

use super::file::{self, Given};
use super::set::{Refusal, Value};
use super::{Config, keys};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish {
    /// Run with this.
    Run(Box<Command>),
    /// Print this text and end.
    Print(String),
    /// Say that the configuration is fine and end.
    Validate,
}

/// A command line that was understood. It can be read again later, with the
/// file as it is then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Command {
    /// What flags and file say.
    pub(crate) config: Config,
    /// What flags alone say.
    flags: Config,
    given: Given,
    path: Option<String>,
}

impl Command {
    /// Reads the file again. Returns the new settings and the keys that the
    /// file has.
    pub(crate) fn again(&self) -> Result<(Config, Vec<String>), Problem> {
        let mut config = self.flags.clone();
        let keys = file::merge(&mut config, self.path.as_deref(), &self.given)?;
        finish(&mut config)?;
        Ok((config, keys))
    }
}

/// What is wrong with the command line or the file.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    pub(crate) message: String,
}

const HELP: &str = "Usage:  budu daemon [OPTIONS]

A container engine that speaks the Docker Engine API

Options:
  -H, --host list                Where to listen: unix://PATH, tcp://HOST:PORT, fd:// (repeatable)
      --tls                      Use TLS on TCP
      --tlsverify                Use TLS and let in only clients with a certificate
      --tlscacert string         Authority of clients' certificates (default \"~/.docker/ca.pem\")
      --tlscert string           Our certificate (default \"~/.docker/cert.pem\")
      --tlskey string            Its key (default \"~/.docker/key.pem\")
      --unauthenticated-tcp      Let anybody who reaches the TCP port be root on this machine
      --authorization-plugin list   Plugin to ask about each request, in this order
      --metrics-addr string      HOST:PORT to serve metrics for Prometheus on
      --data-root string         Root of persistent state (default \"/var/lib/budu\")
      --exec-root string         Root of execution state (default \"/run/budu\")
      --config-file string       Configuration file (default \"/etc/budu/daemon.json\")
  -b, --bridge string            Bridge of the default network; none for no network (default \"budu0\")
      --bip string               Address of the bridge, such as 10.9.0.1/24
      --default-address-pool base=CIDR,size=int
                                 Range that networks are cut from (may be repeated)
      --mtu int                  MTU of the default network (default 1500)
      --ip-forward               Switch on IP forwarding (default true)
      --ip-masq                  Masquerade outgoing traffic (default true)
      --dns list                 Name server of containers
      --dns-opt list             Resolver option of containers
      --dns-search list          Search domain of containers
      --insecure-registry list   Registry to speak to without TLS
      --max-concurrent-downloads int   Layers of a pull transferred at once (default 3)
      --max-download-attempts int      Attempts per layer (default 5)
      --cgroup-parent string     cgroup of all containers (default \"budu\")
      --default-shm-size bytes   Size of /dev/shm in containers (default 64MiB)
      --cdi-spec-dir list        Where devices are described (default /etc/cdi, /var/run/cdi)
      --init                     Run an init in every container
      --label list               Label of this daemon
      --live-restore             Leave containers running when the daemon ends (default true)
      --shutdown-timeout int     Seconds containers get when the daemon ends (default 15)
      --log-driver string        Default log driver (default \"json-file\")
  -D, --debug                    Debug output
  -l, --log-level string         debug, info, warn, error or fatal (default \"info\")
  -p, --pidfile string           File to write the process id to
  -G, --group string             Group that may use the sockets (default \"docker\")
      --validate                 Check flags and file, and end
  -v, --version                  Print the version

Further settings of dockerd are taken, too; SIGHUP reads the file again.
";

/// Parses arguments (without the program's name) and reads the file they name.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Wish, Problem> {
    let mut config = Config::default();
    let mut given = Given::new();
    let mut validate = false;
    let mut path = None;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(wrong)? {
        let name = match arg {
            Short('H') => "host".to_owned(),
            Short('b') => "bridge".to_owned(),
            Short('D') => "debug".to_owned(),
            Short('l') => "log-level".to_owned(),
            Short('p') => "pidfile".to_owned(),
            Short('G') => "group".to_owned(),
            Short('s') => "storage-driver".to_owned(),
            Short('v') | Long("version") => return Ok(Wish::Print(format!("Budu version {}\n", crate::VERSION))),
            Short('h') | Long("help") => return Ok(Wish::Print(HELP.to_owned())),
            Long(name) => name.to_owned(),
            other => return Err(wrong(other.unexpected())),
        };
        let value = match keys::SWITCHES.contains(&name.as_str()) {
            true => parser.optional_value().map_or("true".into(), |v| v.to_string_lossy().into_owned()),
            false => parser.value().map_err(wrong)?.string().map_err(wrong)?,
        };
        if name == "config-file" {
            path = Some(value);
            continue;
        }
        if name == "validate" {
            validate = value != "false";
            continue;
        }
        let key = keys::PLURALS.iter().find(|(flag, _)| *flag == name).map_or(name.as_str(), |(_, key)| key);
        config.set(key, &Value::Text(value.clone())).map_err(|refusal| flag_problem(&name, &value, refusal))?;
        given.entry(key.to_owned()).or_default().push(value);
    }
    let flags = config.clone();
    let mut command = Command { config, flags, given, path };
    command.config = command.again()?.0;
    Ok(if validate { Wish::Validate } else { Wish::Run(Box::new(command)) })
}

/// What follows from several settings together.
fn finish(config: &mut Config) -> Result<(), Problem> {
    config.tls |= config.tls_verify;
    if config.tls {
        let dir = std::env::var_os("DOCKER_CERT_PATH").map(std::path::PathBuf::from);
        let dir = dir.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
        let dir = dir.unwrap_or_default();
        let files = &mut config.tls_files;
        files.cert.get_or_insert_with(|| dir.join("cert.pem"));
        files.key.get_or_insert_with(|| dir.join("key.pem"));
        if config.tls_verify {
            files.ca.get_or_insert_with(|| dir.join("ca.pem"));
        }
    }
    let mut seen = std::collections::BTreeMap::new();
    for label in &config.labels {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if let Some(other) = seen.insert(key, value).filter(|other| *other != value) {
            let message = format!("conflict labels for {key}={value} and {key}={other}");
            return Err(Problem { message });
        }
    }
    let known = matches!(config.default_runtime.as_str(), "budu" | "runc" | "io.containerd.runc.v2");
    if !known && !config.runtimes.contains_key(&config.default_runtime) {
        let message = format!("specified default runtime '{}' does not exist", config.default_runtime);
        return Err(Problem { message });
    }
    Ok(())
}

fn wrong(error: lexopt::Error) -> Problem {
    Problem { message: format!("{error}\nsee 'budu daemon --help'") }
}

fn flag_problem(name: &str, value: &str, refusal: Refusal) -> Problem {
    let message = match refusal {
        Refusal::Unknown => format!("unknown flag: --{name}\nsee 'budu daemon --help'"),
        Refusal::Value(want) => format!("invalid argument {value:?} for --{name}: {want}"),
    };
    Problem { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Config, String> {
        let mut args: Vec<OsString> = args.iter().map(OsString::from).collect();
        args.extend(["--config-file".into(), "/dev/null".into()]);
        match parse(args).map_err(|e| e.to_string())? {
            Wish::Run(command) => Ok(command.config),
            Wish::Print(text) => Err(text),
            Wish::Validate => Err("configuration OK".to_owned()),
        }
    }

    #[test]
    fn flags_of_dockerd() {
        let config = run(&[
            "-H",
            "unix:///a",
            "--host=unix:///b",
            "-D",
            "--data-root",
            "/d",
            "--exec-root=/e",
            "--bridge",
            "br9",
            "--bip",
            "10.9.0.1/24",
            "--ip-forward=false",
            "--iptables=false",
            "--insecure-registry",
            "r:5000",
            "-l",
            "warn",
        ])
        .unwrap();
        assert_eq!(config.hosts, ["unix:///a", "unix:///b"]);
        assert!(config.debug && !config.ip_forward);
        assert_eq!((config.bridge.as_str(), config.bip.unwrap().prefix_len()), ("br9", 24));
        assert_eq!(config.ignored, ["iptables"]);
        assert_eq!(config.insecure_registries, ["r:5000"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(run(&["--nope", "x"]).unwrap_err().starts_with("unknown flag: --nope"));
        assert!(run(&["--bip", "x"]).unwrap_err().contains("--bip"));
        assert!(run(&["stray"]).unwrap_err().contains("stray"));
        assert_eq!(run(&["--validate"]).unwrap_err(), "configuration OK");
        assert!(run(&["--label", "a=b", "--label", "a=c"]).unwrap_err().starts_with("conflict labels for a=c"));
        assert!(run(&["--default-runtime", "x"]).unwrap_err().contains("does not exist"));
        assert!(run(&["--version"]).unwrap_err().starts_with("Budu version "));
    }
}
