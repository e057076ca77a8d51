//! The plan of a container: everything its shim and init do, decided beforehand.
//!
//! A plan is plain data. The engine makes it (see [`crate::compile`]), the shim
//! receives it, the init executes it step by step. Paths of the host are
//! absolute; paths of the container are resolved inside its root when the step
//! is executed, never earlier.

mod group;
mod process;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use group::{BlockIoPlan, CgroupPlan, DeviceRule, IntelRdtPlan, Resources};
pub use process::{Capabilities, MemoryPolicyPlan, ProcessPlan, SchedulerPlan, SeccompAgent, UserPlan};

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Identifier, for messages.
    pub id: String,
    /// Directory of this container below the exec root: socket, pid, exit record.
    pub run_dir: PathBuf,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Host name; empty leaves the inherited one.
    pub hostname: String,
    /// NIS domain name; empty leaves the inherited one.
    pub domainname: String,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Mounts below it, in order.
    pub mounts: Vec<MountPlan>,
    /// Device nodes to make in /dev.
    pub devices: Vec<DevicePlan>,
    /// Make the default symbolic links of /dev (fd, stdin, stdout, stderr, ptmx, core).
    pub dev_links: bool,
    /// Paths hidden.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters: path below /proc/sys, value.
    pub sysctls: Vec<(String, String)>,
    /// The cgroup.
    pub cgroup: CgroupPlan,
    /// The program.
    pub process: ProcessPlan,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Where its output is kept.
    pub log: Option<LogPlan>,
    /// Be pid 1 ourselves: reap orphans and forward signals to the program.
    pub init: bool,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC, given to
    /// the root once it is prepared (linux.rootfsPropagation); 0 leaves it private.
    pub rootfs_propagation: u64,
    /// SELinux label of the files of mounts (linux.mountLabel); empty for none.
    pub mount_label: String,
    /// Move the root over `/` and chroot(2) into it instead of pivot_root(2):
    /// for a host whose own root is a ramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub keep_keyring: bool,
    /// Network devices of the host that move into the container: name there, name here.
    pub net_devices: Vec<(String, String)>,
    /// Programs to run at the points of the life cycle.
    pub hooks: Hooks,
    /// What hooks and seccomp agents are told about the container besides id, pid and status.
    pub about: About,
}

impl Plan {
    /// Whether the first process must wait for its parent, which keeps the
    /// host's privileges, to write id maps, lend it mounts, move devices or place it.
    pub fn needs_parent(&self) -> bool {
        const CLONE_NEWUSER: u64 = 0x1000_0000;
        let enters_user = |bits: u64| bits & CLONE_NEWUSER != 0;
        enters_user(self.namespaces.new)
            || self.namespaces.join.iter().any(|(bit, _)| enters_user(*bit))
            || self.cgroup.systemd
            || !self.net_devices.is_empty()
            || self.mounts.iter().any(|mount| {
                // A file that was opened may be one that the host's tree does not show any more: its clone is
                // made where it was opened.
                let opened = matches!(&mount.source, MountSource::Bind { path, .. } if is_descriptor(path));
                opened || mount.idmap.is_some() || mount.source.of_process().is_some()
            })
    }
}

/// The constant part of a container's state, as the specification's `state`
/// (runtime.md "State").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// Annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Hooks by life cycle point (config.md "POSIX-platform Hooks"), in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// In the host's namespaces, when the container's tree stands but is not
    /// entered; deprecated in favour of the next three.
    pub prestart: Vec<Hook>,
    /// As `prestart`, after it.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root is entered.
    pub create_container: Vec<Hook>,
    /// In the container, before its program is executed.
    pub start_container: Vec<Hook>,
    /// In the host's namespaces, after the program was executed.
    pub poststart: Vec<Hook>,
    /// In the host's namespaces, after the container is deleted.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether creating the container runs any.
    pub fn at_creation(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }
}

/// One program of the host that is told of the container by its state on standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments, the program's own name first; empty for the path alone.
    pub args: Vec<String>,
    /// The whole environment, `KEY=value`.
    pub env: Vec<String>,
    /// Seconds until it is killed and counts as failed; `None` for no limit.
    pub timeout: Option<u32>,
}

/// Which namespaces are made (`new`), and which are joined by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// CLONE_NEW* bits, clone(2).
    pub new: u64,
    /// CLONE_NEW* bit and path of namespaces to join. The network namespace
    /// that came as a descriptor with the shim is joined besides.
    pub join: Vec<(u64, PathBuf)>,
    /// Lines of uid_map, when a user namespace is made: inside, outside, count.
    pub uid_map: Vec<(u32, u32, u32)>,
    /// Lines of gid_map.
    pub gid_map: Vec<(u32, u32, u32)>,
    /// Offsets of a new time namespace: clock (`monotonic`, `boottime`), seconds, nanoseconds.
    pub time_offsets: Vec<(String, i64, u32)>,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// overlayfs of image layers and a writable layer.
    Overlay {
        /// Layers, topmost first.
        lower: Vec<PathBuf>,
        /// Writable layer.
        upper: PathBuf,
        /// overlayfs work directory, same file system as `upper`.
        work: PathBuf,
        /// Make it read-only once it is prepared.
        readonly: bool,
    },
    /// A directory.
    Directory {
        /// Its path.
        path: PathBuf,
        /// Make it read-only once it is prepared.
        readonly: bool,
        /// Attach it over itself, where hooks expect it, instead of over the run directory.
        in_place: bool,
    },
}

