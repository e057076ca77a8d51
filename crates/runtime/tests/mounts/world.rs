//! A bundle, a launcher, and something on the host that nobody may touch.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use budu_runtime::Launcher;
use budu_runtime::compile::{self, Bundle, Extras};
use budu_runtime::plan::Stdio;
use budu_runtime::protocol::{self, Event, Request};
use budu_spec::oci;
use serde_json::{Value, json};

/// Parent of all control groups of these tests.
pub(crate) const GROUP: &str = "budu-test-mounts";

/// First user id of containers with a user namespace.
pub(crate) const FIRST: u32 = 100_000;

pub(crate) fn busybox() -> Option<&'static Path> {
    ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists())
}

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    launcher: Launcher,
    id: String,
}

impl World {
    pub(crate) fn new(name: &str) -> World {
        let id = format!("{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(format!("budu-mounts-{id}"));
        for sub in ["bundle/rootfs/bin", "bundle/rootfs/etc", "bundle/rootfs/tmp", "run", "canary/inner", "volume"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let world = World { dir, launcher: Launcher::spawn().unwrap(), id };
        fs::copy(busybox().unwrap(), world.root("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "ls", "true", "stat", "touch", "mount", "grep", "readlink", "awk", "test", "id"] {
            symlink("busybox", world.root("bin").join(applet)).unwrap();
        }
        fs::write(world.dir.join("canary/secret"), "the host's\n").unwrap();
        fs::write(world.dir.join("canary/inner/file"), "the host's\n").unwrap();
        // Ways to the root for whoever is nobody on the host.
        for dir in ["", "bundle", "run"] {
            fs::set_permissions(world.dir.join(dir), fs::Permissions::from_mode(0o711)).unwrap();
        }
        world
    }

    /// A path in the image.
    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.dir.join("bundle/rootfs").join(path.trim_start_matches('/'))
    }

    pub(crate) fn path(&self, path: &str) -> String {
        self.dir.join(path).to_str().unwrap().to_owned()
    }

    /// A `config.json` that runs a shell script.
    pub(crate) fn config(&self, script: &str) -> Value {
        json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}],
                "cgroupsPath": format!("/{GROUP}/{}", self.id),
            },
        })
    }

    /// The same with one more mount.
    pub(crate) fn with_mount(&self, script: &str, mount: Value) -> Value {
        let mut config = self.config(script);
        add(&mut config, mount);
        config
    }

    /// Runs a container: what it printed, or why it could not start.
    pub(crate) fn run(&self, config: &Value) -> Result<String, String> {
        self.run_with(config, |_| {})
    }

    pub(crate) fn run_with(&self, config: &Value, change: impl Fn(&mut Bundle)) -> Result<String, String> {
        let spec: oci::Spec = serde_json::from_value(config.clone()).unwrap();
        let mut bundle = Bundle { path: self.dir.join("bundle"), ..Bundle::default() };
        change(&mut bundle);
        let stdio = Stdio::default();
        let extras = Extras {
            id: self.id.clone(),
            run_dir: self.dir.join("run"),
            stdio,
            bundle: Some(bundle),
            ..Extras::default()
        };
        let plan = compile::container(&spec, extras).map_err(|e| e.to_string())?;
        let mut control = self.launcher.new_shim(None).unwrap();
        protocol::send(&mut control, &Request::Create(Box::new(plan))).unwrap();
        match protocol::receive(&mut control).unwrap() {
            Some(Event::Created { .. }) => {}
            Some(Event::Failed(failure)) => return Err(failure.message),
            other => panic!("{other:?}"),
        }
        let mut attached = UnixStream::connect(self.dir.join("run").join(protocol::SOCKET)).unwrap();
        protocol::send(&mut attached, &Request::Attach { stdin: false, stdout: true, stderr: true }).unwrap();
        assert!(matches!(protocol::receive(&mut attached).unwrap(), Some(Event::Attached)));
        protocol::send(&mut control, &Request::Start).unwrap();
        match protocol::receive(&mut control).unwrap() {
            Some(Event::Started { .. }) => {}
            Some(Event::Failed(failure)) => return Err(failure.message),
            other => panic!("{other:?}"),
        }
        let output = read_streams(attached);
        while let Some(event) = protocol::receive(&mut control).unwrap() {
            if matches!(event, Event::Exited(_)) {
                break;
            }
        }
        Ok(output)
    }

    /// Checks that what lies beside the bundle is as it was made.
    pub(crate) fn check_canary(&self) {
        let names = |dir: &str| {
            let mut names: Vec<String> = fs::read_dir(self.dir.join(dir))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("canary"), ["inner", "secret"]);
        assert_eq!(names("canary/inner"), ["file"]);
        assert_eq!(fs::read_to_string(self.dir.join("canary/secret")).unwrap(), "the host's\n");
    }

    /// Gives the image to the users of a container with a user namespace.
    pub(crate) fn own_by_container(&self) {
        for path in walk(&self.dir.join("bundle")) {
            std::os::unix::fs::lchown(&path, Some(FIRST), Some(FIRST)).unwrap();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        while let Some(point) = mounts_below(&self.dir).pop() {
            rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Mount points of the test's own namespace below a directory, outer ones first.
pub(crate) fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

/// Adds a mount to a configuration.
pub(crate) fn add(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// A bind mount.
pub(crate) fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    let mut all = vec!["rbind"];
    all.extend(options);
    if options.contains(&"bind") {
        all.remove(0);
    }
    json!({"destination": destination, "type": "bind", "source": source, "options": all})
}

/// Puts a container into a user namespace.
pub(crate) fn add_user_namespace(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// A directory and everything below it.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn read_streams(mut from: UnixStream) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    let mut head = [0u8; protocol::HEADER];
    while from.read_exact(&mut head).is_ok() {
        let (kind, length) = protocol::parse_header(head).unwrap();
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).unwrap();
        if kind == protocol::STDOUT || kind == protocol::STDERR {
            text.extend(payload);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
