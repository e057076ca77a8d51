//! Hooks: programs of the host, or of the container, that are told of the
//! container by its state on standard input (config.md "POSIX-platform Hooks").

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use budu_spec::oci;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{Failing, failed, words};
use crate::plan::{About, Hook};
use crate::protocol::{Failure, FailureClass};

/// Of what a hook says, so much is kept for the message of its failure.
const KEPT: usize = 2 << 10;

/// How often an end is looked for where the kernel does not tell of it.
const GLANCE: Duration = Duration::from_millis(10);

/// The state of a container, with `pid` as the reader sees it.
pub(crate) fn state(id: &str, about: &About, status: oci::Status, pid: i32) -> oci::State {
    oci::State {
        oci_version: about.oci_version.clone(),
        id: id.to_owned(),
        status,
        pid,
        bundle: about.bundle.clone(),
        annotations: about.annotations.clone(),
    }
}

/// Where hooks run and what they are told.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// Name of the point in the life cycle, for messages: `createRuntime`.
    pub(crate) point: &'a str,
    /// What they read.
    pub(crate) state: &'a oci::State,
    /// Their working directory.
    pub(crate) cwd: &'a Path,
    /// Environment of hooks that have none of their own, `KEY=value`.
    pub(crate) env: &'a [String],
}

/// Runs hooks one after the other until one fails.
///
/// # Errors
/// `error running <point> hook #<number from 0>: <why>`, with what the hook said.
pub(crate) fn run_hooks(hooks: &[Hook], stage: &Stage<'_>) -> Failing<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut input = input(stage.state).map_err(failed("prepare the state for hooks"))?;
    for (number, hook) in hooks.iter().enumerate() {
        run_one(hook, stage, &mut input).map_err(|why| Failure {
            class: FailureClass::Internal,
            message: format!("error running {} hook #{number}: {why}", stage.point),
        })?;
    }
    Ok(())
}

/// A file in memory: unlike a pipe it takes any amount, and nobody must wait for a reader.
fn input(state: &oci::State) -> io::Result<File> {
    let made = rustix::fs::memfd_create(c"state", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL);
    // Linux before 6.3 does not know that it will not be executed.
    let mut file = File::from(made.or_else(|_| rustix::fs::memfd_create(c"state", MemfdFlags::CLOEXEC))?);
    file.write_all(&serde_json::to_vec(state)?)?;
    Ok(file)
}

fn run_one(hook: &Hook, stage: &Stage<'_>, input: &mut File) -> Result<(), String> {
    let start = |e: io::Error| format!("fork/exec {}: {}", hook.path.display(), words(&e));
    input.rewind().map_err(start)?;
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    let env = if hook.env.is_empty() { stage.env } else { &hook.env };
    command.env_clear().envs(env.iter().filter_map(|pair| pair.split_once('=')));
    command.current_dir(stage.cwd).process_group(0);
    command.stdin(input.try_clone().map_err(start)?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut said = Said::of(&mut child).map_err(start)?;
    let status = wait(&mut child, &mut said, deadline).map_err(|e| words(&e))?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{}, stdout: {}, stderr: {}", ending(status), said.text(0), said.text(1))),
        None => Err(format!("hook ran past specified timeout of {}.0s", hook.timeout.unwrap_or_default())),
    }
}

