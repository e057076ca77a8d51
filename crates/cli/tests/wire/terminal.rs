//! A real terminal: raw mode, sizes, detach keys.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::client;
use super::fake::{Fake, NEWEST};

/// A pseudo-terminal with a program on it.
struct Terminal {
    ours: File,
    theirs: OwnedFd,
}

impl Terminal {
    fn open() -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("pseudo-terminal");
        grantpt(&ours).expect("grant");
        unlockpt(&ours).expect("unlock");
        let name = ptsname(&ours, Vec::new()).expect("name");
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("open");
        Terminal { ours: File::from(ours), theirs }
    }

    fn size(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).expect("set the size");
    }

    fn run(&self, host: &str, args: &[&str]) -> Child {
        let side = || Stdio::from(self.theirs.try_clone().expect("clone"));
        Command::new(client())
            .args(args)
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONFIG", "/nonexistent")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("run")
    }

    /// Reads until `text` came.
    fn expect(&mut self, text: &str) {
        let mut seen = Vec::new();
        let mut buffer = [0u8; 256];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = self.ours.read(&mut buffer).expect("read the terminal");
            seen.extend_from_slice(&buffer[..count]);
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.theirs).expect("attributes").local_modes.contains(LocalModes::ECHO)
    }
}

#[test]
fn a_terminal_is_raw_follows_its_size_and_detaches() {
    let fake = Fake::start(NEWEST);
    let mut terminal = Terminal::open();
    terminal.size(30, 100);
    let mut child = terminal.run(&fake.host(), &["run", "-it", "cat"]);
    fake.wait_until(|line| line.contains("/resize?h=30&w=100"));
    assert!(!terminal.echoes(), "the terminal is raw while attached");
    terminal.ours.write_all(b"typed").expect("type");
    terminal.expect("typed");
    terminal.size(40, 120);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("signal");
    fake.wait_until(|line| line.contains("/resize?h=40&w=120"));
    terminal.ours.write_all(b"\x10\x11").expect("type");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    assert!(terminal.echoes(), "the terminal is as before");
    let create = fake.asked().into_iter().find(|asked| asked.line.contains("/create")).expect("create");
    assert_eq!(create.body["HostConfig"]["ConsoleSize"], serde_json::json!([30, 100]));
}

#[test]
fn signals_go_to_the_container_when_there_is_no_terminal() {
    let fake = Fake::start(NEWEST);
    let mut child = Command::new(client())
        .args(["run", "-i", "cat"])
        .env("DOCKER_HOST", fake.host())
        .env("DOCKER_CONFIG", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run");
    fake.wait_until(|line| line.contains("/start"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signal");
    fake.wait_until(|line| line.ends_with("/kill?signal=SIGINT"));
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}
