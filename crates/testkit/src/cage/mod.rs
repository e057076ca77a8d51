//! A process that owns a throw-away machine: network, mount and cgroup namespaces, and all processes started in it.
//!
//! The cage is this very program, executed again ([`enter_if_caged`] must be the first line of `main`), so that
//! it is single-threaded and small. It is a child subreaper: a process started in it, or left behind by one,
//! cannot escape it. It ends, and ends everything in it, when its standard input closes, hence also when the
//! test dies.

mod fence;
mod inside;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use inside::enter_if_caged;

use crate::wait;

/// What a cage looks like from inside.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct World {
    /// Root directory to change into; the machine's own when absent.
    pub root: Option<PathBuf>,
    /// Process whose network to share; a new network when absent.
    pub network_of: Option<u32>,
    /// Mounts to make, in order, before the root is changed. Targets are paths outside the root directory.
    pub mounts: Vec<Mount>,
}

/// One mount of a [`World`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Mount {
    /// `source` (file or directory, with what is mounted below it) at `target`.
    Bind { source: PathBuf, target: PathBuf },
    /// An empty tmpfs of at most `bytes` bytes at `target`.
    Tmpfs { target: PathBuf, bytes: u64 },
    /// A proc or sysfs file system, by type name.
    Kernel { kind: String, target: PathBuf },
}

#[derive(Debug, Serialize, Deserialize)]
struct Spawn {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Ready,
    Spawned(u32),
    Failed(String),
    Exited(u32, i32),
}

#[derive(Debug, Default)]
struct Heard {
    replies: Vec<Report>,
    exits: HashMap<u32, i32>,
    closed: bool,
}

/// A running cage; dropping it kills everything in it.
#[derive(Debug)]
pub struct Cage {
    child: Child,
    stdin: Mutex<Option<ChildStdin>>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    network: File,
    mounts: File,
    cgroup: String,
}

impl Cage {
    /// Makes a cage. Its loopback interface is up and it has no other link.
    pub fn new(world: &World) -> Result<Cage> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let cgroup = format!("cage-{}-{number}", std::process::id());
        let mut child = Command::new("/proc/self/exe")
            .arg("--cage")
            .arg(serde_json::to_string(world)?)
            .arg(&cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a cage")?;
        let stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let teller = Arc::clone(&heard);
        std::thread::spawn(move || listen(stdout, &teller));
        let stdin = Mutex::new(child.stdin.take());
        match reply(&heard)? {
            Report::Ready => {}
            other => bail!("a cage could not be made: {other:?}"),
        }
        let file = |name: &str| {
            File::open(format!("/proc/{}/ns/{name}", child.id()))
                .with_context(|| format!("open the cage's {name} namespace"))
        };
        let (network, mounts) = (file("net")?, file("mnt")?);
        Ok(Cage { child, stdin, heard, network, mounts, cgroup })
    }

    /// The cage's own process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts `argv` in the cage with only `env` as its environment and output appended to `log`; its process id.
    pub fn spawn(&self, argv: &[String], env: &[(String, String)], log: &Path) -> Result<u32> {
        let order = Spawn { argv: argv.to_vec(), env: env.to_vec(), log: log.to_owned() };
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = stdin.as_mut().context("the cage is closed")?;
        pipe.write_all((serde_json::to_string(&order)? + "\n").as_bytes())?;
        match reply(&self.heard)? {
            Report::Spawned(pid) => Ok(pid),
            other => bail!("start {argv:?} in a cage: {other:?}"),
        }
    }

    /// Waits until the process `pid`, started by [`Cage::spawn`], has ended: exit code, or 128 + signal.
    pub fn wait_exit(&self, pid: u32, limit: Duration) -> Result<i32> {
        let (lock, bell) = &*self.heard;
        let heard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (heard, _) = bell
            .wait_timeout_while(heard, limit, |heard| !heard.exits.contains_key(&pid))
            .unwrap_or_else(PoisonError::into_inner);
        heard.exits.get(&pid).copied().with_context(|| format!("process {pid} still runs after {limit:?}"))
    }

    /// A command that will run in the cage's network, and in its file system when `root` is set.
    /// It is a child of the caller, not of the cage.
    pub fn command(&self, name: &str, root: bool) -> Command {
        let mut command = Command::new(name);
        let network = self.network.as_raw_fd();
        let mounts = root.then(|| self.mounts.as_raw_fd());
        let enter = move || {
            // SAFETY: setns takes a descriptor and a flag; both descriptors outlive the
            // command because `self` must be kept while its cage is used.
            let entered = unsafe {
                libc::setns(network, libc::CLONE_NEWNET) == 0
                    && mounts.is_none_or(|fd| libc::setns(fd, libc::CLONE_NEWNS) == 0)
            };
            if entered { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: the closure makes system calls only: nothing that could deadlock after fork.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `work` on a thread in the cage's network.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        in_network(&self.network, work)
    }

    /// Runs a program in the cage's network; its failure is an error.
    pub fn run(&self, name: &str, args: &[&str]) -> Result<String> {
        let output = crate::program::finish(self.command(name, false).args(args), b"", Duration::from_secs(20))?;
        if !output.success() {
            bail!("{output}");
        }
        Ok(output.stdout)
    }

    /// Process ids of everything that runs in the cage, the cage itself not included.
    pub fn processes(&self) -> Vec<u32> {
        inside::descendants(self.pid())
    }

    /// Directories of the cgroups made in the cage, deepest first.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        fence::below(&self.cgroup)
    }

    /// The cage's mount table, one mount point per entry.
    pub fn mount_points(&self) -> Vec<String> {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid()));
        let points = table.unwrap_or_default();
        points.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = wait::until("the cage's end", Duration::from_secs(20), || self.child.try_wait().ok().flatten());
        let _ = self.child.kill();
        let _ = self.child.wait();
        fence::remove(&self.cgroup);
    }
}

/// Runs `work` on a thread in the network of the process `pid`, such as a container's.
pub fn in_network_of<T: Send>(pid: u64, work: impl FnOnce() -> T + Send) -> Result<T> {
    in_network(&File::open(format!("/proc/{pid}/ns/net"))?, work)
}

fn in_network<T: Send>(network: &File, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: moves only this thread, which ends with `work`.
            let moved = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) } == 0;
            if moved { Ok(work()) } else { Err(std::io::Error::last_os_error()) }
        });
        match thread.join() {
            Ok(result) => Ok(result.context("enter a network")?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn listen(stdout: impl BufRead, heard: &(Mutex<Heard>, Condvar)) {
    let (lock, bell) = heard;
    for line in stdout.lines().map_while(Result::ok) {
        let report = serde_json::from_str(&line).unwrap_or(Report::Failed(line));
        let mut heard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            Report::Exited(pid, code) => {
                heard.exits.insert(pid, code);
            }
            other => {
                if let Report::Spawned(pid) = other {
                    // Thousands of processes end here: another one may have had this number.
                    heard.exits.remove(&pid);
                }
                heard.replies.push(other);
            }
        }
        bell.notify_all();
    }
    lock.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    bell.notify_all();
}

fn reply(heard: &(Mutex<Heard>, Condvar)) -> Result<Report> {
    let (lock, bell) = heard;
    let heard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut heard, _) = bell
        .wait_timeout_while(heard, Duration::from_secs(20), |heard| heard.replies.is_empty() && !heard.closed)
        .unwrap_or_else(PoisonError::into_inner);
    heard.replies.pop().context("the cage does not answer")
}
