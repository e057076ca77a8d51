//! Starts a daemon when nobody answers on the default socket.
//!
//! The daemon gets the write end of a pipe (`BUDU_READY_FD`): a byte means it listens, the end of
//! the file without one means it died.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::Error;
use crate::host::Host;
use crate::transport::Stream;

/// Hidden command: leaves the caller's session, then becomes the daemon.
pub(crate) const DETACHED: &str = "__detached-daemon";

const LOG: &str = "/var/log/budu.log";
const PATIENCE: Duration = Duration::from_secs(10);
const LAST_CHANCE: Duration = Duration::from_millis(300);

/// Starts the daemon, waits until it listens and connects.
pub(crate) async fn start_daemon(host: &Host) -> Result<Stream, Error> {
    let fail =
        |what: &str, error: &dyn std::fmt::Display| Error::new(format_args!("start the daemon: {what}: {error}"));
    let mut log = open_log().map_err(|error| fail(LOG, &error))?;
    let begin = log.seek(SeekFrom::End(0)).unwrap_or_default();
    let (ready, report) = pipe_with(PipeFlags::empty()).map_err(|error| fail("pipe", &error))?;
    fcntl_setfd(&ready, FdFlags::CLOEXEC).map_err(|error| fail("pipe", &error))?;
    let output = || log.try_clone().map(Stdio::from).map_err(|error| fail(LOG, &error));
    let child = Command::new("/proc/self/exe")
        .arg0("budu")
        .arg(DETACHED)
        .env("BUDU_READY_FD", report.as_raw_fd().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .spawn()
        .map_err(|error| fail("run ourselves", &error))?;
    drop(report);
    eprintln!("budu: started the daemon (pid {}, log {LOG})", child.id());
    wait_ready(&ready, host).await.ok_or_else(|| {
        Error::new(format_args!("the daemon did not start; its log {LOG} ends with:\n{}", tail(&mut log, begin)))
    })
}

fn open_log() -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(LOG)
}

/// Waits for the byte, or for the socket to answer (a daemon may not know of the pipe). One that
/// closes the pipe silently has died, or is about to listen: it gets a moment longer.
async fn wait_ready(ready: &OwnedFd, host: &Host) -> Option<Stream> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut open = true;
    while Instant::now() < deadline {
        if open {
            // Nothing else runs in this process yet, so blocking here blocks nobody.
            let step = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let spoke = poll(&mut [PollFd::new(ready, PollFlags::IN)], Some(&step)).is_ok_and(|count| count > 0);
            if spoke {
                open = false;
                let said_ready = rustix::io::read(ready, &mut [0u8; 1]).is_ok_and(|count| count == 1);
                deadline = if said_ready { deadline } else { deadline.min(Instant::now() + LAST_CHANCE) };
            }
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Ok(stream) = Stream::connect(host).await {
            return Some(stream);
        }
    }
    None
}

fn tail(log: &mut File, begin: u64) -> String {
    let mut text = String::new();
    let end = log.seek(SeekFrom::End(0)).unwrap_or_default();
    let _ = log.seek(SeekFrom::Start(begin.max(end.saturating_sub(4096))));
    let _ = log.take(4096).read_to_string(&mut text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// The hidden command: a new session, then the daemon in this process.
pub(crate) fn become_daemon() -> Error {
    if let Err(error) = rustix::process::setsid() {
        return Error::new(format_args!("leave the session: {error}"));
    }
    let error = Command::new("/proc/self/exe").arg0("budu").arg("daemon").exec();
    Error::new(format_args!("run ourselves as the daemon: {error}"))
}
