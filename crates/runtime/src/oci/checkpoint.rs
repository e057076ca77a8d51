//! `checkpoint`: a container's processes become files.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use budu_spec::oci;
use budu_sys::cgroup::Controllers;
use lexopt::Parser;
use rustix::fs::OFlags;

use super::arguments::{Global, Word, next, positional, required, undefined};
use super::container::{Container, Status};
use super::criu::{self, Kind, Message, Places, Response, Settings, Streams, Worker, outside};
use super::delete;
use super::log::Log;
use crate::cgroup;
use crate::init::{Failing, failed, invalid};
use crate::protocol::{Failure, FailureClass};

const LOG: &str = "dump.log";
/// CRIU tells of lazy pages itself since this version.
const TELLS: i32 = 31_500;
/// CRIU freezes groups of cgroup v2 since this version.
const FREEZES_V2: i32 = 31_400;

pub(super) fn command(global: &Global, log: &Log, parser: &mut Parser) -> Failing<i32> {
    let (mut id, mut settings) = (None, Settings::new());
    while let Some(word) = next(parser)? {
        match word {
            Word::Flag(name) if settings.take(&name, parser)? => {}
            Word::Flag(name) => return Err(undefined(&name)),
            Word::Value(value) => positional(value, &mut [&mut id])?,
        }
    }
    if global.rootless {
        log.warning("checkpoint is untested with rootless containers");
    }
    let container = Container::open(global, &required(id, "checkpoint")?)?;
    let status = container.status()?;
    if matches!(status, Status::Creating | Status::Created | Status::Stopped) {
        let message = format!("Container cannot be checkpointed in {} state", status.as_str());
        return Err(Failure { class: FailureClass::State, message });
    }
    dump(&container, &settings)?;
    if !settings.leave_running && !settings.pre_dump {
        delete::destroy(container, log)?;
    }
    Ok(0)
}

fn dump(container: &Container, settings: &Settings) -> Failing<()> {
    let version = criu::checked_version()?;
    let spec = container.config()?;
    let places = Places::open(settings)?;
    let pid = container.state.pid;
    let mut options = criu::options(settings, &places, &spec, LOG);
    criu::dump_options(&mut options, settings, &places, pid);
    criu::root(&mut options, &container.state.rootfs);
    for (kind, path) in shared_namespaces(&spec) {
        let inode = std::fs::metadata(path).map_err(failed(&format!("find the {kind} namespace {path}")))?.ino();
        let (name, key) = criu::namespace(kind);
        criu::external(&mut options, &format!("{name}[{inode}]:{key}"));
    }
    if let Some(layout) = cgroup::layout()?
        && (!cgroup::is_v2(&layout) || version >= FREEZES_V2)
        && let Some(group) = container.group()?
        && let Some((_, path)) =
            group.places().find(|(controllers, _)| cgroup::is_v2(&layout) || controllers.contains(Controllers::FREEZER))
    {
        criu::freezer(&mut options, &path);
    }
    if settings.pre_dump || settings.lazy_pages {
        criu::require(settings.pre_dump, settings.lazy_pages)?;
    }
    let mut status = settings.status_fd.filter(|_| settings.lazy_pages).map(writable).transpose()?;
    if let (Some(number), true) = (settings.status_fd, status.is_some() && version < TELLS) {
        criu::status_fd(&mut options, number);
    }
    if !settings.pre_dump {
        mounts(container, &spec, &mut options)?;
        keep_descriptors(&places, pid)?;
    }
    let kind = if settings.pre_dump { Kind::PreDump } else { Kind::Dump };
    let worker = Worker::start(Streams::None, &[])?;
    let answer = worker.ask(&criu::request(kind, &options), |response, _| {
        tell_ready(response, &mut status);
        Ok(())
    });
    if let Err(failure) = answer {
        worker.abandon();
        return Err(places.explain(failure, LOG));
    }
    let ended = worker.finish()?;
    // After a first dump CRIU waits for more, and takes our silence for a failure.
    if ended.success() || settings.pre_dump {
        return Ok(());
    }
    let failure = Failure { class: FailureClass::Internal, message: format!("criu failed: {ended}") };
    Err(places.explain(failure, LOG))
}

/// Namespaces that the container shares by path, and CRIU leaves alone.
fn shared_namespaces(spec: &oci::Spec) -> impl Iterator<Item = (&str, &str)> {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let shared = namespaces.filter(|one| !one.path.is_empty() && matches!(one.kind.as_str(), "network" | "pid"));
    shared.map(|one| (one.kind.as_str(), one.path.as_str()))
}

/// The caller's descriptor, if it can be written to.
fn writable(number: i32) -> Failing<OwnedFd> {
    let bad = |why: String| invalid(format!("invalid --status-fd argument {number}: {why}"));
    let fd = budu_sys::process::take_inherited(number).map_err(|e| bad(e.to_string()))?;
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|e| bad(e.to_string()))?;
    if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Err(bad("not writable".to_owned()));
    }
    Ok(fd)
}

/// Tells the caller that pages can be asked for, once.
fn tell_ready(response: &Response, status: &mut Option<OwnedFd>) {
    if response.is("status-ready")
        && let Some(fd) = status.take()
    {
        let _ = rustix::io::write(fd.as_fd(), &[0]);
    }
}

/// Mounts that come from outside of the container.
fn mounts(container: &Container, spec: &oci::Spec, options: &mut Message) -> Failing<()> {
    let state = &container.state;
    for mount in outside::all(spec, &state.bundle, &state.rootfs, container.group()?.as_ref())? {
        criu::external_mount(options, &mount.place, &mount.place);
    }
    let masked = spec.linux.iter().flat_map(|linux| &linux.masked_paths);
    for path in masked {
        // Files are covered by the null device, directories by a file system of their own.
        let real = std::fs::metadata(format!("/proc/{}/root/{path}", container.state.pid));
        if real.is_ok_and(|meta| !meta.is_dir()) {
            criu::external_mount(options, path, "/dev/null");
        }
    }
    Ok(())
}

/// Notes what standard streams are, so that a restore can connect them anew.
fn keep_descriptors(places: &Places, pid: i32) -> Failing<()> {
    let name = |number: i32| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.map(|target| target.display().to_string()).unwrap_or_default()
    };
    let names = serde_json::to_vec(&[name(0), name(1), name(2)]).expect("plain data always encodes");
    let path = places.images.join(criu::DESCRIPTORS);
    std::fs::write(&path, names).map_err(failed(&format!("write {}", path.display())))
}
