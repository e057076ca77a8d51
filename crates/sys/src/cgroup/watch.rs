//! Being told that a group ran out of memory.

use super::control::{number_after, read};
use super::{Cgroup, Controllers, Error, Version};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Tells of a group's lack of memory and of its end. Its descriptor polls readable when [`OomWatch::take`] has news.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    group: OwnedFd,
    version: Version,
}

/// What happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// A process was killed for lack of memory, or waits for some.
    pub out_of_memory: bool,
    /// v1: the group was removed. v2: the last process has ended.
    pub ended: bool,
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Cgroup {
    /// Starts watching: an eventfd registered in cgroup.event_control (v1), or inotify on the files that announce
    /// (v2).
    ///
    /// # Errors
    /// [`Error::NoController`] without memory controller, [`Error::Io`].
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        let missing = || Error::NoController {
            controller: "memory".to_owned(),
            what: "notification of lack of memory".to_owned(),
        };
        let group = self.directory(Controllers::MEMORY).ok_or_else(missing)?;
        let watch = match self.version {
            Version::V1 => by_eventfd(group),
            Version::V2 => by_inotify(group),
        };
        let fd = watch.map_err(|errno| Error::io("watch", self.path.to_string(), errno))?;
        let group = group.try_clone_to_owned().map_err(|source| Error::io("watch", self.path.to_string(), source))?;
        Ok(OomWatch { fd, group, version: self.version })
    }
}

fn by_eventfd(group: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let file = fs::openat(group, "memory.oom_control", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let line = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
    super::control::write(group, "cgroup.event_control", line.as_bytes())?;
    Ok(event)
}

fn by_inotify(group: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for file in ["memory.events", "cgroup.events"] {
        // By way of the handle: inotify takes no directory descriptor.
        let path = format!("/proc/self/fd/{}/{file}", group.as_raw_fd());
        inotify::add_watch(&watch, path, WatchFlags::MODIFY)?;
    }
    Ok(watch)
}

impl OomWatch {
    /// What has happened since it was last asked. Does not block.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&self) -> io::Result<News> {
        match self.version {
            Version::V1 => {
                let mut count = [0_u8; 8];
                match io::read(&self.fd, &mut count) {
                    Ok(_) => {}
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(News::default()),
                    Err(errno) => return Err(errno),
                }
                // The removal of the group is announced in the same way.
                let ended = fs::accessat(&self.group, "cgroup.event_control", fs::Access::EXISTS, fs::AtFlags::empty())
                    .is_err();
                Ok(News { out_of_memory: !ended, ended })
            }
            Version::V2 => self.take_v2(),
        }
    }

    fn take_v2(&self) -> io::Result<News> {
        let mut buffer = [const { MaybeUninit::uninit() }; 1024];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut seen = [false; 2];
        loop {
            match reader.next() {
                // Watches are numbered from 1 in the order they were added.
                Ok(event) if event.events().contains(ReadFlags::MODIFY) => match event.wd() {
                    1 => seen[0] = true,
                    _ => seen[1] = true,
                },
                Ok(_) => seen[1] = true,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let value = |file, key| {
            read(self.group.as_fd(), file).ok().map(|text| number_after(&String::from_utf8_lossy(&text), key))
        };
        Ok(News {
            out_of_memory: seen[0] && value("memory.events", "oom_kill") != Some(0),
            ended: seen[1] && value("cgroup.events", "populated").is_none_or(|populated| populated == 0),
        })
    }
}
