//! What runs inside a cage: set up, then start processes on request and reap whatever ends.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, pivot_root, wait};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::{Mount, Report, Spawn, World, fence};

/// Becomes a cage, and never returns, when this program was started as one. Call it first in `main`.
pub fn enter_if_caged() {
    let args: Vec<String> = std::env::args().collect();
    let [_, flag, world, cgroup] = args.as_slice() else { return };
    if flag != "--cage" {
        return;
    }
    if let Err(error) = live(world, cgroup) {
        tell(&Report::Failed(format!("{error:#}")));
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn tell(report: &Report) {
    let line = serde_json::to_string(report).unwrap_or_default();
    let _ = writeln!(io::stdout(), "{line}");
}

fn live(world: &str, cgroup: &str) -> Result<()> {
    let world: World = serde_json::from_str(world)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let network = match world.network_of {
        Some(pid) => {
            let file = fs::File::open(format!("/proc/{pid}/ns/net"))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            UnshareFlags::empty()
        }
        None => UnshareFlags::NEWNET,
    };
    // SAFETY: this process is single-threaded, so no other thread loses its view.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | network) }.context("make namespaces (root is needed)")?;
    fence::privatise()?;
    fence::enter(cgroup).context("make cgroups")?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status().context("run ip")?;
    build(&world)?;
    let ended = child_signals()?;
    tell(&Report::Ready);
    serve(&ended)?;
    kill_all();
    Ok(())
}

fn build(world: &World) -> Result<()> {
    if let Some(root) = &world.root {
        mount_bind_recursive(root, root)?;
    }
    for mount in &world.mounts {
        match mount {
            Mount::Bind { source, target } => {
                if source.is_dir() {
                    fs::create_dir_all(target)?;
                } else {
                    OpenOptions::new().create(true).append(true).open(target)?;
                }
                mount_bind_recursive(source, target).with_context(|| format!("bind {}", target.display()))?;
            }
            Mount::Tmpfs { target, bytes } => {
                fs::create_dir_all(target)?;
                fence::mount_kind("tmpfs", target, &format!("size={bytes}"))?;
            }
            Mount::Kernel { kind, target } => {
                fence::mount_kind(kind, target, "").with_context(|| format!("mount {}", target.display()))?
            }
        }
    }
    if let Some(root) = &world.root {
        rustix::process::chdir(root)?;
        pivot_root(".", ".").context("change the root directory")?;
        unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
    }
    Ok(())
}

/// A descriptor that becomes readable when a child has ended.
fn child_signals() -> Result<OwnedFd> {
    // SAFETY: the set is initialised before use; signalfd returns a new descriptor or -1.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("signalfd");
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn serve(ended: &OwnedFd) -> Result<()> {
    let mut stdin = io::stdin().lock();
    loop {
        let (orders, endings) = {
            let input = io::stdin();
            let mut fds = [PollFd::new(&input, PollFlags::IN), PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
            poll(&mut fds, None)?;
            (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
        };
        if endings {
            let mut record = [0; 128];
            rustix::io::read(ended, &mut record)?;
            reap();
        }
        if orders {
            // One order is answered before the next is sent, so a line never waits in the buffer.
            let mut line = String::new();
            if stdin.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let report = match start(&line) {
                Ok(pid) => Report::Spawned(pid),
                Err(error) => Report::Failed(format!("{error:#}")),
            };
            tell(&report);
        }
    }
}

fn start(line: &str) -> Result<u32> {
    let order: Spawn = serde_json::from_str(line)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&order.log)
        .with_context(|| format!("open {}", order.log.display()))?;
    let (name, args) = order.argv.split_first().context("an empty command")?;
    let child = Command::new(name)
        .args(args)
        .env_clear()
        .envs(order.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    Ok(child.id())
}

fn reap() {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let code =
            status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(-1);
        tell(&Report::Exited(pid.as_raw_nonzero().get().unsigned_abs(), code));
    }
}

/// Kills everything in the cage. New children may appear while we look, hence the repetition.
fn kill_all() {
    for _ in 0..2000 {
        let left = descendants(std::process::id());
        if left.is_empty() {
            return;
        }
        for pid in left {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

/// All processes below `ancestor`, zombies included.
pub(super) fn descendants(ancestor: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent(Path::new("/proc").join(pid.to_string()))?)))
        .collect();
    let mut family = vec![ancestor];
    let mut next = 0;
    while next < family.len() {
        let pid = family[next];
        family.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
        next += 1;
    }
    family.split_off(1)
}

fn parent(process: std::path::PathBuf) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses itself: fields count from the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