impl Default for Rootfs {
    fn default() -> Rootfs {
        Rootfs::Directory { path: PathBuf::new(), readonly: false, in_place: false }
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Path in the container.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// MOUNT_ATTR_* bits to set, mount_setattr(2).
    pub set: u64,
    /// MOUNT_ATTR_* bits to clear.
    pub clear: u64,
    /// MOUNT_ATTR_* bits to set on everything below as well.
    pub set_recursive: u64,
    /// MOUNT_ATTR_* bits to clear on everything below as well.
    pub clear_recursive: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC; 0 leaves it private.
    pub propagation: u64,
    /// Owners are shown through an id map.
    pub idmap: Option<IdmapPlan>,
}

/// An id-mapped mount, mount_setattr(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdmapPlan {
    /// Lines of uid_map; both maps empty for those of the container's user namespace.
    pub uid_map: Vec<(u32, u32, u32)>,
    /// Lines of gid_map.
    pub gid_map: Vec<(u32, u32, u32)>,
    /// With the mounts below it.
    pub recursive: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A new instance of a file system.
    New {
        /// File system type.
        kind: String,
        /// Source string.
        source: String,
        /// Parameters, with or without value, fsconfig(2).
        options: Vec<(String, Option<String>)>,
        /// Copy what the image has below the target into the new tmpfs.
        copy_up: bool,
    },
    /// A file or directory of the host.
    Bind {
        /// Its path.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// What is below a directory of the host that somebody else may be changing: links lead nowhere out of it.
    Inside {
        /// The directory.
        root: PathBuf,
        /// Path in it.
        path: PathBuf,
    },
    /// The files of an image, read-only.
    Layers {
        /// Directories, topmost first; two at least.
        lower: Vec<PathBuf>,
        /// A part of them; empty for the whole.
        inside: PathBuf,
    },
    /// The container's view of the cgroup file system, version 1 or 2.
    Cgroup,
    /// Nothing new: what is mounted at the target already gets other
    /// attributes, and these parameters of its file system.
    Remount {
        /// Parameters, with or without value.
        options: Vec<(String, Option<String>)>,
    },
}

impl MountSource {
    /// The process in whose tree a bind's source lies, and the path there:
    /// `/proc/PID/root/…`, proc(5).
    pub fn of_process(&self) -> Option<(u32, &std::path::Path)> {
        let MountSource::Bind { path, .. } = self else { return None };
        let mut parts = path.strip_prefix("/proc").ok()?.iter();
        let pid = parts.next()?.to_str()?.parse().ok()?;
        (parts.next()? == "root").then_some((pid, parts.as_path()))
    }
}

/// Whether a path names an open file of whoever resolves it.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    ["/proc/self/fd", "/proc/thread-self/fd", "/dev/fd"].iter().any(|directory| path.starts_with(directory))
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Path in the container.
    pub path: String,
    /// File type and permission bits, mknod(2).
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The standard streams of a container's first process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Keep standard input open (else it is /dev/null).
    pub open_stdin: bool,
    /// Close standard input when the first attached client that sent it goes.
    pub stdin_once: bool,
    /// Initial size: rows, columns; zeros leave it.
    pub size: (u16, u16),
}

/// Where output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// The file.
    pub path: PathBuf,
    /// How records look in it.
    pub format: LogFormat,
    /// What each record says besides its line, from [`crate::log::attributes`].
    pub attributes: Vec<u8>,
    /// Rotate when it would grow over this many bytes; `None` never.
    pub max_size: Option<u64>,
    /// Files kept.
    pub max_file: u32,
    /// Compress files that were rotated.
    pub compress: bool,
    /// Give no file up before it was sent on ([`crate::log::Acknowledged`]);
    /// rather let the program wait.
    pub hold: bool,
}

/// How records look in a log file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// Docker's `json-file`.
    #[default]
    Json,
    /// Docker's `local`.
    Local,
}

/// A further process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The program.
    pub process: ProcessPlan,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// The client will send standard input.
    pub stdin: bool,
    /// The terminal leaves line ends as they are (no ONLCR, termios(3)): whoever
    /// shows its output is a terminal itself, or wants bytes.
    pub plain_lines: bool,
    /// Initial size: rows, columns; zeros leave it.
    pub size: (u16, u16),
}
