//! Background work: keeps wired namespaces ready, deletes left-over links.
//!
//! Making a namespace and its link costs about a millisecond; taking a ready
//! one costs nothing. Usually the kernel deletes a link together with the
//! namespace; if something still holds the namespace a while after detach, its
//! link is deleted, so that nobody goes on using the address.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use budu_sys::netlink::Batch;

use crate::Error;
use crate::bridge::open_route;
use crate::state::Core;
use crate::wire::Wired;

/// How long a namespace may outlive its endpoint before its link is deleted.
const GRACE: Duration = Duration::from_secs(2);

/// What the background thread shares with the others.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    queue: Mutex<Queue>,
    /// Tells the thread that there is work.
    wake: Condvar,
    /// Tells others that the thread is done with making one.
    made: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Wired>,
    /// One more is in the making, and has its address already.
    making: bool,
    /// How many are to be ready.
    wanted: usize,
    /// Host links of detached endpoints and when to look for them.
    leaving: VecDeque<(Instant, String)>,
    stop: bool,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Make,
    Delete(Vec<String>),
    Stop,
}

impl Keeper {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a ready namespace: the one with this address if given.
    pub(crate) fn take(&self, ip: Option<Ipv4Addr>) -> Option<Wired> {
        let mut queue = self.queue();
        match ip {
            None => queue.ready.pop_front(),
            Some(ip) => {
                let index = queue.ready.iter().position(|wired| wired.ip == ip)?;
                queue.ready.remove(index)
            }
        }
    }

    /// Takes a ready namespace or the one that is in the making.
    pub(crate) fn take_or_wait(&self) -> Option<Wired> {
        let mut queue = self.queue();
        while queue.making && queue.ready.is_empty() {
            queue = self.made.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.ready.pop_front()
    }

    /// Asks for `wanted` ready namespaces.
    pub(crate) fn fill(&self, core: &Arc<Core>, wanted: usize) {
        if wanted == 0 {
            return;
        }
        let mut queue = self.queue();
        queue.wanted = wanted;
        self.run(&mut queue, core);
    }

    /// Hands a detached endpoint's link over for a later look.
    pub(crate) fn watch(&self, core: &Arc<Core>, host_link: String) {
        let mut queue = self.queue();
        queue.leaving.push_back((Instant::now() + GRACE, host_link));
        // The thread sleeps until the first of them: only that one wakes it.
        if queue.leaving.len() == 1 {
            self.run(&mut queue, core);
        }
    }

    fn run(&self, queue: &mut Queue, core: &Arc<Core>) {
        if queue.stop {
            return;
        }
        if queue.thread.is_none() {
            let weak = Arc::downgrade(core);
            let keeper = Arc::clone(&core.keeper);
            let spawned = thread::Builder::new().name("network".into()).spawn(move || keeper.work(&weak));
            match spawned {
                Ok(thread) => queue.thread = Some(thread),
                Err(error) => tracing::warn!(%error, "no background thread for networks"),
            }
        }
        self.wake.notify_one();
    }

    /// Ends the thread and gives up the ready namespaces and the links that
    /// were to be looked for.
    pub(crate) fn stop(&self) -> (Vec<Wired>, Vec<String>) {
        let mut queue = self.queue();
        queue.stop = true;
        self.wake.notify_one();
        let thread = queue.thread.take();
        drop(queue);
        // The last reference may be dropped by the thread itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        let mut queue = self.queue();
        let leaving = queue.leaving.drain(..).map(|(_, link)| link).collect();
        (queue.ready.drain(..).collect(), leaving)
    }

    fn work(&self, core: &Weak<Core>) {
        loop {
            let work = self.next();
            let Some(core) = core.upgrade() else { return };
            match work {
                Work::Stop => return,
                Work::Delete(links) => delete(links),
                Work::Make => self.keep(core.make(None, None)),
            }
        }
    }

    fn keep(&self, made: Result<Wired, Error>) {
        let mut queue = self.queue();
        queue.making = false;
        match made {
            Ok(wired) => queue.ready.push_back(wired),
            Err(error) => {
                tracing::debug!(%error, "no namespace is kept ready");
                queue.wanted = 0;
            }
        }
        self.made.notify_all();
    }

    /// Waits for something to do.
    fn next(&self) -> Work {
        let mut queue = self.queue();
        loop {
            if queue.stop {
                return Work::Stop;
            }
            if queue.ready.len() < queue.wanted {
                queue.making = true;
                return Work::Make;
            }
            let now = Instant::now();
            let due = queue.leaving.iter().take_while(|(due, _)| *due <= now).count();
            if due > 0 {
                return Work::Delete(queue.leaving.drain(..due).map(|(_, link)| link).collect());
            }
            let next = queue.leaving.front().map(|(due, _)| *due - now);
            queue = match next {
                Some(timeout) => self
                    .wake
                    .wait_timeout(queue, timeout)
                    .map(|(queue, _)| queue)
                    .unwrap_or_else(|poisoned| poisoned.into_inner().0),
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Deletes links; most of them are gone already.
pub(crate) fn delete(links: Vec<String>) {
    let mut batch = Batch::new();
    for link in &links {
        batch.delete_link(link);
    }
    let outcome = open_route().and_then(|mut route| Ok(route.apply_all(batch)?));
    match outcome {
        Ok(refusals) => {
            const NO_DEVICE: i32 = 19;
            for error in refusals.iter().filter(|error| error.errno() != NO_DEVICE) {
                tracing::warn!(%error, "a left-over link stays");
            }
        }
        Err(error) => tracing::warn!(%error, "left-over links stay"),
    }
}
