//! `restore`: a container made of the files of a checkpoint.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use budu_spec::oci;
use budu_sys::cgroup::{Cgroup, Layout};
use budu_sys::process;
use lexopt::Parser;
use rustix::mount::mount_bind_recursive;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::arguments::{Global, Word, flag, next, required, undefined};
use super::console::Foreground;
use super::container::{Container, process_stat};
use super::create::{self, Options, Parts};
use super::criu::{self, Kind, Message, Places, Response, Settings, Streams, Worker, outside};
use super::log::Log;
use super::signals::{self, Held};
use super::{console, delete, hooks, removal};
use crate::cgroup;
use crate::init::{Failing, failed, invalid};
use crate::plan::Plan;
use crate::protocol::{Failure, FailureClass};

const LOG: &str = "restore.log";
const CLONE_NEWTIME: u64 = 0x80;

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let (mut options, mut settings) = (Options::default(), Settings::new());
    let (mut detach, mut no_subreaper) = (false, false);
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if name == "d" || name == "detach" => detach = flag(parser)?,
            Word::Flag(name) if name == "no-subreaper" => no_subreaper = flag(parser)?,
            Word::Flag(name) if name == "preserve-fds" => return Err(undefined(&name)),
            Word::Flag(name) if settings.take(&name, parser)? => {}
            word => options.take(word, parser)?,
        }
    }
    if global.rootless {
        log.warning("restore is untested with rootless containers");
    }
    if !detach && !no_subreaper {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|e| failed("become a subreaper")(e.into()))?;
    }
    let restored = restore(global, log, &options, &settings, detach)?;
    if detach {
        return Ok(0);
    }
    let outcome = Held::all().and_then(|held| {
        let terminal = restored.terminal.map(Foreground::new).transpose()?;
        signals::attend(restored.container.state.pid, restored.pidfd.as_fd(), &held, terminal, None)
    });
    if outcome.is_err() {
        end(&restored.pidfd);
    }
    delete::destroy(restored.container, log)?;
    outcome
}

/// A container that runs again.
struct Restored {
    container: Container,
    pidfd: OwnedFd,
    /// Controlling end of its terminal, if nobody else got it.
    terminal: Option<OwnedFd>,
}

/// Kills a child and takes its status.
fn end(pidfd: &OwnedFd) {
    let _ = process::signal(pidfd.as_fd(), 9);
    let _ = process::reap(pidfd.as_fd(), true);
}

/// Makes the container. On failure nothing is left of it.
fn restore(global: &Global, log: &Log, options: &Options, settings: &Settings, detach: bool) -> Failing<Restored> {
    let id = required(options.id.clone(), "restore")?;
    criu::checked_version()?;
    let bundle = create::bundle(options.bundle.as_deref())?;
    let (bytes, spec) = create::read_config(&bundle)?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    console::check(terminal, detach, options.console_socket.as_deref())?;
    let console = options.console_socket.as_deref().map(console::connect).transpose()?;
    let places = Places::existing(settings)?;
    let mut container = Container::reserve(global, &id)?;
    let parts = Parts { bundle: &bundle, spec: &spec, bytes: &bytes };
    let mut attempt = Attempt { parts, settings, places, console, terminal: None, group: None };
    let outcome = attempt.prepare(global, log, options, &mut container).and_then(|plan| {
        let pidfd = attempt.run(&mut container, &plan)?;
        let told = options.pid_file.as_deref().map(|path| console::write_pid(path, container.state.pid));
        told.transpose().inspect_err(|_| end(&pidfd))?;
        Ok(pidfd)
    });
    match outcome {
        Ok(pidfd) => {
            drop(attempt.group.take().map(Cgroup::keep));
            Ok(Restored { container, pidfd, terminal: attempt.terminal })
        }
        Err(failure) => {
            drop(attempt.group);
            let _ = container.remove();
            Err(failure)
        }
    }
}