/// Waits for the end; `None` when it did not come in time and was brought about.
fn wait(child: &mut Child, said: &mut Said, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    // A system call filter may forbid it.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
    loop {
        if let Some(status) = child.try_wait()? {
            said.read();
            return Ok(Some(status));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        let patience = match (&pidfd, left) {
            (Some(_), left) => left,
            (None, left) => Some(left.map_or(GLANCE, |left| left.min(GLANCE))),
        };
        said.wait(pidfd.as_ref(), patience);
    }
}

/// What a hook writes: standard output and error.
struct Said([Stream; 2]);

struct Stream {
    /// `None` once it has ended.
    file: Option<File>,
    kept: Vec<u8>,
}

impl Said {
    fn of(child: &mut Child) -> io::Result<Said> {
        let files = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for file in files.iter().flatten() {
            rustix::io::ioctl_fionbio(file, true)?;
        }
        Ok(Said(files.map(|file| Stream { file: file.map(File::from), kept: Vec::new() })))
    }

    /// Waits until there is something to read, or the process has ended.
    fn wait(&mut self, pidfd: Option<&OwnedFd>, patience: Option<Duration>) {
        let open = self.0.iter().filter_map(|stream| stream.file.as_ref()).map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> =
            open.chain(pidfd.map(AsFd::as_fd)).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let patience = patience.and_then(|left| Timespec::try_from(left).ok());
        let _ = poll(&mut fds, patience.as_ref());
        self.read();
    }

    /// Reads all there is now.
    fn read(&mut self) {
        self.0.iter_mut().for_each(Stream::read);
    }

    fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(&self.0[at].kept).into_owned()
    }
}

impl Stream {
    fn read(&mut self) {
        let mut buffer = [0u8; 4096];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(0) => self.file = None,
                Ok(n) => {
                    let room = KEPT.saturating_sub(self.kept.len()).min(n);
                    self.kept.extend_from_slice(&buffer[..room]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// An unsuccessful end, in the words that users of hooks know.
fn ending(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else { return format!("exit status {}", status.code().unwrap_or_default()) };
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        _ => return format!("signal: {signal}"),
    };
    format!("signal: {name}{}", if status.core_dumped() { " (core dumped)" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, ..Hook::default() }
    }

    fn run(hooks: &[Hook], env: &[String]) -> Failing<()> {
        let state = state("c", &About::default(), oci::Status::Creating, 7);
        run_hooks(hooks, &Stage { point: "prestart", state: &state, cwd: Path::new("/"), env })
    }

    #[test]
    fn every_hook_reads_the_state_in_an_environment_of_its_own() {
        let reads = "read line; case $line in *'\"status\":\"creating\",\"pid\":7'*) ;; *) exit 3;; esac; \
                     test \"$(pwd)\" = / && test -z \"$HOME$CARGO\"";
        run(&[shell(reads), shell(reads)], &[]).unwrap();
        let mut own = shell("test $A = own");
        own.env = vec!["A=own".into()];
        run(&[shell("test $A = default"), own], &["A=default".into()]).unwrap();
    }

    #[test]
    fn a_failure_is_numbered_and_quoted() {
        let error = run(&[shell("true"), shell("echo out; echo err >&2; exit 4"), shell("exit 5")], &[]).unwrap_err();
        let expected = "error running prestart hook #1: exit status 4, stdout: out\n, stderr: err\n";
        assert_eq!(error.message, expected);
        let error = run(&[shell("kill -SYS $$")], &[]).unwrap_err();
        assert!(error.message.starts_with("error running prestart hook #0: signal: bad system call"), "{error:?}");
        let missing = Hook { path: "/no/such".into(), ..Hook::default() };
        let error = run(&[missing], &[]).unwrap_err();
        assert_eq!(error.message, "error running prestart hook #0: fork/exec /no/such: no such file or directory");
    }

    #[test]
    fn a_hook_ends_in_time_and_its_children_hold_nobody_up() {
        let mut slow = shell("sleep 1000 & wait");
        slow.timeout = Some(1);
        let before = Instant::now();
        let error = run(&[slow], &[]).unwrap_err();
        assert_eq!(error.message, "error running prestart hook #0: hook ran past specified timeout of 1.0s");
        run(&[shell("sleep 3 &")], &[]).unwrap();
        assert!(before.elapsed() < Duration::from_secs(3));
        // More than a pipe holds, in both directions.
        run(&[shell("head -c 300000 /dev/zero >&2")], &[]).unwrap();
    }
}
