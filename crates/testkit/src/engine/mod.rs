//! A daemon in a cage of its own, whichever program it is.

mod backend;
mod client;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub use backend::Backend;
pub use client::{Client, ClientHandle};

use crate::http::{Connection, Response, Stream};
use crate::{Cage, Census, Mount, Registry, World, images, wait};

/// What a test wants of its engine.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which daemon; the one that `BUDU_E2E_BACKEND` names when absent.
    pub backend: Option<Backend>,
    /// Images to pull at the start; a registry runs in the engine's network when there are any.
    pub images: Vec<&'static str>,
    /// A registry even without images.
    pub registry: bool,
    /// Puts the daemon's data on a tmpfs of this many bytes.
    pub disk: Option<u64>,
    /// An empty `/run` of the daemon's own.
    pub own_run: bool,
    /// Further arguments of the daemon.
    pub flags: Vec<String>,
}

/// A running engine. [`Engine::finish`] ends it and looks for what it left; a mere drop only ends it.
#[derive(Debug)]
pub struct Engine {
    backend: Backend,
    // Order matters: the cages end before the directory is removed.
    daemon: AtomicU32,
    lan: Cage,
    side: Cage,
    cage: Cage,
    flags: Vec<String>,
    pristine: Census,
    idle: Census,
    dir: tempfile::TempDir,
}

/// The address of the engine's machine on its local network.
pub const HOST: &str = "198.51.100.1";
/// The address of the other machine there.
pub const NEIGHBOUR: &str = "198.51.100.2";

impl Engine {
    /// Starts a daemon with new, empty directories on a machine with a loopback interface and one
    /// neighbour in a local network, and waits until it answers.
    pub fn start(options: Options) -> Result<Engine> {
        let backend = options.backend.unwrap_or_else(Backend::current);
        let dir = tempfile::Builder::new().prefix("budu-e2e.").tempdir()?;
        for name in ["data", "exec", "client"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        let mut world = backend.world(dir.path());
        if let Some(bytes) = options.disk {
            let target = world.root.clone().unwrap_or_else(|| PathBuf::from("/"));
            let inside = dir.path().strip_prefix("/")?.join("data");
            world.mounts.push(Mount::Tmpfs { target: target.join(inside), bytes });
        }
        if options.own_run && world.root.is_none() {
            world.mounts.push(Mount::Tmpfs { target: PathBuf::from("/run"), bytes: 16 << 20 });
        }
        let cage = Cage::new(&world)?;
        let side = Cage::new(&World { network_of: Some(cage.pid()), ..World::default() })?;
        let lan = Cage::new(&World::default())?;
        connect(&side, &lan)?;
        let pristine = Census::take(&cage, &[], &[])?;
        let mut engine = Engine {
            backend,
            daemon: AtomicU32::new(0),
            lan,
            side,
            cage,
            flags: options.flags,
            pristine,
            idle: Census::default(),
            dir,
        };
        if options.registry || !options.images.is_empty() {
            images::ensure()?;
            Registry::start(&engine.side, &images::storage(), &engine.path("registry.log"))?;
        }
        engine.start_daemon()?;
        engine.idle = Census::take(&engine.cage, &[], &[])?;
        for image in options.images {
            engine.pull(image)?;
        }
        Ok(engine)
    }

    /// Starts the daemon (again) and waits until it answers.
    pub fn start_daemon(&self) -> Result<()> {
        let argv = self.backend.daemon(self.dir.path(), &self.flags);
        let env = [
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME".to_owned(), self.path("client").display().to_string()),
            ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
        ];
        let pid = self.cage.spawn(&argv, &env, &self.path("daemon.log"))?;
        self.daemon.store(pid, Ordering::Relaxed);
        let answered = wait::until("an answer from the daemon", Duration::from_secs(20), || {
            if self.cage.wait_exit(pid, Duration::ZERO).is_ok() {
                return Some(false);
            }
            self.http("GET", "/_ping", None).ok().filter(|answer| answer.status == 200).map(|_| true)
        });
        match answered {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the daemon ended at once: {}", self.log()),
            Err(error) => Err(error.context(self.log())),
        }
    }

    /// Sends the daemon `signal` and waits for its end: exit code, or 128 + signal.
    pub fn stop_daemon(&self, signal: rustix::process::Signal) -> Result<i32> {
        let pid = self.daemon.load(Ordering::Relaxed);
        let target = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(target.context("no daemon runs")?, signal)?;
        self.cage.wait_exit(pid, Duration::from_secs(30)).with_context(|| self.log())
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.load(Ordering::Relaxed)
    }

    /// Which daemon this is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The machine the daemon runs on.
    pub fn cage(&self) -> &Cage {
        &self.cage
    }

    /// A machine with the daemon's network and this machine's own files: for programs the peers' root directory lacks.
    pub fn side(&self) -> &Cage {
        &self.side
    }

    /// The neighbour in the local network.
    pub fn lan(&self) -> &Cage {
        &self.lan
    }

    /// A path in the engine's temporary directory, which the daemon sees under the same name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("d.sock")
    }

