//! A cage with the peers' root directory, where foreign programs and OCI runtimes meet on equal terms.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::{Backend, Cage, Mount, World, peers};

use crate::run;

/// Search path of everything that runs on a stage.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A throw-away machine, and a directory that it sees under the same name as we do.
pub(crate) struct Stage {
    // Order matters: the cage ends before its directory is removed.
    cage: Cage,
    dir: Dir,
    next: AtomicU32,
}

/// How a program on a stage ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Exit code, or 128 + signal; absent when it was still running at the end of its time.
    pub(crate) code: Option<i32>,
    /// Standard output and standard error.
    pub(crate) said: String,
}

/// A program that runs on a stage.
#[derive(Debug)]
pub(crate) struct Started {
    pid: u32,
    log: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Result<Stage> {
        ensure!(peers::present(), "runc, crun and engines are not there: `cargo xtask peers` installs them");
        let dir = Dir::new()?;
        let cage = Cage::new(&world(dir.path()))?;
        Ok(Stage { cage, dir, next: AtomicU32::new(0) })
    }

    /// The directory that both sides see.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a program; what it prints is kept.
    pub(crate) fn start<S: AsRef<str>>(&self, argv: &[S], env: &[(&str, &str)]) -> Result<Started> {
        let argv: Vec<String> = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let log = self.path().join(format!("{number}.log"));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let env: Vec<_> =
            [("PATH", PATH), ("HOME", "/root")].into_iter().chain(env.iter().copied()).map(owned).collect();
        let pid = self.cage.spawn(&argv, &env, &log)?;
        Ok(Started { pid, log })
    }

    /// Waits for a program's end, `limit` at most.
    pub(crate) fn end(&self, started: &Started, limit: Duration) -> Result<Ended> {
        let code = self.cage.wait_exit(started.pid, limit).ok();
        let said = String::from_utf8_lossy(&std::fs::read(&started.log)?).into_owned();
        Ok(Ended { code, said })
    }

    /// Runs a program to its end, which must be a success; what it printed.
    pub(crate) fn finish<S: AsRef<str>>(&self, argv: &[S], limit: Duration) -> Result<String> {
        let ended = self.end(&self.start(argv, &[])?, limit)?;
        if ended.code == Some(0) {
            return Ok(ended.said);
        }
        let line: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
        bail!("{}: {}\n{}", line.join(" "), ended.how(), ended.said)
    }

    /// Puts the runtime at `path` on the stage (none: Budu) and tells what to call it by there. A name without a
    /// slash is one of the peers' own.
    pub(crate) fn runtime(&self, path: Option<&str>) -> Result<String> {
        match path {
            Some(name) if !name.contains('/') => Ok(name.to_owned()),
            Some(path) => self.place(Path::new(path), Path::new(path).file_name().context("no file")?.to_str()),
            None => {
                let binary = Backend::budu_binary();
                let program = self.place(&binary, Some("budu-oci"))?;
                // Every runtime names the specification that it follows; a Docker command line does not.
                let version = self.finish(&[&program, "--version"], Duration::from_secs(10));
                let speaks = version.is_ok_and(|said| said.contains("spec:"));
                ensure!(speaks, "{} has no `oci` command yet", binary.display());
                Ok(program)
            }
        }
    }

    fn place(&self, binary: &Path, name: Option<&str>) -> Result<String> {
        let bin = self.path().join("bin");
        std::fs::create_dir_all(&bin)?;
        // No link: some callers resolve it, and the name tells the binary what it is.
        let target = bin.join(name.context("the runtime's name is not UTF-8")?);
        std::fs::copy(binary, &target).with_context(|| format!("copy {}", binary.display()))?;
        Ok(target.display().to_string())
    }
}

/// The peers' world, with a directory of its own for the places where hierarchies of control groups are mounted:
/// podman makes one there for each controller that it knows, and where nothing is mounted that stays.
fn world(dir: &Path) -> World {
    let top = Path::new("/sys/fs/cgroup");
    let mut world = peers::world(dir);
    let shared = world.mounts.iter().position(|mount| matches!(mount, Mount::Bind { source, .. } if source == top));
    let Some(at) = shared.filter(|_| !top.join("cgroup.controllers").exists()) else { return world };
    let Mount::Bind { target, .. } = world.mounts.remove(at) else { return world };
    let entries = std::fs::read_dir(top).into_iter().flatten().flatten();
    let hierarchies = entries.filter(|entry| entry.path().join("cgroup.procs").exists());
    let bind = |entry: std::fs::DirEntry| Mount::Bind { source: entry.path(), target: target.join(entry.file_name()) };
    let own = Mount::Tmpfs { target: target.clone(), bytes: 1 << 20 };
    let mounts: Vec<Mount> = std::iter::once(own).chain(hierarchies.map(bind)).collect();
    world.mounts.splice(at..at, mounts);
    world
}

impl Ended {
    /// How it ended, for messages.
    pub(crate) fn how(&self) -> String {
        self.code.map_or_else(|| "did not end in time".to_owned(), |code| format!("exit code {code}"))
    }
}

/// Builds Budu, unless `BUDU_BIN` names one.
pub(crate) fn build_budu() -> Result<()> {
    if std::env::var_os("BUDU_BIN").is_some() {
        return Ok(());
    }
    run("cargo", &["build", "--quiet", "--release", "--package", "budu"])
}

/// A directory that goes with its owner.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> std::io::Result<Dir> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("budu-stage.{}.{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Dir(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
