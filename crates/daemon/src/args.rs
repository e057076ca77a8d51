//! Flags, with dockerd's names.

use std::collections::BTreeSet;
use std::ffi::OsString;

use lexopt::prelude::*;

use crate::config::{Config, Refusal, Value};
use crate::file;

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish {
    /// Run with this.
    Run(Box<Config>),
    /// Print this text and end.
    Print(String),
}

/// What is wrong with the command line or the file.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    pub(crate) message: String,
}

/// Long flags without argument: dockerd takes `--flag` and `--flag=false`.
const SWITCHES: &[&str] = &[
    "debug",
    "experimental",
    "icc",
    "init",
    "ip-forward",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "raw-logs",
    "selinux-enabled",
    "userland-proxy",
    "tls",
    "tlsverify",
];

/// Flags whose key in the file is the plural.
const PLURALS: &[(&str, &str)] = &[
    ("host", "hosts"),
    ("insecure-registry", "insecure-registries"),
    ("registry-mirror", "registry-mirrors"),
    ("label", "labels"),
    ("cdi-spec-dir", "cdi-spec-dirs"),
    ("default-address-pool", "default-address-pools"),
    ("dns-opt", "dns-opts"),
    ("storage-opt", "storage-opts"),
    ("log-opt", "log-opts"),
    ("exec-opt", "exec-opts"),
    ("add-runtime", "runtimes"),
    ("feature", "features"),
];

const HELP: &str = "Usage:  budu daemon [OPTIONS]

A container engine that speaks the Docker Engine API

Options:
  -H, --host list                Socket to listen on, unix://PATH (repeatable)
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
  -v, --version                  Print the version
";

/// Parses arguments (without the program's name) and reads the file they name.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Wish, Problem> {
    let mut config = Config::default();
    let mut given = BTreeSet::new();
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
        let value = match SWITCHES.contains(&name.as_str()) {
            true => parser.optional_value().map_or("true".into(), |v| v.to_string_lossy().into_owned()),
            false => parser.value().map_err(wrong)?.string().map_err(wrong)?,
        };
        if name == "config-file" {
            path = Some(value);
            continue;
        }
        let key = PLURALS.iter().find(|(flag, _)| *flag == name).map_or(name.as_str(), |(_, key)| key);
        config.set(key, &Value::Text(value.clone())).map_err(|refusal| flag_problem(&name, &value, refusal))?;
        given.insert(key.to_owned());
    }
    file::merge(&mut config, path.as_deref(), &given)?;
    Ok(Wish::Run(Box::new(config)))
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
            Wish::Run(config) => Ok(*config),
            Wish::Print(text) => Err(text),
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
        assert!(run(&["--version"]).unwrap_err().starts_with("Budu version "));
    }
}
