//! The caller's terminal is not the container's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use libtest_mimic::Failed;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::json;

use crate::Test;
use crate::world::{World, wait};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("own_terminal_of_a_container", own_terminal_of_a_container),
    ("callers_terminal_is_controlled_by_nobody_inside", callers_terminal_is_controlled_by_nobody_inside),
];

fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    (File::from(master), slave)
}

/// What can be read once nobody has the other end any more.
fn read_rest(mut master: File) -> String {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

const LOOK: &str = "stat -c '%n %t:%T' -L /proc/self/fd/0 /dev/console; ls -l /dev/pts; (echo > /dev/tty) && echo controls; \
                    mount | grep ' /dev/pts '";

/// Keys pushed into the terminal (TIOCSTI) must go nowhere but to the container itself.
fn own_terminal_of_a_container(world: &World) -> Result<(), Failed> {
    let mut config = world.script(LOOK);
    config["process"]["terminal"] = json!(true);
    world.write_config(&config);
    let (mut master, slave) = terminal();
    let outer = rustix::fs::fstat(&slave)?.st_rdev;
    let outer = format!("{:x}:{:x}", rustix::fs::major(outer), rustix::fs::minor(outer));
    let bundle = world.dir.join("bundle");
    let mut command = world.command(&["run", "--bundle", &bundle.to_string_lossy(), world.id()]);
    let child = command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave).spawn()?;
    drop(command);
    let reader = {
        let master = master.try_clone()?;
        std::thread::spawn(move || read_rest(master))
    };
    let code = wait(child);
    // In case that nobody wrote anything.
    let _ = master.flush();
    let text = reader.join().unwrap();
    assert_eq!(code, Some(0), "{text}");
    let first = text.lines().next().unwrap_or_default().trim().to_owned();
    assert!(first.starts_with("/proc/self/fd/0 88:0"), "{text}");
    // Same number perhaps, but another instance of devpts: only one terminal is in there.
    let others = text.lines().filter(|line| line.contains("crw") && !line.contains("ptmx")).count();
    assert_eq!(others, 1, "outer {outer}: {text}");
    assert!(text.contains("controls"), "{text}");
    Ok(())
}

/// Without a terminal of its own a container may write to its caller's, but
/// controls none, and only its controlling terminal takes pushed keys.
fn callers_terminal_is_controlled_by_nobody_inside(world: &World) -> Result<(), Failed> {
    let script = "(echo x > /dev/tty) 2>/dev/null && echo CONTROLS; set -- $(cat /proc/self/stat); echo tty=$7";
    world.write_config(&world.script(script));
    let run = |args: &[&str]| {
        let (master, slave) = terminal();
        let mut command = world.command(args);
        let child =
            command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave).spawn().unwrap();
        drop(command);
        let reader = std::thread::spawn(move || read_rest(master));
        let code = wait(child);
        let text = reader.join().unwrap();
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("tty=0") && !text.contains("CONTROLS"), "{text}");
    };
    let bundle = world.dir.join("bundle");
    run(&["run", "--bundle", &bundle.to_string_lossy(), world.id()]);
    let _container = world.start(&world.config(&["sleep", "1000"]));
    run(&["exec", world.id(), "sh", "-c", script]);
    Ok(())
}
