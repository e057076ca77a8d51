//! Device nodes, the usual links of /dev, and the console.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use budu_sys::mount::Detached;
use budu_sys::rooted::Missing;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, major, makedev, minor, mknodat, openat,
    readlinkat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::place::clean;
use super::{CLONE_NEWUSER, DEVPTS_MAGIC, NewRoot, failed, has_own, kind_of, refused};
use crate::init::{Failing, invalid};
use crate::plan::{DevicePlan, Plan};

/// Where a terminal is opened: a link into the container's own devpts.
const PTMX: &str = "pts/ptmx";

impl NewRoot {
    /// Makes device nodes and the usual links of /dev.
    pub(super) fn make_devices(&self, plan: &Plan) -> Failing<()> {
        let bind = has_own(plan, CLONE_NEWUSER);
        for device in &plan.devices {
            // A node that is only there for its access rule, and one that is a link.
            if device.path.is_empty() || plan.dev_links && clean(Path::new(&device.path)) == Path::new("/dev/ptmx") {
                continue;
            }
            self.make_device(device, bind).map_err(|e| e.about(&format!("make device {}", device.path)))?;
        }
        if plan.dev_links { self.make_links() } else { Ok(()) }
    }

    fn make_links(&self) -> Failing<()> {
        let dev = self.root.reach("/dev", Missing::MakeDirectory).map_err(failed("open /dev"))?;
        let already = readlinkat(&dev, "ptmx", Vec::new()).is_ok_and(|target| target.as_bytes() == PTMX.as_bytes());
        if !already {
            // Whatever an image has there is not the container's own.
            match unlinkat(&dev, "ptmx", AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(failed("remove the old /dev/ptmx")(e.into())),
            }
        }
        let core = Path::new("/proc/kcore").exists().then_some(("/proc/kcore", "core"));
        let links = [
            ("/proc/self/fd", "fd"),
            ("/proc/self/fd/0", "stdin"),
            ("/proc/self/fd/1", "stdout"),
            ("/proc/self/fd/2", "stderr"),
            (PTMX, "ptmx"),
        ];
        for (target, name) in links.into_iter().chain(core) {
            match symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(failed(&format!("link /dev/{name}"))(e.into())),
            }
        }
        Ok(())
    }

    fn make_device(&self, device: &DevicePlan, bind: bool) -> Failing<()> {
        let path = clean(Path::new(&device.path));
        let (directory, name) = self.root.reach_parent(&path).map_err(failed("open its directory"))?;
        let kind = FileType::from_raw_mode(device.mode);
        if bind && kind != FileType::Fifo {
            return self.bind_device(device, &directory, name);
        }
        let mode = Mode::from_raw_mode(device.mode & 0o7777);
        match mknodat(&directory, name, kind, mode, makedev(device.major, device.minor)) {
            Ok(()) => {
                if device.uid != 0 || device.gid != 0 {
                    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
                    chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|e| failed("give it its owner")(e.into()))?;
                }
                Ok(())
            }
            Err(Errno::EXIST) => check_existing(device, &directory, name),
            // In a user namespace nodes cannot be made: the host's own is bound over an empty file.
            Err(Errno::PERM) => self.bind_device(device, &directory, name),
            Err(e) => Err(failed("make it")(e.into())),
        }
    }

    fn bind_device(&self, device: &DevicePlan, directory: &OwnedFd, name: &OsStr) -> Failing<()> {
        let host = Detached::clone_of(CWD, Path::new(&device.path), false).map_err(failed("open the host's"))?;
        let stat = fstat(&host).map_err(|e| failed("look at the host's")(e.into()))?;
        if !is_the_device(device, &stat) {
            return Err(refused(format!("the host's is {}, not {}", describe(&stat), wanted(device))));
        }
        let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = match openat(directory, name, path, Mode::empty()) {
            Err(Errno::NOENT) => {
                let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(directory, name, create, Mode::empty()).map_err(|e| failed("make its place")(e.into()))?;
                openat(directory, name, path, Mode::empty())
            }
            other => other,
        };
        let target = target.map_err(|e| failed("open its place")(e.into()))?;
        host.attach(target.as_fd()).map(drop).map_err(failed("bind the host's"))
    }

    /// Binds the terminal's other end to /dev/console.
    pub(in crate::init) fn bind_console(&self, terminal: BorrowedFd<'_>) -> Failing<()> {
        let what = failed("look at the terminal");
        let stat = fstat(terminal).map_err(|e| what(e.into()))?;
        let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        // Unix98 pseudo-terminals have the majors 136 to 143.
        if kind_of(terminal).map_err(&what)? != DEVPTS_MAGIC
            || !character
            || !(136..=143).contains(&major(stat.st_rdev))
        {
            return Err(refused("the terminal is no pseudo-terminal".to_owned()));
        }
        let what = failed("make /dev/console");
        let target = self.root.reach_itself(Path::new("/dev/console"), Missing::MakeFile).map_err(&what)?;
        let kind = FileType::from_raw_mode(fstat(&target).map_err(|e| what(e.into()))?.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::CharacterDevice) {
            return Err(invalid("the image's /dev/console is neither a file nor a device".to_owned()));
        }
        let console = Detached::clone_of(terminal, Path::new(""), false).map_err(failed("clone the terminal"))?;
        console.attach(target.as_fd()).map(drop).map_err(failed("bind /dev/console"))
    }
}

/// A node that is there already stays, if it is the right one ("Devices" in config-linux.md).
fn check_existing(device: &DevicePlan, directory: &OwnedFd, name: &OsStr) -> Failing<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stat = openat(directory, name, flags, Mode::empty()).and_then(fstat);
    let stat = stat.map_err(|e: Errno| failed("look at what is there")(io::Error::from(e)))?;
    if is_the_device(device, &stat) {
        return Ok(());
    }
    Err(invalid(format!("there is {} already, not {}", describe(&stat), wanted(device))))
}

fn is_the_device(device: &DevicePlan, stat: &Stat) -> bool {
    let kind = FileType::from_raw_mode(device.mode);
    let numbers = kind == FileType::Fifo || stat.st_rdev == makedev(device.major, device.minor);
    FileType::from_raw_mode(stat.st_mode) == kind && numbers
}

fn describe(stat: &Stat) -> String {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => format!("character device {}:{}", major(stat.st_rdev), minor(stat.st_rdev)),
        FileType::BlockDevice => format!("block device {}:{}", major(stat.st_rdev), minor(stat.st_rdev)),
        FileType::Fifo => "a FIFO".to_owned(),
        FileType::Symlink => "a symbolic link".to_owned(),
        FileType::Directory => "a directory".to_owned(),
        FileType::RegularFile => "a file".to_owned(),
        _ => "something else".to_owned(),
    }
}

fn wanted(device: &DevicePlan) -> String {
    match FileType::from_raw_mode(device.mode) {
        FileType::BlockDevice => format!("block device {}:{}", device.major, device.minor),
        FileType::Fifo => "a FIFO".to_owned(),
        _ => format!("character device {}:{}", device.major, device.minor),
    }
}
