//! `create`: a container that stands and waits for `start`.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use budu_spec::oci;
use budu_sys::cgroup::Cgroup;
use budu_sys::process::{self, SingleThreaded};
use lexopt::Parser;
use rustix::fs::{FileType, Mode, OFlags};

use super::arguments::{Global, Word, flag, next, number, positional, required, undefined};
use super::container::{Container, GO, NEWS, NEWS_DIRECTORY, State, process_stat};
use super::log::Log;
use super::notify::{Manager, Relay};
use super::{console, hooks};
use crate::birth::{self, Dowry, Newborn};
use crate::cgroup;
use crate::compile::{self, Bundle, Extras};
use crate::init::{Failing, Gate, HOOKED, NOTED, failed, invalid};
use crate::plan::{CgroupPlan, Plan, Resources, Rootfs};
use crate::protocol::{self, Event, Failure, FailureClass};

/// Options of `create`, `run` and `restore`.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) id: Option<String>,
    pub(super) bundle: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) pidfd_socket: Option<PathBuf>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) no_pivot: bool,
    pub(super) no_new_keyring: bool,
    pub(super) preserve_fds: u32,
}

impl Options {
    /// Takes one word, or says that it is none of these.
    pub(super) fn take(&mut self, word: Word, parser: &mut Parser) -> Failing<()> {
        let name = match word {
            Word::Flag(name) => name,
            Word::Value(value) => return positional(value, &mut [&mut self.id]),
        };
        match name.as_str() {
            "b" | "bundle" => self.bundle = Some(parser.value()?.into()),
            "console-socket" => self.console_socket = path(parser)?,
            "pidfd-socket" => self.pidfd_socket = path(parser)?,
            "pid-file" => self.pid_file = path(parser)?,
            "no-pivot" => self.no_pivot = flag(parser)?,
            "no-new-keyring" => self.no_new_keyring = flag(parser)?,
            "preserve-fds" => self.preserve_fds = number(parser, &name)?,
            other => return Err(undefined(other)),
        }
        Ok(())
    }
}

/// A path; an empty one counts as not given.
pub(super) fn path(parser: &mut Parser) -> Failing<Option<PathBuf>> {
    Ok(Some(PathBuf::from(parser.value()?)).filter(|path| path.as_os_str() != ""))
}

/// A container that stands; its first process waits at its gate.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) container: Container,
    pub(super) born: Newborn,
    /// Controlling end of its terminal.
    pub(super) terminal: Option<OwnedFd>,
    /// Its socket for the service manager, if it is to run at once.
    pub(super) relay: Option<Relay>,
}

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let mut options = Options::default();
    while let Some(word) = next(parser)? {
        options.take(word, parser)?;
    }
    create(global, log, &options, Purpose::Create)?;
    Ok(0)
}

/// Why a container is made: decides about its gate and its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To wait for `start`.
    Create,
    /// To run at once, left to itself.
    Detached,
    /// To run at once, in the foreground.
    Foreground,
}

/// Makes a container. On failure nothing is left of it.
pub(super) fn create(global: &Global, log: &Log, options: &Options, purpose: Purpose) -> Failing<Standing> {
    let id = required(options.id.clone(), if purpose == Purpose::Create { "create" } else { "run" })?;
    let bundle = bundle(options.bundle.as_deref())?;
    let (bytes, mut spec) = read_config(&bundle)?;
    let passed = pass_listeners(&mut spec);
    let options = &Options { preserve_fds: options.preserve_fds.saturating_add(passed), ..options.clone() };
    // Whatever else the caller left open is for nobody: neither hooks nor the container.
    process::close_on_exec_from(3u32.saturating_add(options.preserve_fds))
        .map_err(failed("mark descriptors close-on-exec"))?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let detached = purpose != Purpose::Foreground;
    console::check(terminal, detached, options.console_socket.as_deref())?;
    let socket = options.console_socket.as_deref().map(console::connect).transpose()?;
    let manager = Manager::of_environment();
    let mut container = Container::reserve(global, &id)?;
    if let Some(manager) = &manager {
        manager.provide(&mut spec, &container.path);
    }
    let parts = Parts { bundle: &bundle, spec: &spec, bytes: &bytes };
    let made = relay(manager, purpose, &container)
        .and_then(|relay| make(global, log, options, purpose, &parts, &mut container).map(|made| (made, relay)));
    let made = made.and_then(|((born, group, master), relay)| {
        let handed = hand_over(options, &container, socket.as_ref(), master.as_ref(), &born);
        match handed {
            Ok(()) => {
                // From here on the group belongs to the container.
                drop(group.map(Cgroup::keep));
                Ok((born, master.filter(|_| socket.is_none()), relay))
            }
            Err(failure) => {
                born.abort();
                drop(group);
                Err(failure)
            }
        }
    });
    match made {
        Ok((born, terminal, relay)) => Ok(Standing { container, born, terminal, relay }),
        Err(failure) => {
            // Once it has a process others may delete it as well.
            if container.seize().unwrap_or(true) {
                if container.state.pid != 0 {
                    // Hooks may have run that others are to make up for (runtime.md "Lifecycle", steps 3 to 5).
                    let _ = hooks::poststop(&container, log);
                }
                let _ = container.remove();
            }
            Err(failure)
        }
    }
}

