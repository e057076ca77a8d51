//! What tests of containers stand on: a world with a launcher and a root file
//! system, and the frames of shims. Each test binary uses a part of it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use budu_runtime::compile::{self, Extras};
use budu_runtime::plan::{Plan, Rootfs, Stdio};
use budu_runtime::protocol::{self, Event, ExitRecord, Request};
use budu_runtime::{LAUNCHER_PERSONALITY, Launcher, launcher_main};
use budu_spec::oci;
use libtest_mimic::{Arguments, Failed, Trial};

/// One test, in a world of its own.
pub(crate) type Test = fn(&World) -> Result<(), Failed>;

/// Runs tests, and further trials. The test binary is also the launcher that it starts.
pub(crate) fn run(tests: Vec<(&'static str, Test)>, further: Vec<Trial>) {
    if std::env::args().nth(1).as_deref() == Some(LAUNCHER_PERSONALITY) {
        std::process::exit(launcher_main());
    }
    let arguments = Arguments::from_args();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists());
    let skip = match (busybox, rustix::process::geteuid().is_root()) {
        (None, _) => Some("needs busybox-static"),
        (_, false) => Some("needs root"),
        _ => None,
    };
    if let Some(reason) = skip {
        eprintln!("skipped: {reason}");
    }
    let mut trials = tests
        .into_iter()
        .map(|(name, test)| Trial::test(name, move || test(&World::new(name))).with_ignored_flag(skip.is_some()))
        .collect::<Vec<_>>();
    trials.extend(further);
    // Each test starts its own launcher; they do not disturb each other.
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The parent of all tests' groups; it stays while another run uses it.
    let top = Path::new("/sys/fs/cgroup");
    for hierarchy in std::fs::read_dir(top).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("budu-test"));
    }
    let _ = std::fs::remove_dir(top.join("budu-test"));
    conclusion.exit();
}

/// Lets a created container's program run.
pub(crate) fn let_go(control: &mut UnixStream) -> Event {
    protocol::send(&mut *control, &Request::Start).unwrap();
    protocol::receive(control).unwrap().unwrap()
}

/// A launcher, a root file system and a run directory, gone with the value.
pub(crate) struct World {
    /// Everything of it.
    pub(crate) dir: PathBuf,
    /// Makes shims.
    pub(crate) launcher: Launcher,
    /// Of its container.
    pub(crate) id: String,
}

