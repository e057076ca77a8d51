//! What `checkpoint` and `restore` tell CRIU.

mod message;
pub(super) mod outside;
mod worker;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use budu_spec::oci;
use lexopt::Parser;

pub(super) use self::message::{Kind, Message, Response};
pub(super) use self::worker::{Streams, Worker, require, version};
use super::arguments::{flag, number, text};
use super::create::path;
use crate::init::{Failing, failed, invalid};
use crate::protocol::Failure;

/// Names of descriptors 0, 1 and 2 at the checkpoint, in the image directory.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// Oldest CRIU that is driven like this.
const OLDEST: i32 = 30_000;
/// CRIU's level of logging: everything that helps to find out what went wrong.
const LOG_LEVEL: i32 = 4;
const CLONE_NEWNET: i32 = 0x4000_0000;

/// Options of both commands.
#[derive(Debug, Default)]
pub(super) struct Settings {
    image_path: Option<PathBuf>,
    work_path: Option<PathBuf>,
    parent_path: Option<PathBuf>,
    pub(super) leave_running: bool,
    tcp_established: bool,
    tcp_skip_in_flight: bool,
    link_remap: bool,
    ext_unix_sk: bool,
    shell_job: bool,
    file_locks: bool,
    pub(super) pre_dump: bool,
    auto_dedup: bool,
    pub(super) lazy_pages: bool,
    pub(super) status_fd: Option<i32>,
    page_server: Option<(String, i32)>,
    cgroups_mode: i32,
    lsm_profile: Option<String>,
    lsm_mount_context: Option<String>,
}

impl Settings {
    pub(super) fn new() -> Settings {
        Settings { cgroups_mode: cgroups_mode("").unwrap_or_default(), ..Settings::default() }
    }

    fn images(&self) -> PathBuf {
        self.image_path.clone().unwrap_or_else(|| "checkpoint".into())
    }

    /// Takes an option's value, or says that it is none of these.
    pub(super) fn take(&mut self, name: &str, parser: &mut Parser) -> Failing<bool> {
        match name {
            "image-path" => self.image_path = path(parser)?,
            "work-path" => self.work_path = path(parser)?,
            "parent-path" => self.parent_path = path(parser)?,
            "leave-running" => self.leave_running = flag(parser)?,
            "tcp-established" => self.tcp_established = flag(parser)?,
            "tcp-skip-in-flight" => self.tcp_skip_in_flight = flag(parser)?,
            "link-remap" => self.link_remap = flag(parser)?,
            "ext-unix-sk" => self.ext_unix_sk = flag(parser)?,
            "shell-job" => self.shell_job = flag(parser)?,
            "file-locks" => self.file_locks = flag(parser)?,
            "pre-dump" => self.pre_dump = flag(parser)?,
            "auto-dedup" => self.auto_dedup = flag(parser)?,
            "lazy-pages" => self.lazy_pages = flag(parser)?,
            "status-fd" => self.status_fd = Some(number(parser, name)?).filter(|fd| *fd != -1),
            "page-server" => self.page_server = page_server(&text(parser)?)?,
            "manage-cgroups-mode" => self.cgroups_mode = cgroups_mode(&text(parser)?)?,
            "empty-ns" => match text(parser)?.as_str() {
                // Network devices are never the runtime's, so this one always is.
                "network" => {}
                other => return Err(invalid(format!("namespace {other:?} is not supported"))),
            },
            "lsm-profile" => self.lsm_profile = Some(text(parser)?).filter(|text| !text.is_empty()),
            "lsm-mount-context" => self.lsm_mount_context = Some(text(parser)?).filter(|text| !text.is_empty()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn page_server(address: &str) -> Failing<Option<(String, i32)>> {
    if address.is_empty() {
        return Ok(None);
    }
    let split = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && !port.is_empty());
    let (host, port) =
        split.ok_or_else(|| invalid("Use --page-server ADDRESS:PORT to specify page server".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| invalid("Invalid port number".to_owned()))?;
    Ok(Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), i32::from(port))))
}

fn cgroups_mode(mode: &str) -> Failing<i32> {
    match mode {
        "ignore" => Ok(0),
        "soft" => Ok(3),
        "full" => Ok(4),
        "strict" => Ok(5),
        "" => Ok(6),
        _ => Err(invalid("invalid manage-cgroups-mode value: want soft, full, strict or ignore".to_owned())),
    }
}

/// Directories CRIU reads and writes; it gets them as descriptors of ours.
#[derive(Debug)]
pub(super) struct Places {
    /// Of the images.
    pub(super) images: PathBuf,
    images_fd: File,
    work: Option<(PathBuf, File)>,
    parent: Option<String>,
}

impl Places {
    /// Opens them, and makes them where that is wanted.
    pub(super) fn open(settings: &Settings) -> Failing<Places> {
        let images = settings.images();
        let parent = settings.parent_path.as_deref().map(|parent| check_parent(&images, parent)).transpose()?;
        let images_fd = directory(&images)?;
        let work = settings.work_path.clone().map(|work| directory(&work).map(|fd| (work, fd))).transpose()?;
        Ok(Places { images, images_fd, work, parent })
    }

