//! `run` and `create`.

use std::fs::OpenOptions;
use std::io::Write as _;

use budu_spec::Reference;
use budu_spec::docker::{ContainerCreate, ContainerCreated, WaitAnswer};

use super::interact::{self, SignalProxy};
use super::{Command, pull};
use crate::attach::{Ended, Streams, carry};
use crate::cli::Cli;
use crate::client::{Call, Client, Query, Streaming, escape};
use crate::create::{self, ContainerFlags};
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::flags::Arity;
use crate::table::put_line;
use crate::terminal::{self, RawMode};

const USAGE: &str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";

/// Flags about getting the image.
#[derive(Debug, clap::Args)]
struct ImageFlags {
    /// Platform of the image, when there are several
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// When to pull the image first ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pull: String,
    /// Do not show the progress of a pull
    #[arg(short, long)]
    quiet: bool,
}

/// `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    container: ContainerFlags,
    #[command(flatten)]
    image: ImageFlags,
    /// Leave the container in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Key sequence that detaches
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Pass signals on to the process
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    args: Vec<String>,
}

/// `create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    container: ContainerFlags,
    #[command(flatten)]
    image: ImageFlags,
    args: Vec<String>,
}

impl Command for Create {
    const ABOUT: &'static str = "Create a container";
    const USAGE: &'static str = USAGE;
    const ARITY: Arity = Arity::AtLeast(1);
    const OPTIONS_FIRST: bool = true;

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        check_pull(&self.image.pull).map_err(|error| with_help(&error, cli.program, "create", 125))?;
        let body =
            plan(cli, &self.container, &self.args).map_err(|error| with_help(&error, cli.program, "create", 125))?;
        let id = create(cli, &self.container, &self.image, body).await?;
        put_line(&id)?;
        Ok(0)
    }
}

impl Command for Run {
    const ABOUT: &'static str = "Create and start a container";
    const USAGE: &'static str = USAGE;
    const ARITY: Arity = Arity::AtLeast(1);
    const OPTIONS_FIRST: bool = true;

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let failed = |error: &Error| with_help(error, cli.program, "run", 125);
        check_pull(&self.image.pull).map_err(|error| failed(&error))?;
        let mut body = plan(cli, &self.container, &self.args).map_err(|error| failed(&error))?;
        if self.detach {
            if !self.container.attach.is_empty() {
                return Err(Error::new("conflicting options: cannot specify both --attach and --detach"));
            }
            body.config.attach_stdin = false;
            body.config.attach_stdout = false;
            body.config.attach_stderr = false;
            body.config.stdin_once = false;
        } else if body.config.attach_stdin && body.config.tty && !terminal::stdin_is_tty() {
            return Err(Error::new("the input device is not a TTY"));
        }
        let attachment = Attachment::from(&body, self.container.rm, self.sig_proxy);
        let keys = cli.detach_keys(self.detach_keys.as_deref().unwrap_or_default()).to_owned();
        let watcher = DetachKeys::new(&keys).map_err(|error| failed(&error))?;
        let id = create(cli, &self.container, &self.image, body).await.map_err(|error| failed(&error))?;
        let client = cli.client()?;
        if attachment.is_empty() {
            let started = client.done(Call::post(format!("/containers/{id}/start"))).await;
            started.map_err(|error| start_failed(&error, cli.program))?;
            put_line(&id)?;
            return Ok(0);
        }
        attachment.go(cli, client, &id, (keys, watcher)).await
    }
}

fn check_pull(when: &str) -> Result<(), Error> {
    if matches!(when, "always" | "missing" | "never" | "") {
        return Ok(());
    }
    Err(Error::new(format_args!("invalid pull option: '{when}': must be one of \"always\", \"missing\" or \"never\"")))
}

/// Adds what Docker adds to failures of `run`.
fn with_help(error: &Error, program: &str, command: &str, code: i32) -> Error {
    if matches!(error, Error::Usage { .. } | Error::Status { .. }) {
        return Error::Status { message: error.to_string(), code: error.code() };
    }
    let message = format!("{program}: {error}\n\nRun '{program} {command} --help' for more information");
    Error::Status { message, code }
}

/// A start that failed says by its status what kind of failure it was.
fn start_failed(error: &Error, program: &str) -> Error {
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let code =
        if says(&["executable file not found", "no such file or directory", "system cannot find the file specified"]) {
            127
        } else if says(&["permission denied", "is a directory"]) {
            126
        } else {
            125
        };
    with_help(error, program, "run", code)
}

fn plan(cli: &Cli, flags: &ContainerFlags, args: &[String]) -> Result<ContainerCreate, Error> {
    let (image, command) = args.split_first().ok_or_else(|| Error::new("no image given"))?;
    let mut body = create::plan(flags, image, command)?;
    let proxies = cli.config.proxy_environment(&cli.host(), body.config.env.as_deref().unwrap_or_default());
    if !proxies.is_empty() {
        body.config.env.get_or_insert_default().extend(proxies);
    }
    if let Some((rows, columns)) = terminal::size().filter(|_| terminal::stdout_is_tty()) {
        body.host_config.console_size = [u32::from(rows), u32::from(columns)];
    }
    Ok(body)
}