    /// The last lines that the daemon has logged.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.path("daemon.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        format!("the daemon's last words:\n{}", lines[lines.len().saturating_sub(12)..].join("\n"))
    }

    /// A command line client of this engine.
    pub fn client(&self, client: Client) -> ClientHandle {
        ClientHandle::new(client, &self.socket(), &self.path("client"))
    }

    /// A new connection to the daemon.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket())
    }

    /// One request on a connection of its own.
    pub fn http(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Response> {
        self.connect()?.send(method, target, body)
    }

    /// One request whose answer is read bit by bit.
    pub fn stream(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Stream> {
        self.connect()?.stream(method, target, body, &[])
    }

    /// Pulls `image` through the API; an error in the progress stream is an error here.
    pub fn pull(&self, image: &str) -> Result<()> {
        let answer = self.http("POST", &format!("/images/create?fromImage={image}"), None)?;
        let text = answer.text();
        ensure!(answer.status == 200 && !text.contains("errorDetail"), "pull {image}: {text}");
        Ok(())
    }

    /// Creates and starts a container of busybox from a partial create request; its id.
    pub fn container(&self, request: &Value) -> Result<String> {
        let mut body = json!({"Image": images::BUSYBOX});
        if let (Some(body), Some(request)) = (body.as_object_mut(), request.as_object()) {
            body.extend(request.clone());
        }
        let created = self.http("POST", "/containers/create", Some(&body))?;
        ensure!(created.status == 201, "create: {}", created.text());
        let id = created.json()["Id"].as_str().context("no id")?.to_owned();
        let started = self.http("POST", &format!("/containers/{id}/start"), None)?;
        ensure!(started.status == 204, "start: {}", started.text());
        Ok(id)
    }

    /// Removes all containers, ends the daemon politely, and fails when anything of them is left.
    pub fn finish(self) -> Result<()> {
        let containers = self.known_containers()?;
        for container in self.http("GET", "/containers/json?all=1", None)?.json().as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            self.http("DELETE", &format!("/containers/{id}?force=1&v=1"), None)?;
        }
        let (data, exec) = (self.path("data"), self.path("exec"));
        let dirs: [&Path; 2] = [&data, &exec];
        let mut idle = self.idle.clone();
        idle.links.insert(format!("{} #1", self.backend.bridge()));
        // Networks that are made before somebody asks for one.
        let spare = (1..=self.backend.spare_networks()).map(|number| format!("veth #{number}"));
        idle.links.extend(spare);
        self.compare("after the last container", &idle, &dirs, &containers)?;
        let code = self.stop_daemon(rustix::process::Signal::TERM)?;
        ensure!(code == 0, "the daemon ended with {code}: {}", self.log());
        let mut allowed = self.pristine.clone();
        // An engine keeps its bridge: containers' addresses stay routable through an upgrade.
        allowed.links.insert(format!("{} #1", self.backend.bridge()));
        self.compare("after the daemon's end", &allowed, &dirs, &containers)
    }

    fn compare(&self, when: &str, before: &Census, dirs: &[&Path], ids: &[String]) -> Result<()> {
        let mut before = before.clone();
        before.mounts.extend(self.backend.kept_mounts(self.dir.path()));
        let mut left = String::new();
        let clean = wait::until("a clean machine", Duration::from_secs(10), || {
            match Census::take(&self.cage, dirs, ids) {
                Ok(now) => left = now.beyond(&before),
                Err(error) => left = error.to_string(),
            }
            if left.is_empty() { Some(()) } else { None }
        });
        clean.with_context(|| format!("left {when}:\n{left}\n{}", self.log()))
    }

    /// Ids of all containers that the daemon remembers to have made.
    fn known_containers(&self) -> Result<Vec<String>> {
        let filter = "%7B%22event%22%3A%7B%22create%22%3Atrue%7D%2C%22type%22%3A%7B%22container%22%3Atrue%7D%7D";
        let target = format!("/events?since=1&until={}&filters={filter}", now());
        let events = self.http("GET", &target, None)?.expect(200).text();
        let events = serde_json::Deserializer::from_str(&events).into_iter::<Value>();
        Ok(events.flatten().filter_map(|event| Some(event["Actor"]["ID"].as_str()?.to_owned())).collect())
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

/// Wires the machine and its neighbour together.
fn connect(side: &Cage, lan: &Cage) -> Result<()> {
    let peer = lan.pid().to_string();
    let host = format!("{HOST}/24");
    let neighbour = format!("{NEIGHBOUR}/24");
    side.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", &peer])?;
    side.run("ip", &["addr", "add", &host, "dev", "lan0"])?;
    side.run("ip", &["link", "set", "lan0", "up"])?;
    lan.run("ip", &["addr", "add", &neighbour, "dev", "lan0"])?;
    lan.run("ip", &["link", "set", "lan0", "up"])?;
    // Only so that a container's packet to anywhere has a way out to be masqueraded on.
    side.run("ip", &["route", "add", "default", "via", NEIGHBOUR])?;
    Ok(())
}
