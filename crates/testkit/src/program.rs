//! Running a program to its end, with a time limit.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait;

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// Whether the exit status was 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Exit code; 128 + n after signal n.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output without surrounding white space; panics with everything known when the exit code is not 0.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.success(), "{self}");
        self.stdout.trim()
    }

    /// Panics unless the exit code is `code`.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Output {
        assert!(self.code() == code, "expected exit code {code}: {self}");
        self
    }

    /// Panics unless standard error contains `text`.
    #[track_caller]
    pub fn complains(&self, text: &str) -> &Output {
        assert!(self.stderr.contains(text), "expected stderr to contain {text:?}: {self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` exited with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code(),
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// Runs `command` to its end; kills it and fails after `limit`. `input` goes to its standard input.
pub(crate) fn finish(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let line = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let mut stdout = child.stdout.take().context("stdout is piped")?;
    let mut stderr = child.stderr.take().context("stderr is piped")?;
    let input = input.to_vec();
    // The writer may outlive a program that never reads; it ends when the pipe breaks.
    std::thread::spawn(move || {
        use std::io::Write;
        let _ = stdin.write_all(&input);
    });
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stdout.read_to_end(&mut bytes);
        bytes
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stderr.read_to_end(&mut bytes);
        bytes
    });
    let ended = wait::until("the program's end", limit, || child.try_wait().transpose());
    let Ok(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("`{line}` still ran after {limit:?} and was killed");
    };
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Ok(Output { line, status: status?, stdout: text(out), stderr: text(err) })
}

/// Runs a program of this machine with a limit of one minute; its failure is an error.
pub fn program<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Result<Output> {
    let output = finish(Command::new(name).args(args), b"", Duration::from_secs(60))?;
    if !output.success() {
        bail!("{output}");
    }
    Ok(output)
}