/// Creates the container, pulling its image when the daemon does not have it; returns the id.
async fn create(cli: &Cli, flags: &ContainerFlags, image: &ImageFlags, body: ContainerCreate) -> Result<String, Error> {
    let mut id_file = flags.cidfile.as_deref().filter(|path| !path.is_empty()).map(IdFile::open).transpose()?;
    let name = &body.config.image;
    let reference = match Reference::parse(name) {
        Ok(reference) => Some(reference.with_default_tag()),
        Err(error) if is_image_id(name) => {
            drop(error);
            None
        }
        Err(error) => return Err(Error::new(error)),
    };
    let client = cli.client()?;
    let platform = platform(image.platform.as_deref());
    let query =
        Query::new("/containers/create").maybe("name", flags.name.as_deref()).maybe("platform", platform.as_deref());
    let call = Call::post(query).json(&body);
    if image.pull == "always" {
        pull_image(cli, reference.as_ref(), name, image).await?;
    }
    let created: ContainerCreated = match client.json(call.clone()).await {
        Err(error) if error.is_status(404) && image.pull != "never" && reference.is_some() && about_image(&error) => {
            if !image.quiet {
                let familiar = reference.as_ref().map(Reference::familiar).unwrap_or_default();
                eprintln!("Unable to find image '{familiar}' locally");
            }
            pull_image(cli, reference.as_ref(), name, image).await?;
            client.json(call).await?
        }
        other => other?,
    };
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    if let Some(file) = &mut id_file {
        file.keep(&created.id)?;
    }
    Ok(created.id)
}

fn is_image_id(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A 404 may also be about a network or a volume; pulling would not help.
fn about_image(error: &Error) -> bool {
    error.to_string().to_lowercase().contains("no such image")
}

async fn pull_image(cli: &Cli, reference: Option<&Reference>, name: &str, image: &ImageFlags) -> Result<(), Error> {
    let reference = reference.ok_or_else(|| Error::new(format_args!("cannot pull {name:?}: it is an image id")))?;
    pull::fetch(cli, reference, platform(image.platform.as_deref()).as_deref(), pull::Show::stderr(image.quiet)).await
}

/// `--cidfile`: must not exist; removed again when no container came of it.
#[derive(Debug)]
struct IdFile {
    path: String,
    written: bool,
}

impl IdFile {
    fn open(path: &str) -> Result<IdFile, Error> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Error::new(format_args!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            Error::new(format_args!(
                "failed to create the container ID file: {}",
                crate::error::open_failed(path, &error)
            ))
        })?;
        Ok(IdFile { path: path.to_owned(), written: false })
    }

    fn keep(&mut self, id: &str) -> Result<(), Error> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all(id.as_bytes())
            .map_err(|error| Error::new(format_args!("failed to write the container ID to the file: {error}")))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            // It was empty and ours; at worst it stays behind empty.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What `run` does with the container's streams.
#[derive(Debug)]
struct Attachment {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    remove: bool,
    sig_proxy: bool,
}

impl Attachment {
    fn from(body: &ContainerCreate, remove: bool, sig_proxy: bool) -> Attachment {
        let config = &body.config;
        Attachment {
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            tty: config.tty,
            remove,
            sig_proxy,
        }
    }

    fn is_empty(&self) -> bool {
        !(self.stdin || self.stdout || self.stderr)
    }

    /// Attach and wait (side by side, both answered before anything else), start, carry, exit status.
    async fn go(self, cli: &Cli, client: &Client, id: &str, keys: (String, DetachKeys)) -> Result<i32, Error> {
        let signals = (self.sig_proxy && !self.tty).then(SignalProxy::catch);
        let path = format!("/containers/{id}");
        let attach = Query::new(format!("{path}/attach"))
            .maybe("detachKeys", Some(&keys.0))
            .flag("stream", true)
            .flag("stdin", self.stdin)
            .flag("stdout", self.stdout)
            .flag("stderr", self.stderr);
        let condition = if self.remove { "removed" } else { "next-exit" };
        let wait = Query::new(format!("{path}/wait")).set("condition", condition);
        let prepared = tokio::try_join!(client.hijack(Call::post(attach)), client.stream(Call::post(wait)));
        let (hijacked, mut waiting) = prepared.map_err(|error| with_help(&error, cli.program, "run", 125))?;
        let raw = if self.tty && self.stdin { RawMode::enter()? } else { None };
        if let Err(error) = client.done(Call::post(format!("{path}/start"))).await {
            drop(raw);
            if self.remove {
                // Whatever becomes of the removal, the failed start is what to report.
                let _ = waiting.rest().await;
            }
            return Err(start_failed(&error, cli.program));
        }
        let keys = (self.tty && self.stdin && terminal::stdin_is_tty()).then_some(keys.1);
        let streams = Streams { stdin: self.stdin, stdout: self.stdout, stderr: self.stderr, tty: self.tty, keys };
        interact::beside(
            async {
                match carry(hijacked, streams).await? {
                    Ended::Detached => Ok(0),
                    Ended::Finished => {
                        drop(raw);
                        exit_code(&mut waiting).await
                    }
                }
            },
            interact::companion(client, &path, self.tty, signals),
        )
        .await
    }
}

/// Reads the exit status off a wait.
pub(super) async fn exit_code(waiting: &mut Streaming) -> Result<i32, Error> {
    let body = waiting.rest().await?;
    let answer: WaitAnswer = serde_json::from_slice(&body)
        .map_err(|error| Error::Status { message: format!("error waiting for container: {error}"), code: 125 })?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        return Err(Error::Status { message: format!("error waiting for container: {}", error.message), code: 125 });
    }
    Ok(i32::try_from(answer.status_code).unwrap_or(125))
}

/// The platform asked for by flag or environment.
pub(super) fn platform(flag: Option<&str>) -> Option<String> {
    let wished = flag.map_or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(), str::to_owned);
    Some(wished).filter(|platform| !platform.is_empty())
}

/// Path of a container in the API.
pub(super) fn path_of(container: &str) -> String {
    format!("/containers/{}", escape(container))
}
