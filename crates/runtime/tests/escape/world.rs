//! A place on the host for one attack: a bundle, a canary that nothing may
//! touch, and the runtime.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use crate::{RUNTIME, Test};

/// A command that has not ended by then is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Programs of the image, all of them busybox.
const APPLETS: [&str; 24] = [
    "sh", "cat", "chmod", "chown", "dd", "echo", "env", "false", "find", "grep", "head", "id", "ln", "ls", "mkdir",
    "mount", "mv", "pwd", "rm", "sleep", "stat", "touch", "true", "umount",
];

/// Docker's default capabilities.
pub(crate) const CAPS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// How long a race is run.
pub(crate) fn race_time() -> Duration {
    let seconds = std::env::var("BUDU_ESCAPE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(seconds.map_or(1000, |seconds: u64| seconds * 1000))
}

/// How a command of the runtime ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Exit status; `None` when it was killed because it hung.
    pub(crate) code: Option<i32>,
    /// Everything that the command and its container wrote.
    pub(crate) text: String,
}

impl Ending {
    pub(crate) fn is_good(&self) -> bool {
        self.code == Some(0)
    }

    /// The output of what must succeed.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert!(self.is_good(), "{:?}: {}", self.code, self.text);
        self.text
    }

    /// The message of what must be refused, by an error and not by a crash.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(matches!(self.code, Some(1 | 255)), "not refused, {:?}: {}", self.code, self.text);
        assert!(self.text.contains("level=error"), "no error: {}", self.text);
        assert!(!self.text.contains("panicked"), "{}", self.text);
        self.text
    }
}

/// A host for one attack. Everything is gone with the value.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    id: String,
    canary: String,
}

impl World {
    /// Runs one test; whatever it was about, the canary lives and no mount is left.
    pub(crate) fn with(name: &str, test: Test) -> Result<(), Failed> {
        let world = World::new(name);
        test(&world)?;
        let now = fingerprint(&world.canary());
        if now != world.canary {
            return Err(format!("the canary was touched:\nbefore {}\nafter {now}", world.canary).into());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        match mounts.lines().find(|line| line.contains(&*world.dir.to_string_lossy())) {
            Some(line) => Err(format!("a mount is left on the host: {line}").into()),
            None => Ok(()),
        }
    }

    fn new(name: &str) -> World {
        let id = format!("budu-escape-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        for sub in ["bundle/rootfs/bin", "bundle/rootfs/etc", "bundle/rootfs/tmp", "canary/directory"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let canary = dir.join("canary");
        std::fs::write(canary.join("file"), "the host's\n").unwrap();
        for device_like in ["ptmx", "null", "console", "core_pattern"] {
            std::fs::write(canary.join(device_like), "the host's\n").unwrap();
        }
        let mut world = World { dir, id, canary: String::new() };
        copy(busybox(), &world.inside("bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", world.inside("bin").join(applet)).unwrap();
        }
        std::fs::write(world.inside("etc/passwd"), "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/named:/bin/sh\n").unwrap();
        std::fs::write(world.inside("etc/group"), "root:x:0:\nextra:x:50:root\n").unwrap();
        world.canary = fingerprint(&world.canary());
        world
    }

    /// Puts the test binary into the image, to play a role there.
    pub(crate) fn bring_probe(&self) {
        copy(&std::env::current_exe().unwrap(), &self.inside("bin/probe"));
    }

    /// A path in the image, on the host.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.dir.join("bundle/rootfs").join(path.trim_start_matches('/'))
    }

    /// A directory on the host with things that no container may see or touch.
    pub(crate) fn canary(&self) -> PathBuf {
        self.dir.join("canary")
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// An ordinary container's configuration.
    pub(crate) fn config(&self, args: &[&str]) -> Value {
        let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        let namespaces = ["mount", "pid", "network", "uts", "ipc", "cgroup"].map(|kind| json!({"type": kind}));
        json!({
            "ociVersion": "1.2.0",
            "hostname": "inside",
            "root": {"path": "rootfs"},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS},
            },
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
                mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
                mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/budu-escape/{}", self.id),
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        })
    }

