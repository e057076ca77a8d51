//! The life of the process, from arguments to exit status.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use budu_engine::{Engine, Parts};
use budu_image::Store;
use budu_network::Networks;
use budu_runtime::Launcher;
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::built_in::BuiltIn;
use crate::config::live::Live;
use crate::config::{self, Command, Config, Wish};
use crate::log::Log;
use crate::{App, Shared, host, listen, metrics, notify, serve};

/// Threads that carry requests.
const WORKERS: usize = 2;
/// Threads, at most, for what blocks: disks, mostly.
const BLOCKING: usize = 16;
/// Stack of a thread, bytes: futures live on the heap.
const STACK: usize = 512 << 10;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fatal(pub(crate) String);

impl Fatal {
    pub(crate) fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Fatal {
        let text = format!("cannot {action} {}", path.display());
        move |error| Fatal(format!("{text}: {error}"))
    }
}

/// See [`crate::main`].
pub(crate) fn main(args: Vec<OsString>, hello: &'static [u8]) -> i32 {
    let command = match config::parse(args) {
        Ok(Wish::Run(command)) => *command,
        Ok(Wish::Print(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            return 0;
        }
        Ok(Wish::Validate) => {
            let _ = writeln!(io::stderr(), "configuration OK");
            return 0;
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "budu daemon: {problem}");
            return 1;
        }
    };
    let log = Log::to_stderr(&command.config);
    match run(command, log, hello) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "budu daemon: {error}");
            1
        }
    }
}

/// What was there before the daemon began.
struct Inherited {
    /// The pipe that whoever started us waits on.
    ready: Option<OwnedFd>,
    /// The service manager's sockets.
    sockets: Vec<(String, OwnedFd)>,
}

