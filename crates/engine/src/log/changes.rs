//! Who waits for more of a log: one inotify(7) instance for all, since a user
//! may have 128 of them by default, and as many logs as there is memory.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::net::unix::pipe;
use tokio::sync::Notify;

/// Bytes of an event before its name.
const HEAD: usize = 16;

/// Tells of changes in directories of logs.
#[derive(Debug)]
pub(crate) struct Changes {
    inotify: OwnedFd,
    /// By watch descriptor: the kernel has one for a directory, however many wait.
    waiting: Mutex<HashMap<i32, Vec<Arc<Notify>>>>,
}

/// A place among those that wait; given back when dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    changes: Arc<Changes>,
    descriptor: i32,
    news: Arc<Notify>,
}

impl Changes {
    /// Makes the instance, and a task that reads it as long as somebody has it.
    ///
    /// # Errors
    /// EMFILE when the user has no instance left, inotify_init(2).
    pub(crate) fn start() -> io::Result<Arc<Changes>> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Read like a pipe, and nothing else is done with it.
        let events = pipe::Receiver::from_owned_fd_unchecked(inotify.try_clone()?)?;
        let changes = Arc::new(Changes { inotify, waiting: Mutex::default() });
        let weak = Arc::downgrade(&changes);
        tokio::spawn(async move { tell(&events, &weak).await });
        Ok(changes)
    }

    /// Waits for changes in `directory` from now on.
    ///
    /// # Errors
    /// ENOSPC when the user has no watch left, inotify_add_watch(2).
    pub(crate) fn watch(self: &Arc<Changes>, directory: &Path) -> io::Result<Watched> {
        let news = Arc::new(Notify::new());
        // Locked before the kernel is asked: nobody takes the same watch away meanwhile.
        let mut waiting = self.waiting();
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let descriptor = inotify::add_watch(&self.inotify, directory, flags)?;
        waiting.entry(descriptor).or_default().push(Arc::clone(&news));
        drop(waiting);
        Ok(Watched { changes: Arc::clone(self), descriptor, news })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<i32, Vec<Arc<Notify>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whom events concern: `struct inotify_event` one behind the other, inotify(7).
    fn wake(&self, mut events: &[u8]) {
        let waiting = self.waiting();
        while let Some((head, rest)) = events.split_first_chunk::<HEAD>() {
            let number = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let (descriptor, mask, name) = (number(0).cast_signed(), number(4), number(12));
            events = rest.get(name as usize..).unwrap_or_default();
            // More than the queue holds: anything may have happened.
            let lost = mask & ReadFlags::QUEUE_OVERFLOW.bits() != 0;
            let concerned = waiting.iter().filter(|(watched, _)| lost || **watched == descriptor);
            concerned.flat_map(|(_, list)| list).for_each(|news| news.notify_one());
        }
    }
}

async fn tell(events: &pipe::Receiver, changes: &Weak<Changes>) {
    let mut buffer = [0u8; 4096];
    while events.readable().await.is_ok() {
        let Some(changes) = changes.upgrade() else { return };
        while let Ok(count) = events.try_read(&mut buffer) {
            changes.wake(&buffer[..count]);
        }
    }
}

impl Watched {
    /// Waits until something changed since the last call.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut waiting = self.changes.waiting();
        let Some(list) = waiting.get_mut(&self.descriptor) else { return };
        list.retain(|news| !Arc::ptr_eq(news, &self.news));
        if list.is_empty() {
            waiting.remove(&self.descriptor);
            // Fails when the directory is gone, and the watch with it.
            let _ = inotify::remove_watch(&self.changes.inotify, self.descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn told(watched: &Watched) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watched.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn everybody_learns_of_their_own_directory() {
        let changes = Changes::start().unwrap();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let both = [changes.watch(one.path()).unwrap(), changes.watch(one.path()).unwrap()];
        let other = changes.watch(two.path()).unwrap();
        std::fs::write(one.path().join("log"), "line").unwrap();
        assert!(told(&both[0]).await && told(&both[1]).await);
        let [first, second] = both;
        drop(first);
        std::fs::write(one.path().join("log"), "more").unwrap();
        assert!(told(&second).await, "the one that left took nothing along");
        // Its own change is the first it hears of.
        std::fs::write(two.path().join("log"), "line").unwrap();
        assert!(told(&other).await);
    }

    #[tokio::test]
    async fn more_logs_than_instances() {
        let changes = Changes::start().unwrap();
        let dirs: Vec<_> = (0..300).map(|_| tempfile::tempdir().unwrap()).collect();
        let watched: Vec<_> = dirs.iter().map(|dir| changes.watch(dir.path()).unwrap()).collect();
        for (dir, watched) in dirs.iter().zip(&watched) {
            std::fs::write(dir.path().join("log"), "line").unwrap();
            assert!(told(watched).await);
        }
        drop((dirs, watched));
        assert!(changes.waiting().is_empty());
    }
}
