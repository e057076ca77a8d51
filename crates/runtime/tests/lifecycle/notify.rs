//! `NOTIFY_SOCKET`: readiness of a container's program for a service manager.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::world::{World, wait};
use crate::{Test, state};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("readiness_is_passed_on", readiness_is_passed_on), ("only_readiness_is_passed_on", only_readiness_is_passed_on)];

/// Ends the program.
const END: &str = "end";

/// What the test binary does in the container: says what its arguments are, and stays.
pub(crate) fn program() -> i32 {
    let socket = UnixDatagram::unbound().unwrap();
    let path = std::env::var_os("NOTIFY_SOCKET").expect("the program is told");
    for message in std::env::args().skip(2) {
        if message == END {
            return 0;
        }
        socket.send_to(message.as_bytes(), &path).unwrap();
    }
    loop {
        std::thread::park();
    }
}

struct Manager(UnixDatagram);

impl Manager {
    fn new(world: &World) -> Manager {
        let socket = UnixDatagram::bind(world.dir.join("manager.sock")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Manager(socket)
    }

    /// What it is told next. A descriptor that comes along is closed at once.
    fn told(&self) -> String {
        let mut buffer = [0u8; 256];
        let n = self.0.recv(&mut buffer).expect("nothing was said");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    fn command(world: &World, args: &[&str]) -> Command {
        let mut command = world.command(args);
        command.env("NOTIFY_SOCKET", world.dir.join("manager.sock")).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

fn prepare(world: &World, messages: &[&str]) -> String {
    world.bring_probe();
    world.write_config(&world.config(&[&["/bin/probe", "role-notify"], messages].concat()));
    world.dir.join("bundle").to_string_lossy().into_owned()
}

/// Detached and by `start` it is the program that the manager watches from then on; in the foreground, we.
fn readiness_is_passed_on(world: &World) -> Result<(), Failed> {
    let bundle = prepare(world, &["READY=1"]);
    let manager = Manager::new(world);
    let main = |world: &World| format!("MAINPID={}\n", state(world)["pid"]);
    for way in ["run -d", "create"] {
        let words: Vec<&str> = way.split(' ').chain(["--bundle", &bundle, world.id()]).collect();
        let mut command = Manager::command(world, &words).spawn()?;
        if way == "create" {
            assert_eq!(wait(command), Some(0));
            command = Manager::command(world, &["start", world.id()]).spawn()?;
        }
        assert_eq!(manager.told(), "READY=1\n", "{way}");
        let told = manager.told();
        assert_eq!(manager.told(), "BARRIER=1", "{way}");
        assert_eq!(wait(command), Some(0), "{way}");
        assert_eq!(told, main(world), "{way}");
        world.runtime(&["delete", "--force", world.id()]).good();
    }
    let command = Manager::command(world, &["run", "--bundle", &bundle, world.id()]).spawn()?;
    assert_eq!(manager.told(), "READY=1\n");
    assert_eq!(manager.told(), format!("MAINPID={}\n", command.id()));
    world.runtime(&["kill", world.id(), "KILL"]).good();
    assert_eq!(wait(command), Some(137));
    // A program that ends without a word keeps nobody waiting.
    world.write_config(&world.config(&["true"]));
    let command = Manager::command(world, &["run", "-d", "--bundle", &bundle, world.id()]).spawn()?;
    assert_eq!(wait(command), Some(0));
    world.runtime(&["delete", "--force", world.id()]).good();
    Ok(())
}

fn only_readiness_is_passed_on(world: &World) -> Result<(), Failed> {
    let manager = Manager::new(world);
    let bundle = prepare(world, &["MAINPID=1", "STOPPING=1", "STATUS=READY=1", "READY=0", "BARRIER=1", END]);
    let command = Manager::command(world, &["run", "--bundle", &bundle, world.id()]).spawn()?;
    assert_eq!(wait(command), Some(0));
    // Said before this: it would be heard first.
    UnixDatagram::unbound()?.send_to(b"nothing", world.dir.join("manager.sock"))?;
    assert_eq!(manager.told(), "nothing");
    let bundle = prepare(world, &["WATCHDOG=trigger\nREADY=1\nMAINPID=1"]);
    let command = Manager::command(world, &["run", "--bundle", &bundle, world.id()]).spawn()?;
    assert_eq!(manager.told(), "READY=1\n");
    assert_eq!(manager.told(), format!("MAINPID={}\n", command.id()));
    world.runtime(&["kill", world.id(), "KILL"]).good();
    wait(command);
    manager.0.set_nonblocking(true)?;
    assert!(manager.0.recv(&mut [0u8; 64]).is_err(), "more was said");
    Ok(())
}