    /// As [`Places::open`], when the images must be there already.
    pub(super) fn existing(settings: &Settings) -> Failing<Places> {
        let images = settings.images();
        let found = std::fs::metadata(&images).map_err(failed(&format!("find the images in {}", images.display())))?;
        if !found.is_dir() {
            return Err(invalid(format!("--image-path {}: not a directory", images.display())));
        }
        Places::open(settings)
    }

    /// Adds to a failure what CRIU's log says.
    pub(super) fn explain(&self, failure: Failure, log: &str) -> Failure {
        let path = self.work.as_ref().map_or(&self.images, |(path, _)| path).join(log);
        let text = std::fs::read(&path).unwrap_or_default();
        let errors = errors(&String::from_utf8_lossy(&text));
        let message = format!("{}{errors} (log file: {})", failure.message, path.display());
        Failure { message, ..failure }
    }
}

/// The last few complaints in a log: the first may be about what does not matter.
fn errors(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Error (")).collect();
    lines[lines.len().saturating_sub(4)..].iter().map(|line| format!("\n{}", line.trim())).collect()
}

fn check_parent(images: &Path, parent: &Path) -> Failing<String> {
    if parent.is_absolute() {
        return Err(invalid("--parent-path must be relative".to_owned()));
    }
    let wrong = |e: io::Error| invalid(format!("invalid --parent-path: {}: {e}", images.join(parent).display()));
    // It is relative to a directory that may not be there yet.
    directory(images)?;
    if !std::fs::metadata(images.join(parent)).map_err(wrong)?.is_dir() {
        return Err(wrong(io::ErrorKind::NotADirectory.into()));
    }
    Ok(parent.display().to_string())
}

/// A directory for CRIU's files, which tell all that was in a process's memory.
fn directory(path: &Path) -> Failing<File> {
    let what = failed(&format!("open the directory {}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(&what)?;
    File::open(path).map_err(what)
}

/// `criu_opts` as far as both requests have them in common.
pub(super) fn options(settings: &Settings, places: &Places, spec: &oci::Spec, log: &str) -> Message {
    let mut options = Message::default();
    options.number(1, places.images_fd.as_raw_fd());
    options.number(9, LOG_LEVEL);
    options.text(10, log);
    options.flag(12, true); // notify_scripts
    options.flag(24, true); // manage_cgroups, for old ones
    options.number(34, settings.cgroups_mode);
    options.flag(4, settings.ext_unix_sk);
    options.flag(5, settings.tcp_established);
    options.flag(7, settings.shell_job);
    options.flag(8, settings.file_locks);
    options.flag(16, settings.auto_dedup);
    options.number(38, CLONE_NEWNET); // empty_ns
    options.flag(48, settings.lazy_pages);
    options.flag(50, true); // orphan_pts_master
    if let Some((_, work)) = &places.work {
        options.number(17, work.as_raw_fd());
    }
    // A file of options for this container, or for all of them.
    match spec.annotations.get("org.criu.config").map(String::as_str) {
        None => options.text(51, "/etc/criu/runc.conf"),
        Some("") => {}
        Some(file) => options.text(51, file),
    }
    options
}

/// Those that only a dump has.
pub(super) fn dump_options(options: &mut Message, settings: &Settings, places: &Places, pid: i32) {
    options.number(2, pid);
    options.flag(3, settings.leave_running);
    options.flag(18, settings.link_remap);
    options.flag(46, settings.tcp_skip_in_flight);
    if let Some((address, port)) = &settings.page_server {
        let mut server = Message::default();
        server.text(1, address);
        server.number(2, *port);
        options.nested(11, &server);
    }
    if let Some(parent) = &places.parent {
        options.text(14, parent);
        options.flag(15, true); // track_mem
    }
}

/// Those that only a restore has.
pub(super) fn restore_options(options: &mut Message, settings: &Settings) {
    options.flag(6, true); // evasive_devices
    options.flag(26, true); // rst_sibling: the first process becomes our child
    if let Some(profile) = &settings.lsm_profile {
        options.text(53, profile);
    }
    if let Some(context) = &settings.lsm_mount_context {
        options.text(63, context);
    }
}

/// The directory that becomes the container's root.
pub(super) fn root(options: &mut Message, path: &Path) {
    options.text(13, &path.display().to_string());
}

/// CRIU stops processes by way of this group, instead of one by one.
pub(super) fn freezer(options: &mut Message, path: &Path) {
    options.text(44, &path.display().to_string());
}

/// Where lazily delivered pages are announced, for a CRIU that does not tell us.
pub(super) fn status_fd(options: &mut Message, fd: i32) {
    options.number(49, fd);
}

/// A mount that is not the container's: `inside` by another name.
pub(super) fn external_mount(options: &mut Message, inside: &str, name: &str) {
    let mut mount = Message::default();
    mount.text(1, inside);
    mount.text(2, name);
    options.nested(23, &mount);
}

/// A namespace that is not dumped: `net[4026531840]:key`.
pub(super) fn external(options: &mut Message, resource: &str) {
    options.text(37, resource);
}

/// Descriptor `fd` of CRIU's stands for what the image calls `key`.
pub(super) fn inherit(options: &mut Message, key: &str, fd: i32) {
    let mut inherited = Message::default();
    inherited.text(1, key);
    inherited.number(2, fd);
    options.nested(27, &inherited);
}

/// A namespace to be joined.
pub(super) fn join(options: &mut Message, kind: &str, path: &str) {
    let mut namespace = Message::default();
    namespace.text(1, kind);
    namespace.text(2, path);
    options.nested(39, &namespace);
}

/// The group that takes the place of the dumped one in a hierarchy.
pub(super) fn group_root(options: &mut Message, controllers: &str, path: &str) {
    let mut group = Message::default();
    group.text(1, controllers);
    group.text(2, path);
    options.nested(25, &group);
}

/// A request with its options.
pub(super) fn request(kind: Kind, options: &Message) -> Message {
    let mut request = Message::request(kind);
    request.nested(2, options);
    request
}

/// What a namespace of a configuration is called by CRIU, and in the names of external ones.
pub(super) fn namespace(kind: &str) -> (&str, &str) {
    match kind {
        "network" => ("net", "extRootNetNS"),
        "pid" => ("pid", "extRootPidNS"),
        "mount" => ("mnt", ""),
        other => (other, ""),
    }
}

/// The version, if it is new enough.
pub(super) fn checked_version() -> Failing<i32> {
    let version = version()?;
    if version < OLDEST {
        return Err(invalid(format!("CRIU version {version} must be {OLDEST} or higher")));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers_have_address_and_port() {
        assert_eq!(page_server("0.0.0.0:27277").unwrap(), Some(("0.0.0.0".to_owned(), 27277)));
        assert_eq!(page_server("[::1]:80").unwrap(), Some(("::1".to_owned(), 80)));
        assert_eq!(page_server("").unwrap(), None);
        for bad in ["a", "a:", ":1", "a:x", "a:70000"] {
            assert!(page_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_of_groups() {
        let modes = ["ignore", "soft", "full", "strict", ""].map(|mode| cgroups_mode(mode).unwrap());
        assert_eq!(modes, [0, 3, 4, 5, 6]);
        assert!(cgroups_mode("none").is_err());
    }

    #[test]
    fn complaints_are_quoted() {
        let log = "(1) hello\n(2) Error (a.c:1): first\n(3) x\n(4) Error (b.c:2): second\n";
        assert_eq!(errors(log), "\n(2) Error (a.c:1): first\n(4) Error (b.c:2): second");
        assert_eq!(errors(""), "");
    }
}
