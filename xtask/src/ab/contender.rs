//! Whoever takes part: a way to run a container once, and a way to hold many.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use budu_testkit::{Backend, Cage, Client, Engine, Options, Registry, World, images, peers};

use crate::stage::Dir;

/// A contender's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The kernel alone.
    Floor,
    /// Ours.
    Budu,
    /// Docker's daemon with the stock command line.
    Dockerd,
    /// Podman with crun.
    Podman,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Floor => "floor",
            Kind::Budu => "budu",
            Kind::Dockerd => "dockerd",
            Kind::Podman => "podman",
        }
    }
}

/// A contender that is ready to run.
#[derive(Debug)]
pub(super) enum Contender {
    Floor { lower: PathBuf, dir: PathBuf, _temporary: Dir },
    Engine { kind: Kind, engine: Box<Engine> },
    Podman { cage: Cage, _side: Cage, dir: PathBuf, _temporary: Dir },
}

impl Contender {
    pub(super) fn start(kind: Kind) -> Result<Contender> {
        match kind {
            Kind::Floor => floor(),
            Kind::Podman => podman(),
            Kind::Budu => engine(kind, Backend::Budu),
            Kind::Dockerd => engine(kind, Backend::Dockerd),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Contender::Floor { .. } => Kind::Floor.name(),
            Contender::Engine { kind, .. } => kind.name(),
            Contender::Podman { .. } => Kind::Podman.name(),
        }
    }

    pub(super) fn engine(&self) -> Option<&Engine> {
        match self {
            Contender::Engine { engine, .. } => Some(engine),
            _ => None,
        }
    }

    pub(super) fn cage(&self) -> Option<&Cage> {
        match self {
            Contender::Engine { engine, .. } => Some(engine.cage()),
            Contender::Podman { cage, .. } => Some(cage),
            Contender::Floor { .. } => None,
        }
    }

    /// Whether it can keep containers running in the background.
    pub(super) fn holds_containers(&self) -> bool {
        self.cage().is_some()
    }

    /// `run --rm IMAGE true`, as a person would.
    pub(super) fn run_once(&self) -> Result<()> {
        let mut command = match self {
            Contender::Floor { lower, dir, .. } => {
                let mut command = Command::new(floor_binary()?);
                command.args([lower, dir]).arg("/bin/true");
                command
            }
            _ => return self.client(&["run", "--rm", images::BUSYBOX, "true"]),
        };
        finish(&mut command)
    }

    /// Runs the contender's command line with `args` to its end.
    pub(super) fn client(&self, args: &[&str]) -> Result<()> {
        match self {
            Contender::Floor { .. } => Ok(()),
            Contender::Engine { kind, engine } => {
                let client = if *kind == Kind::Budu { Client::Budu } else { Client::Docker };
                finish(&mut engine.client(client).command(args))
            }
            // Podman has no daemon: what it leaves running must be the cage's, to be counted and ended.
            Contender::Podman { cage, dir, .. } => {
                let args = args.iter().map(|arg| (*arg).to_owned());
                let argv: Vec<String> = peers::podman(dir).into_iter().chain(args).collect();
                let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
                let env = [("PATH", path), ("HOME", "/root")];
                let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let log = dir.join("podman.log");
                let pid = cage.spawn(&argv, &env, &log)?;
                let code = cage.wait_exit(pid, std::time::Duration::from_secs(120))?;
                ensure!(code == 0, "{argv:?}: {}", std::fs::read_to_string(log)?);
                Ok(())
            }
        }
    }
}

/// Runs a command to its end without looking at what it prints, unless it fails.
fn finish(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {complaint}", output.status);
    Ok(())
}

fn floor_binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name("floor");
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

fn floor() -> Result<Contender> {
    let temporary = Dir::new()?;
    let lower = temporary.path().join("lower");
    std::fs::create_dir_all(lower.join("bin"))?;
    std::fs::copy("/bin/busybox", lower.join("bin/true"))?;
    let dir = temporary.path().join("scratch");
    std::fs::create_dir(&dir)?;
    Ok(Contender::Floor { lower, dir, _temporary: temporary })
}

fn engine(kind: Kind, backend: Backend) -> Result<Contender> {
    let options = Options { backend: Some(backend), images: vec![images::BUSYBOX], ..Options::default() };
    Ok(Contender::Engine { kind, engine: Box::new(Engine::start(options)?) })
}

fn podman() -> Result<Contender> {
    let temporary = Dir::new()?;
    let dir = temporary.path().to_owned();
    let cage = Cage::new(&peers::world(&dir))?;
    let side = Cage::new(&World { network_of: Some(cage.pid()), ..World::default() })?;
    Registry::start(&side, &images::storage(), &dir.join("registry.log"))?;
    let contender = Contender::Podman { cage, _side: side, dir, _temporary: temporary };
    contender.client(&["pull", "--quiet", "--tls-verify=false", images::BUSYBOX])?;
    Ok(contender)
}