    /// A container that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> Value {
        self.config(&["sh", "-c", script])
    }

    /// A bind mount.
    pub(crate) fn bind(&self, from: &Path, to: &str) -> Value {
        json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "rw"]})
    }

    pub(crate) fn write_config(&self, config: &Value) {
        std::fs::write(self.dir.join("bundle/config.json"), config.to_string()).unwrap();
    }

    /// Runs a container in the foreground.
    pub(crate) fn run(&self, config: &Value) -> Ending {
        self.write_config(config);
        let bundle = self.dir.join("bundle");
        self.runtime(&["run", "--bundle", &bundle.to_string_lossy(), &self.id])
    }

    /// Runs a container in the background, until the value is dropped.
    pub(crate) fn start(&self, config: &Value) -> Background<'_> {
        self.write_config(config);
        let bundle = self.dir.join("bundle");
        let output = self.dir.join("container-output");
        let ending = self.runtime_to(&output, &["run", "-d", "--bundle", &bundle.to_string_lossy(), &self.id]);
        ending.good();
        Background { world: self, output }
    }

    /// Runs one command of the runtime.
    pub(crate) fn runtime(&self, args: &[&str]) -> Ending {
        self.runtime_to(&self.dir.join("output"), args)
    }

    /// The command line of the runtime.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(RUNTIME).arg("--root").arg(self.dir.join("state")).args(args).stdin(Stdio::null());
        command
    }

    fn runtime_to(&self, output: &Path, args: &[&str]) -> Ending {
        // A file: a container that goes on must not keep us waiting for the end of a pipe.
        let file = std::fs::File::create(output).unwrap();
        let child = self.command(args).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let code = wait(child);
        Ending { code, text: String::from_utf8_lossy(&std::fs::read(output).unwrap()).into_owned() }
    }
}

/// The host's busybox.
fn busybox() -> &'static Path {
    Path::new(if Path::new("/bin/busybox").exists() { "/bin/busybox" } else { "/usr/bin/busybox" })
}

/// Copies a program. In a process of its own: what this one has open for
/// writing at the moment when another test starts the runtime is open there
/// too, and cannot be executed.
pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(Command::new(busybox()).args(["cp", "-p"]).args([from, to]).status().unwrap().success());
}

/// Waits for an end, and brings it about when it takes too long.
pub(crate) fn wait(mut child: Child) -> Option<i32> {
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let ended = ends(&pidfd, PATIENCE);
    if !ended {
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    }
    let status = child.wait().unwrap();
    status.code().filter(|_| ended)
}

/// Whether a process ends in time.
fn ends(pidfd: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        match poll(&mut [PollFd::new(&pidfd.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.unwrap() > 0,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.runtime(&["delete", "--force", &self.id]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A container in the background.
pub(crate) struct Background<'a> {
    world: &'a World,
    output: PathBuf,
}

impl Background<'_> {
    /// Runs a further program in it; `options` are those of the runtime.
    pub(crate) fn exec(&self, options: &[&str], args: &[&str]) -> Ending {
        self.world.runtime(&[&["exec"], options, &[&self.world.id], args].concat())
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.world.runtime(&["state", &self.world.id]).good()).unwrap();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    /// Ends it, and returns all that it has written.
    pub(crate) fn end(self) -> String {
        self.world.runtime(&["delete", "--force", &self.world.id]).good();
        self.output()
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = self.world.runtime(&["delete", "--force", &self.world.id]);
    }
}

/// Names, kinds, modes, owners, sizes, times and contents below a directory.
fn fingerprint(dir: &Path) -> String {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut text = String::new();
    for path in entries {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let (mode, changed) = (meta.mode(), (meta.ctime(), meta.ctime_nsec()));
        let owner = (meta.uid(), meta.gid());
        writeln!(text, "{path:?} {mode:o} {owner:?} {} {changed:?} {}", meta.nlink(), meta.size()).unwrap();
        if meta.is_dir() {
            text += &fingerprint(&path);
        } else if meta.is_file() {
            writeln!(text, "{:?}", std::fs::read(&path).unwrap()).unwrap();
        }
    }
    text
}

/// Removes the parent of all containers' groups, and tells what else is left.
pub(crate) fn clean_up() -> Vec<String> {
    let ours = format!("budu-escape-{}-", std::process::id());
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut left = Vec::new();
    for hierarchy in hierarchies.chain([top.to_owned()]) {
        let parent = hierarchy.join("budu-escape");
        let groups = std::fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path());
        left.extend(groups.map(|path| path.display().to_string()).filter(|path| path.contains(&ours)));
        // It stays while another run uses it.
        let _ = std::fs::remove_dir(&parent);
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in processes {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with(RUNTIME) && line.contains(&ours) {
            left.push(line);
        }
    }
    left
}
