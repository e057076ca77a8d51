//! `context create`, `update`, `rm`, `use`.

use std::collections::BTreeMap;

use super::super::Command;
use super::DEFAULT;
use crate::cli::Cli;
use crate::context::{DOCKER, Endpoint, MATERIAL, Meta, Store, check_name};
use crate::error::{Error, open_failed};
use crate::flags::Arity;
use crate::host::{Host, variable};
use crate::table::put_line;

/// `context create`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Create {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// Where the daemon is: host=,ca=,cert=,key=,skip-tls-verify=,from=
    #[arg(long, value_name = "stringToString")]
    docker: Option<String>,
    /// Copy this context
    #[arg(long, value_name = "string")]
    from: Option<String>,
    args: Vec<String>,
}

/// `context update`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Update {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// Where the daemon is: host=,ca=,cert=,key=,skip-tls-verify=,from=
    #[arg(long, value_name = "stringToString")]
    docker: Option<String>,
    args: Vec<String>,
}

/// `context rm`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Remove {
    /// Remove the context in use, too
    #[arg(short, long)]
    force: bool,
    args: Vec<String>,
}

/// `context use`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Use {
    args: Vec<String>,
}

/// Certificates by file name.
type Material = BTreeMap<String, Vec<u8>>;

/// What `--docker` says.
fn endpoint(text: &str, cli: &Cli) -> Result<(Endpoint, Material), Error> {
    let failed = |why: String| Error::new(format_args!("unable to create docker endpoint config: {why}"));
    let mut settings = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Error::new(format_args!("{pair} must be formatted as key=value")))?;
        settings.insert(key.trim(), value);
    }
    for key in settings.keys() {
        if !["host", "ca", "cert", "key", "skip-tls-verify", "from"].contains(key) {
            return Err(failed(format!("unrecognized config key: {key}")));
        }
    }
    let given = |key: &str| settings.get(key).copied().filter(|value| !value.is_empty());
    if let Some(from) = given("from") {
        return copied(from, cli)
            .map(|(meta, material)| (meta.endpoints.get(DOCKER).cloned().unwrap_or_default(), material));
    }
    let host = given("host").unwrap_or_default();
    Host::parse(host, None).map_err(|error| failed(error.to_string()))?;
    let skip = given("skip-tls-verify").map_or(Ok(false), |text| match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(failed(format!("skip-tls-verify: strconv.ParseBool: parsing {text:?}: invalid syntax"))),
    })?;
    let mut material = Material::new();
    for (key, file) in ["ca", "cert", "key"].into_iter().zip(MATERIAL) {
        if let Some(path) = given(key) {
            let bytes = std::fs::read(path).map_err(|error| failed(open_failed(path, &error).to_string()))?;
            material.insert(file.to_owned(), bytes);
        }
    }
    Ok((Endpoint { host: host.to_owned(), skip_tls_verify: skip, ..Endpoint::default() }, material))
}

/// Another context, or what variables and flags say now.
fn copied(name: &str, cli: &Cli) -> Result<(Meta, Material), Error> {
    if name != DEFAULT {
        let store = Store::of(&cli.config);
        return Ok((store.get(name)?, store.material(name)));
    }
    let choice = cli.choice()?;
    let host = match &choice.host {
        Host::Unix(_) if choice.by_default => format!("unix://{}", crate::host::DOCKER_SOCKET),
        host => host.to_string(),
    };
    let mut endpoint = Endpoint { host, ..Endpoint::default() };
    let mut material = Material::new();
    if let Host::Tls(_, tls) = &choice.host {
        endpoint.skip_tls_verify = !tls.verify;
        for (path, file) in [&tls.files.ca, &tls.files.cert, &tls.files.key].into_iter().zip(MATERIAL) {
            if let Some(bytes) = path.as_ref().and_then(|path| std::fs::read(path).ok()) {
                material.insert(file.to_owned(), bytes);
            }
        }
    }
    Ok((Meta { endpoints: [(DOCKER.to_owned(), endpoint)].into(), ..Meta::default() }, material))
}

fn describe(meta: &mut Meta, description: Option<String>) {
    if let Some(text) = description {
        meta.metadata.insert("Description".to_owned(), text.into());
    }
}

impl Command for Create {
    const ABOUT: &'static str = "Create a context";
    const USAGE: &'static str = "[OPTIONS] CONTEXT";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (store, name) = (Store::of(&cli.config), &self.args[0]);
        check_name(name)?;
        if store.get(name).is_ok() {
            return Err(Error::new(format_args!("context {name:?} already exists")));
        }
        let (mut meta, material) = match (&self.docker, &self.from) {
            (Some(_), Some(_)) => return Err(Error::new("cannot use --docker flag when --from is set")),
            (None, Some(from)) => copied(from, cli)?,
            (None, None) => copied(&cli.context(), cli)?,
            (Some(text), None) => {
                let (endpoint, material) = endpoint(text, cli)?;
                (Meta { endpoints: [(DOCKER.to_owned(), endpoint)].into(), ..Meta::default() }, material)
            }
        };
        name.clone_into(&mut meta.name);
        describe(&mut meta, self.description);
        store.put(&meta)?;
        store.put_material(name, &material)?;
        put_line(name)?;
        eprintln!("Successfully created context {name:?}");
        Ok(0)
    }
}

impl Command for Update {
    const ABOUT: &'static str = "Update a context";
    const USAGE: &'static str = "[OPTIONS] CONTEXT";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (store, name) = (Store::of(&cli.config), &self.args[0]);
        check_name(name)?;
        let mut meta = store.get(name)?;
        describe(&mut meta, self.description);
        if let Some(text) = &self.docker {
            let (endpoint, material) = endpoint(text, cli)?;
            meta.endpoints.insert(DOCKER.to_owned(), endpoint);
            store.put_material(name, &material)?;
        }
        store.put(&meta)?;
        put_line(name)?;
        eprintln!("Successfully updated context {name:?}");
        Ok(0)
    }
}

impl Command for Remove {
    const ABOUT: &'static str = "Remove one or more contexts";
    const USAGE: &'static str = "CONTEXT [CONTEXT...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let (store, current) = (Store::of(&cli.config), cli.context());
        let mut code = 0;
        for name in &self.args {
            let result = match name.as_str() {
                DEFAULT => Err(Error::new("context \"default\" cannot be removed")),
                _ if store.get(name).is_err() && !self.force => {
                    Err(Error::new(format_args!("context {name:?} does not exist")))
                }
                _ if *name == current && !self.force => {
                    Err(Error::new(format_args!("context {name:?} is in use, set -f flag to force remove")))
                }
                _ => store.remove(name),
            };
            match result {
                Ok(()) => {
                    if *name == cli.config.current_context {
                        cli.config.use_context(DEFAULT)?;
                    }
                    put_line(name)?;
                }
                Err(error) => {
                    eprintln!("{error}");
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

impl Command for Use {
    const ABOUT: &'static str = "Set the context that is used when none is named";
    const USAGE: &'static str = "CONTEXT";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let name = &self.args[0];
        if name != DEFAULT {
            check_name(name)?;
            Store::of(&cli.config).get(name)?;
        }
        cli.config.use_context(name)?;
        put_line(name)?;
        eprintln!("Current context is now {name:?}");
        if name != DEFAULT && variable("DOCKER_HOST").is_some() {
            eprintln!(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset DOCKER_HOST environment variable."
            );
        }
        Ok(0)
    }
}