/// Prepares what the container tells the service manager through. One that waits for `start` will be listened to then.
fn relay(manager: Option<Manager>, purpose: Purpose, container: &Container) -> Failing<Option<Relay>> {
    let Some(manager) = manager else { return Ok(None) };
    Manager::make_directory(container)?;
    if purpose == Purpose::Create { Ok(None) } else { manager.listen(container).map(Some) }
}

type Made = (Newborn, Option<Cgroup>, Option<OwnedFd>);

/// What a container is made of.
pub(super) struct Parts<'a> {
    pub(super) bundle: &'a Path,
    pub(super) spec: &'a oci::Spec,
    pub(super) bytes: &'a [u8],
}

/// Plans it, makes its first process and sees that process through to its gate.
fn make(
    global: &Global,
    log: &Log,
    options: &Options,
    purpose: Purpose,
    parts: &Parts<'_>,
    container: &mut Container,
) -> Failing<Made> {
    let plan = plan(global, log, options, parts, container)?;
    container.save_config(parts.bytes)?;
    let layout = cgroup::layout()?;
    let resolved = cgroup::resolve(layout.as_ref(), &plan.cgroup)?;
    container.state = state(global, parts, &plan, resolved);
    container.note_mounts()?;
    // Whoever finds it without a process knows what there may be of it.
    container.save()?;
    let gate = if purpose == Purpose::Create { open_gate(container)? } else { Gate::Report };
    let token = SingleThreaded::check().map_err(failed("count threads"))?;
    let dowry = Dowry { netns: None, layout: layout.as_ref(), stdio: None, gate, die_with_parent: false };
    log.debug(&format!("seccomp filter flags: {}", plan.process.seccomp_flags & 0b110));
    log.debug(&format!("making the container's first process in namespaces {:#x}", birth::namespaces(&plan)));
    let (born, group) = birth::first(&token, &plan, dowry)?;
    log.debug(&format!("process {} sets up the container", born.pid.as_raw_nonzero()));
    if group.is_none() {
        container.state.group.clear();
    }
    let rdt = plan.cgroup.intel_rdt.as_ref();
    let waits = purpose == Purpose::Create;
    let outcome =
        cgroup::enter_rdt(rdt, &plan.id, born.pid).and_then(|()| attend_birth(container, &plan, &born, waits));
    match outcome {
        Ok(master) => Ok((born, group, master)),
        Err(failure) => {
            born.abort();
            let _ = cgroup::leave_rdt(rdt, &plan.id);
            Err(failure)
        }
    }
}

/// The state to begin with, before there is a process.
pub(super) fn state(global: &Global, parts: &Parts<'_>, plan: &Plan, group: String) -> State {
    State {
        oci_version: parts.spec.oci_version.clone(),
        id: plan.id.clone(),
        bundle: parts.bundle.to_owned(),
        rootfs: rootfs(plan),
        created: jiff::Timestamp::now().to_string(),
        owner: rustix::process::getuid().as_raw(),
        annotations: parts.spec.annotations.clone(),
        namespaces: birth::namespaces(plan),
        group,
        cgroup: CgroupPlan { resources: Resources::default(), ..plan.cgroup.clone() },
        rootless: global.rootless,
        keep_keyring: plan.keep_keyring,
        programless: parts.spec.process.is_none(),
        poststart: !plan.hooks.poststart.is_empty(),
        poststop: !plan.hooks.poststop.is_empty(),
        ..State::default()
    }
}

/// Checks the configuration and plans what is to be done.
pub(super) fn plan(
    global: &Global,
    log: &Log,
    options: &Options,
    parts: &Parts<'_>,
    container: &Container,
) -> Failing<Plan> {
    for warning in compile::warnings(parts.spec) {
        log.warning(&warning);
    }
    let bundle = Bundle {
        path: parts.bundle.to_owned(),
        systemd: global.systemd,
        no_pivot: options.no_pivot,
        keep_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        rootless: global.rootless,
    };
    let extras = Extras {
        id: container.state.id.clone(),
        run_dir: container.path.clone(),
        bundle: Some(bundle.clone()),
        ..Extras::default()
    };
    let plan = compile::container(parts.spec, extras)?;
    compile::check_host(parts.spec, &plan, &bundle)?;
    Ok(plan)
}

fn rootfs(plan: &Plan) -> PathBuf {
    match &plan.rootfs {
        Rootfs::Directory { path, .. } => path.clone(),
        Rootfs::Overlay { .. } => PathBuf::new(),
    }
}