fn run(command: Command, log: Log, hello: &'static [u8]) -> Result<(), Fatal> {
    let config = command.config.clone();
    // Taken before anybody could inherit them from us.
    let inherited = Inherited { ready: ready_pipe(), sockets: notify::sockets() };
    let group = host::group_id(&config.group);
    directory(&config.data_root, 0o710)?;
    directory(&config.exec_root, 0o710)?;
    if let Some(gid) = group {
        // Members of the group reach the socket that lies in there.
        let _ = std::os::unix::fs::chown(&config.exec_root, None, Some(gid));
    }
    let _locks = [lock(&config.data_root)?, lock(&config.exec_root)?];
    let launcher = Launcher::spawn().map_err(|e| Fatal(format!("cannot start the launcher: {e}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .thread_name("budu")
        .enable_all()
        .build()
        .map_err(|e| Fatal(format!("cannot start threads: {e}")))?;
    let _pidfile = config.pidfile.as_deref().map(PidFile::write).transpose()?;
    let result = runtime.block_on(live(command, log, launcher, inherited, group, hello));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn live(
    command: Command,
    log: Log,
    launcher: Launcher,
    inherited: Inherited,
    group: Option<u32>,
    hello: &'static [u8],
) -> Result<(), Fatal> {
    // Before anything that takes time: a signal must never be lost.
    let hook = |kind| signal(kind).map_err(|e| Fatal(format!("cannot listen to signals: {e}")));
    let (mut term, mut int) = (hook(SignalKind::terminate())?, hook(SignalKind::interrupt())?);
    let mut hangup = hook(SignalKind::hangup())?;
    let config = command.config.clone();
    // Bound first, so that clients that come early wait instead of failing.
    let listeners = listen::bind(&config, group, inherited.sockets).await?;
    let metrics_listener = metrics::bind(config.metrics_addr.as_deref()).await?;
    let engine = open(&config, launcher)?;
    engine.restore().await.map_err(|e| Fatal(format!("cannot take up the containers of an earlier run: {e}")))?;
    let id = host::daemon_id(&config.data_root).map_err(Fatal::io("read the id in", &config.data_root))?;
    let host = host::Facts::detect();
    let metrics = metrics::Counters::default();
    let app: Shared =
        Arc::new(App { config: Live::new(command), engine, id, host, built_in: BuiltIn::new(hello), metrics });
    for listener in &listeners {
        tracing::info!(address = listener.address, "listening");
    }
    if !config.ignored.is_empty() {
        tracing::info!(settings = ?config.ignored, "accepted without effect");
    }
    let paths: Vec<PathBuf> = listeners.iter().filter_map(|listener| listener.path.clone()).collect();
    let servers = serve::start(&app, listeners);
    let metrics_server = metrics::start(&app, metrics_listener);
    announce(inherited.ready);
    notify::tell("READY=1");
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hangup.recv() => reload(&app, &log),
        }
    }
    tracing::info!("ending");
    notify::tell("STOPPING=1");
    servers.abort();
    drop(metrics_server);
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
    if !app.config.get().live_restore {
        stop_containers(&app, &mut term, &mut int).await;
    }
    let _ = app.engine.networks().shutdown(false);
    Ok(())
}

/// Stops what runs. A second signal ends the waiting: containers are then
/// taken up again by the next daemon.
async fn stop_containers(app: &Shared, term: &mut Signal, int: &mut Signal) {
    let grace = Duration::from_secs(app.config.get().shutdown_timeout);
    tokio::select! {
        _ = tokio::time::timeout(grace + Duration::from_secs(5), app.engine.stop_all(grace)) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Reads the file again.
fn reload(app: &Shared, log: &Log) {
    notify::tell("RELOADING=1");
    match app.config.reload() {
        Ok(config) => {
            log.set(&config);
            app.engine.images().reconfigure(&images(&config));
            let mut attributes = config.attributes();
            attributes.insert("name".to_owned(), app.host.name.clone());
            tracing::info!(?attributes, "the configuration was read again");
            app.engine.events().publish("daemon", "reload", &app.id, attributes);
        }
        Err(problem) => tracing::error!(%problem, "the configuration stays as it was"),
    }
    notify::tell("READY=1");
}

/// Settings of the image store.
fn images(config: &Config) -> budu_image::Options {
    budu_image::Options {
        insecure_registries: config.insecure_registries.clone(),
        registry_mirrors: config.registry_mirrors.clone(),
        max_concurrent_downloads: config.max_concurrent_downloads,
        max_download_attempts: config.max_download_attempts,
        ..budu_image::Options::default()
    }
}

fn open(config: &Config, launcher: Launcher) -> Result<Engine, Fatal> {
    let images = Store::open(&config.data_root.join("image"), images(config))
        .map_err(|e| Fatal(format!("cannot open the image store: {e}")))?;
    let networks = Networks::open(budu_network::Config {
        bridge: config.bridge.clone(),
        bip: config.bip,
        mtu: config.mtu,
        ip_masq: config.ip_masq,
        ip_forward: config.ip_forward,
        state: Some(config.data_root.join("networks")),
        pools: match config.address_pools.as_slice() {
            [] => budu_network::Config::default().pools,
            pools => pools.to_vec(),
        },
        ..budu_network::Config::default()
    })
    .map_err(|e| Fatal(format!("cannot open the networks: {e}")))?;
    budu_engine::log::check(&config.log_driver, &config.log_opts)
        .map_err(|e| Fatal(format!("failed to set log opts: {e}")))?;
    let options = budu_engine::Options {
        data_root: config.data_root.clone(),
        exec_root: config.exec_root.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        dns: config.dns.clone(),
        dns_options: config.dns_options.clone(),
        dns_search: config.dns_search.clone(),
        log_driver: config.log_driver.clone(),
        log_options: config.log_opts.clone(),
        init: config.init,
        shm_size: config.shm_size,
        plugins: budu_engine::PluginPlaces::default(),
        cdi_directories: match config.cdi_spec_dirs.as_slice() {
            [] => budu_engine::Options::default().cdi_directories,
            given => given.to_vec(),
        },
    };
    Engine::open(options, Parts { images, networks, launcher })
        .map_err(|e| Fatal(format!("cannot open the engine: {e}")))
}

/// Makes a directory of ours, or tightens the one that is there.
fn directory(path: &Path, mode: u32) -> Result<(), Fatal> {
    let make = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    make.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(Fatal::io("prepare the directory", path))
}

/// Takes a root for this process alone; released when the process ends,
/// however it ends.
fn lock(root: &Path) -> Result<File, Fatal> {
    let path = root.join("daemon.lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Fatal::io("open", &path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = io::read_to_string(&file).unwrap_or_default();
        return Err(Fatal(format!(
            "{} is in use by another daemon (pid {}): stop it, or give this one another --data-root and --exec-root",
            root.display(),
            holder.trim()
        )));
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(Fatal::io("write", &path))?;
    Ok(file)
}

/// The pipe that whoever started us waits on.
fn ready_pipe() -> Option<OwnedFd> {
    let number = std::env::var("BUDU_READY_FD").ok()?.parse().ok()?;
    budu_engine::inherited_descriptor(number).ok()
}

/// Says that connections are served from now on.
fn announce(ready: Option<OwnedFd>) {
    if let Some(fd) = ready {
        let _ = rustix::io::write(&fd, b"1");
    }
}

/// The pid file, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<PidFile, Fatal> {
        std::fs::write(path, format!("{}", std::process::id())).map_err(Fatal::io("write the pid file", path))?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_the_same_root_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let _first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("is in use by another daemon (pid {})", std::process::id())), "{error}");
    }
}
