//! A program on a pseudo terminal, driven as a person at a keyboard would.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait;

#[derive(Debug, Default)]
struct Screen {
    text: String,
    ended: bool,
}

/// A running program and the keyboard and screen it believes in.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    screen: Arc<(Mutex<Screen>, Condvar)>,
    read: usize,
}

impl Terminal {
    /// Starts `command` as the leader of a session on a new terminal of `rows` × `columns` characters.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Result<Terminal> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave: OwnedFd = rustix::fs::open(&name, flags, Mode::empty())?;
        tcsetwinsize(&slave, winsize(rows, columns))?;
        command.stdin(Stdio::from(slave.try_clone()?));
        command.stdout(Stdio::from(slave.try_clone()?)).stderr(Stdio::from(slave));
        let lead = || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        };
        // SAFETY: the closure makes two system calls and nothing else.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().context("start a program on a terminal")?;
        // The command holds the terminal's other end; dropped, the program's end is our end of file.
        drop(command);
        let master = File::from(master);
        let screen = Arc::new((Mutex::new(Screen::default()), Condvar::new()));
        let (writer, source) = (Arc::clone(&screen), master.try_clone()?);
        std::thread::spawn(move || copy(source, &writer));
        Ok(Terminal { child, master, screen, read: 0 })
    }

    /// Types `text`; `"\u{10}"` is ctrl-p, `"\u{11}"` ctrl-q, `"\r"` the enter key.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Changes the terminal's size, which signals the program.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tcsetwinsize(&self.master, winsize(rows, columns))?)
    }

    /// Waits until `text` is on the screen after what earlier calls have matched, and returns what came before it.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let (lock, bell) = &*self.screen;
        let screen = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.read;
        let missing = |screen: &mut Screen| !screen.text[from..].contains(text) && !screen.ended;
        let (screen, _) =
            bell.wait_timeout_while(screen, Duration::from_secs(20), missing).unwrap_or_else(PoisonError::into_inner);
        let Some(at) = screen.text[from..].find(text) else {
            bail!("{text:?} did not appear on the terminal, only {:?}", &screen.text[from..]);
        };
        self.read = from + at + text.len();
        Ok(screen.text[from..from + at].to_owned())
    }

    /// Everything the program has written so far.
    pub fn text(&self) -> String {
        self.screen.0.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// Waits for the program's end: its exit code, or 128 + signal.
    pub fn wait(&mut self) -> Result<i32> {
        use std::os::unix::process::ExitStatusExt;
        let limit = Duration::from_secs(20);
        let ended = wait::until("the end of a program on a terminal", limit, || self.child.try_wait().transpose());
        let status = ended.with_context(|| format!("screen: {:?}", self.text()))??;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn copy(mut source: File, screen: &(Mutex<Screen>, Condvar)) {
    let (lock, bell) = screen;
    let mut buffer = [0; 4096];
    // A terminal whose last user is gone reads as an error, not as an end of file.
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        lock.lock().unwrap_or_else(PoisonError::into_inner).text.push_str(&text);
        bell.notify_all();
    }
    lock.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    bell.notify_all();
}