/// What is needed while CRIU works.
struct Attempt<'a> {
    parts: Parts<'a>,
    settings: &'a Settings,
    places: Places,
    /// Where the terminal's controlling end is sent.
    console: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    group: Option<Cgroup>,
}

/// The root file system at a place of its own, which CRIU wants to be a mount.
struct BoundRoot(PathBuf);

impl BoundRoot {
    fn new(container: &Container) -> Failing<BoundRoot> {
        let path = container.path.join("criu-root");
        let what = failed("bind the root file system for criu");
        std::fs::create_dir(&path).map_err(&what)?;
        let path = std::fs::canonicalize(path).map_err(&what)?;
        mount_bind_recursive(&container.state.rootfs, &path).map_err(|e| what(e.into()))?;
        Ok(BoundRoot(path))
    }
}

impl Drop for BoundRoot {
    fn drop(&mut self) {
        let _ = removal::detach(std::iter::once(self.0.clone()));
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Attempt<'_> {
    /// Everything that comes before the first process.
    fn prepare(&mut self, global: &Global, log: &Log, options: &Options, container: &mut Container) -> Failing<Plan> {
        let plan = create::plan(global, log, options, &self.parts, container)?;
        container.save_config(self.parts.bytes)?;
        let layout = cgroup::layout()?;
        let resolved = cgroup::resolve(layout.as_ref(), &plan.cgroup)?;
        container.state = create::state(global, &self.parts, &plan, resolved);
        // Whoever finds it without a process knows what there may be of it.
        container.save()?;
        self.group = cgroup::make(layout.as_ref(), &plan.cgroup)?;
        Ok(plan)
    }

    /// Lets CRIU do it. Returns the first process.
    fn run(&mut self, container: &mut Container, plan: &Plan) -> Failing<OwnedFd> {
        let root = BoundRoot::new(container)?;
        outside::make_places(self.parts.spec, self.parts.bundle, &container.state.rootfs)?;
        let mut options = criu::options(self.settings, &self.places, self.parts.spec, LOG);
        criu::restore_options(&mut options, self.settings);
        criu::root(&mut options, &root.0);
        let namespaces = self.namespaces(&mut options)?;
        self.descriptors(&mut options)?;
        let passed: Vec<BorrowedFd<'_>> = namespaces.iter().map(AsFd::as_fd).collect();
        let worker = Worker::start(Streams::Ours, &passed)?;
        let done = self.enter_group(container, plan, &worker, &mut options).and_then(|()| {
            self.mounts(container, &mut options)?;
            let request = criu::request(Kind::Restore, &options);
            worker.ask(&request, |response, fds| self.step(container, plan, response, fds))
        });
        match done {
            Ok(_) => {
                let ended = worker.finish()?;
                if !ended.success() {
                    let message = format!("criu failed: {ended}");
                    return Err(self.give_up(container, Failure { class: FailureClass::Internal, message }));
                }
            }
            Err(failure) => {
                worker.abandon();
                return Err(self.give_up(container, failure));
            }
        }
        first_process(container)
    }

    /// Ends what CRIU may have left, and says why.
    fn give_up(&self, container: &Container, failure: Failure) -> Failure {
        if container.state.pid != 0
            && let Ok(pidfd) = first_process(container)
        {
            end(&pidfd);
        }
        if failure.message.starts_with("criu failed") { self.places.explain(failure, LOG) } else { failure }
    }

    /// Namespaces given by path: joined, or, where CRIU left them out, inherited.
    fn namespaces(&self, options: &mut Message) -> Failing<Vec<File>> {
        let mut open = Vec::new();
        let namespaces = self.parts.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        for namespace in namespaces.filter(|namespace| !namespace.path.is_empty()) {
            let (name, key) = criu::namespace(&namespace.kind);
            match namespace.kind.as_str() {
                "network" | "pid" => {
                    let what = format!("open the {} namespace {}", namespace.kind, namespace.path);
                    let file = File::open(&namespace.path).map_err(failed(&what))?;
                    criu::inherit(options, key, file.as_raw_fd());
                    open.push(file);
                }
                "cgroup" => return Err(invalid("a cgroup namespace given by path cannot be restored".to_owned())),
                _ => criu::join(options, name, &namespace.path),
            }
        }
        Ok(open)
    }

    /// Standard streams that were pipes are ours now.
    fn descriptors(&self, options: &mut Message) -> Failing<()> {
        let path = self.places.images.join(criu::DESCRIPTORS);
        let what = failed(&format!("read {}", path.display()));
        let text = std::fs::read(&path).map_err(&what)?;
        let names: Vec<String> = serde_json::from_slice(&text).map_err(|e| what(e.into()))?;
        for (number, name) in (0..).zip(&names) {
            if name.contains("pipe:") {
                criu::inherit(options, name, number);
            }
        }
        Ok(())
    }

    /// CRIU makes the processes in the group it is in.
    fn enter_group(
        &mut self,
        container: &mut Container,
        plan: &Plan,
        worker: &Worker,
        options: &mut Message,
    ) -> Failing<()> {
        let pid = worker.pid();
        if plan.cgroup.systemd {
            let layout: Option<Layout> = cgroup::layout()?;
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| invalid("criu has no process id".to_owned()))?;
            self.group = cgroup::make_scope(layout.as_ref(), &plan.cgroup, &plan.id, pid)?;
        } else if let Some(group) = &self.group {
            for (_, path) in group.places() {
                let what = failed(&format!("move criu to the group {}", path.display()));
                std::fs::write(path.join("cgroup.procs"), pid.to_string()).map_err(what)?;
            }
        }
        if self.group.is_none() {
            container.state.group.clear();
        }
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(failed("find the group of criu"))?;
        for (controllers, path) in own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')) {
            controllers.split(',').for_each(|controller| criu::group_root(options, controller, path));
        }
        Ok(())
    }

    /// Mounts from outside, as they are now.
    fn mounts(&self, container: &Container, options: &mut Message) -> Failing<()> {
        let Parts { spec, bundle, .. } = self.parts;
        for mount in outside::all(spec, bundle, &container.state.rootfs, self.group.as_ref())? {
            criu::external_mount(options, &mount.place, &mount.source);
        }
        if spec.linux.as_ref().is_some_and(|linux| !linux.masked_paths.is_empty()) {
            criu::external_mount(options, "/dev/null", "/dev/null");
        }
        Ok(())
    }

    /// CRIU has come to a point where something is to be done.
    fn step(
        &mut self,
        container: &mut Container,
        plan: &Plan,
        response: &Response,
        mut fds: Vec<OwnedFd>,
    ) -> Failing<()> {
        if response.is("setup-namespaces") {
            container.state.pid = response.pid();
            for (name, some) in [("prestart", &plan.hooks.prestart), ("createRuntime", &plan.hooks.create_runtime)] {
                hooks::run(name, some, container, oci::Status::Creating)?;
            }
        } else if response.is("post-restore") {
            note(container, response.pid())?;
        } else if response.is("orphan-pts-master")
            && let Some(master) = fds.pop()
        {
            match &self.console {
                Some(socket) => console::send(socket, &master)?,
                None => self.terminal = Some(master),
            }
        }
        Ok(())
    }
}

/// Notes the restored first process.
fn note(container: &mut Container, pid: i32) -> Failing<()> {
    let what = failed("find the restored process");
    container.state.pid = pid;
    container.state.start_time = process_stat(pid).map_err(&what)?.1;
    container.state.created = jiff::Timestamp::now().to_string();
    // CRIU gives it a time namespace, so that its clocks go on from where they were.
    let time = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/time")).ok();
    if time(&pid.to_string()) != time("self") {
        container.state.namespaces |= CLONE_NEWTIME;
    }
    container.save_made()
}

fn first_process(container: &Container) -> Failing<OwnedFd> {
    let what = failed("find the restored process");
    let pid = Pid::from_raw(container.state.pid).ok_or_else(|| what(std::io::ErrorKind::NotFound.into()))?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|e| what(e.into()))
}