/// Makes the two FIFOs of the gate, and opens what the first process needs of them.
fn open_gate(container: &Container) -> Failing<Gate> {
    let what = failed("make the container's gate");
    let open = |name: &str| {
        rustix::fs::mknodat(&container.dir, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // For reading and writing at once, so that opening never waits.
        rustix::fs::openat(&container.dir, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    rustix::fs::mkdirat(&container.dir, NEWS_DIRECTORY, Mode::from_raw_mode(0o700)).map_err(|e| what(e.into()))?;
    Ok(Gate::Fifo { go: open(GO).map_err(|e| what(e.into()))?, news: open(NEWS).map_err(|e| what(e.into()))? })
}

/// Notes the new process, runs the host's hooks when it asks for them, and
/// waits until it stands. `waits`: it will wait for `start`, without us.
/// Returns its terminal's controlling end.
fn attend_birth(container: &mut Container, plan: &Plan, born: &Newborn, waits: bool) -> Failing<Option<OwnedFd>> {
    let pid = born.pid.as_raw_nonzero().get();
    container.state.pid = pid;
    container.state.start_time = process_stat(pid).map_err(failed("find the container's first process"))?.1;
    container.save_made()?;
    let mut buffer = [0u8; 16 << 10];
    loop {
        let (n, mut fds) = budu_sys::socket::receive_with_fds(&born.report, &mut buffer)
            .map_err(failed("hear of the container's first process"))?;
        match protocol::decode(buffer.get(protocol::HEADER..n).unwrap_or_default()) {
            Ok(Event::Hooks) => {
                for (name, some) in [("prestart", &plan.hooks.prestart), ("createRuntime", &plan.hooks.create_runtime)]
                {
                    hooks::run(name, some, container, oci::Status::Creating)?;
                }
                budu_sys::socket::send_with_fds(&born.report, &[HOOKED], &[])
                    .map_err(failed("tell the container's first process of the hooks"))?;
            }
            Ok(Event::Created { .. }) => {
                if waits {
                    budu_sys::socket::send_with_fds(&born.report, &[NOTED], &[])
                        .map_err(failed("tell the container's first process that it stands"))?;
                }
                return Ok(fds.pop());
            }
            Ok(Event::Failed(failure)) => return Err(explained(failure, plan).about("error during container init")),
            _ => {
                let message = "the container's first process ended before it stood".to_owned();
                return Err(Failure { class: FailureClass::Internal, message });
            }
        }
    }
}

/// Adds what the kernel's number does not tell: SCHED_DEADLINE wants every
/// processor of the machine, sched(7).
fn explained(failure: Failure, plan: &Plan) -> Failure {
    let refused = failure.message.starts_with("error setting scheduler") && failure.message.contains("not permitted");
    if refused && !plan.cgroup.resources.cpuset_cpus.is_empty() {
        return failure.about("process scheduler can't be used together with AllowedCPUs");
    }
    failure
}

/// Tells the caller of the new container in the ways it asked for.
fn hand_over(
    options: &Options,
    container: &Container,
    socket: Option<&OwnedFd>,
    master: Option<&OwnedFd>,
    born: &Newborn,
) -> Failing<()> {
    if let (Some(socket), Some(master)) = (socket, master) {
        console::send(socket, master)?;
    }
    if let Some(path) = &options.pidfd_socket {
        console::send_pidfd(&console::connect(path)?, &born.pidfd)?;
    }
    match &options.pid_file {
        Some(path) => console::write_pid(path, container.state.pid),
        None => Ok(()),
    }
}

/// Socket activation, sd_listen_fds(3): sockets that were passed to us are the
/// container's, whose first process has number 1. Returns how many.
fn pass_listeners(spec: &mut oci::Spec) -> u32 {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let ours = variable("LISTEN_PID") == Some(std::process::id());
    let Some(count) = variable("LISTEN_FDS").filter(|count| ours && *count > 0) else { return 0 };
    if let Some(process) = &mut spec.process {
        process.env.push(format!("LISTEN_FDS={count}"));
        process.env.push("LISTEN_PID=1".to_owned());
    }
    count
}

/// The bundle directory: `--bundle`, or the working directory.
pub(super) fn bundle(asked: Option<&Path>) -> Failing<PathBuf> {
    let asked = asked.unwrap_or(Path::new("."));
    std::fs::canonicalize(asked).map_err(failed(&format!("open the bundle {}", asked.display())))
}

/// Largest configuration that is read.
const MAX_CONFIG: u64 = 16 << 20;

pub(super) fn read_config(bundle: &Path) -> Failing<(Vec<u8>, oci::Spec)> {
    let path = bundle.join("config.json");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => invalid(format!("JSON specification file {} not found", path.display())),
        _ => failed(&format!("read {}", path.display()))(e),
    })?;
    file.take(MAX_CONFIG).read_to_end(&mut bytes).map_err(failed(&format!("read {}", path.display())))?;
    let spec = oci::decode(&bytes).map_err(|e| invalid(format!("{}: {e}", path.display())))?;
    Ok((bytes, spec))
}