impl World {
    pub(crate) fn new(name: &str) -> World {
        let id = format!("budu-test-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        for sub in ["lower/bin", "lower/etc", "upper", "work", "run"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let busybox = if Path::new("/bin/busybox").exists() { "/bin/busybox" } else { "/usr/bin/busybox" };
        std::fs::copy(busybox, dir.join("lower/bin/busybox")).unwrap();
        for applet in ["sh", "cat", "ls", "true", "sleep", "id", "ps", "hostname", "stty", "tty", "kill", "echo"] {
            std::os::unix::fs::symlink("busybox", dir.join("lower/bin").join(applet)).unwrap();
        }
        std::fs::write(dir.join("lower/etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n").unwrap();
        std::fs::write(dir.join("lower/etc/group"), "root:x:0:\nweb:x:34:\nextra:x:50:web\n").unwrap();
        World { dir, launcher: Launcher::spawn().unwrap(), id }
    }

    pub(crate) fn spec(&self, args: &[&str]) -> oci::Spec {
        let mount = |destination: &str, kind: &str, options: &[&str]| oci::Mount {
            destination: destination.into(),
            kind: kind.into(),
            source: kind.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        };
        let kinds = ["mount", "pid", "network", "uts", "ipc", "cgroup"];
        let namespaces = kinds.map(|kind| oci::Namespace { kind: kind.into(), path: String::new() }).to_vec();
        let device = |path: &str, minor| oci::Device {
            kind: "c".into(),
            path: path.into(),
            major: 1,
            minor,
            ..Default::default()
        };
        oci::Spec {
            hostname: "inside".into(),
            process: Some(oci::Process {
                args: args.iter().map(|a| (*a).to_owned()).collect(),
                env: vec!["PATH=/bin".into()],
                cwd: "/made/on/the/way".into(),
                ..Default::default()
            }),
            mounts: vec![
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
                mount(
                    "/dev/pts",
                    "devpts",
                    &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
                ),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            linux: Some(oci::Linux {
                namespaces,
                devices: vec![device("/dev/null", 3), device("/dev/zero", 5)],
                cgroups_path: format!("budu-test/{}", self.id),
                masked_paths: ["/proc/kcore", "/sys/firmware", "/proc/bus"].map(str::to_owned).to_vec(),
                readonly_paths: vec!["/proc/sys".into()],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) fn extras(&self, stdio: Stdio) -> Extras {
        let rootfs = Rootfs::Overlay {
            lower: vec![self.dir.join("lower")],
            upper: self.dir.join("upper"),
            work: self.dir.join("work"),
            readonly: false,
        };
        Extras { id: self.id.clone(), run_dir: self.dir.join("run"), rootfs: Some(rootfs), stdio, ..Default::default() }
    }

    pub(crate) fn create(&self, spec: &oci::Spec, extras: Extras) -> (UnixStream, Event) {
        self.create_planned(compile::container(spec, extras).unwrap())
    }

    /// Has a plan carried out up to the gate.
    pub(crate) fn create_planned(&self, plan: Plan) -> (UnixStream, Event) {
        let mut control = self.launcher.new_shim(None).unwrap();
        protocol::send(&mut control, &Request::Create(Box::new(plan))).unwrap();
        let answer = protocol::receive(&mut control).unwrap().unwrap();
        (control, answer)
    }

    pub(crate) fn start(&self, spec: &oci::Spec, stdio: Stdio) -> (UnixStream, UnixStream) {
        let (mut control, answer) = self.create(spec, self.extras(stdio));
        assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
        let attached = self.attach(true);
        let answer = let_go(&mut control);
        assert!(matches!(answer, Event::Started { .. }), "{answer:?}");
        (control, attached)
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.join("run").join(protocol::SOCKET)).unwrap()
    }

    pub(crate) fn attach(&self, stdin: bool) -> UnixStream {
        let mut stream = self.connect();
        protocol::send(&mut stream, &Request::Attach { stdin, stdout: true, stderr: true }).unwrap();
        assert!(matches!(protocol::receive(&mut stream).unwrap(), Some(Event::Attached)));
        stream
    }

    /// Runs a shell command and returns what it said and how it ended.
    pub(crate) fn run(&self, script: &str) -> (String, ExitRecord) {
        let (control, attached) = self.start(&self.spec(&["sh", "-c", script]), Stdio::default());
        let output = read_streams(attached);
        (output, exit_of(control))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed half-way leaves its container running.
        if let Ok(mut stream) = UnixStream::connect(self.dir.join("run").join(protocol::SOCKET)) {
            let _ = protocol::send(&mut stream, &Request::Watch);
            let _ = protocol::send(&mut stream, &Request::Signal { signal: 9, all: true });
            while let Ok(Some(event)) = protocol::receive(&mut stream) {
                if matches!(event, Event::Exited(_) | Event::Failed(_)) {
                    break;
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn read_frame(from: &mut impl std::io::Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0u8; protocol::HEADER];
    from.read_exact(&mut head).ok()?;
    let (kind, length) = protocol::parse_header(head).unwrap();
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).ok()?;
    Some((kind, payload))
}

pub(crate) fn read_streams(mut from: UnixStream) -> String {
    let mut text = Vec::new();
    while let Some((kind, payload)) = read_frame(&mut from) {
        if kind == protocol::STDOUT || kind == protocol::STDERR {
            text.extend(payload);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn exit_of(mut control: UnixStream) -> ExitRecord {
    loop {
        match protocol::receive(&mut control).unwrap() {
            Some(Event::Exited(exit)) => return exit,
            Some(_) => {}
            None => panic!("the shim went away without an exit"),
        }
    }
}

/// A directory and everything below it.
pub(crate) fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
