//! Who sent the signals that end processes, where the kernel tells.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use budu_sys::signal_trace::SignalTrace;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// HUP, INT, QUIT, ABRT, KILL, USR1, SEGV, USR2, PIPE, ALRM and TERM: what ends programs that do not expect it.
const FILTER: &str = "sig==1||sig==2||sig==3||sig==6||sig==9||sig==10||sig==11||sig==12||sig==13||sig==14||sig==15";
/// Signals remembered.
const KEPT: usize = 256;

/// The last signals of this host.
#[derive(Debug, Default)]
pub(crate) struct Senders(Mutex<Option<Watch>>);

#[derive(Debug)]
struct Watch {
    trace: SignalTrace,
    /// Target, signal, sender in words.
    seen: VecDeque<(u32, i32, String)>,
}

impl Senders {
    /// Begins to look, if the kernel lets us. Call from within a runtime.
    pub(crate) fn start() -> Arc<Senders> {
        let senders = Arc::new(Senders::default());
        let trace = match SignalTrace::open(FILTER) {
            Ok(trace) => trace,
            Err(error) => {
                tracing::debug!(%error, "who sends signals is not known on this host");
                return senders;
            }
        };
        let copies: std::io::Result<Vec<OwnedFd>> = trace.descriptors().map(|fd| fd.try_clone_to_owned()).collect();
        *senders.watch() = Some(Watch { trace, seen: VecDeque::new() });
        for fd in copies.into_iter().flatten() {
            let weak = Arc::downgrade(&senders);
            tokio::spawn(async move {
                #[expect(
                    deprecated,
                    reason = "its successor is unsafe; an owned descriptor stays open as long as it is watched"
                )]
                let Ok(fd) = AsyncFd::with_interest(fd, Interest::READABLE) else { return };
                while let Ok(mut ready) = fd.readable().await {
                    let Some(senders) = weak.upgrade() else { return };
                    senders.look();
                    ready.clear_ready();
                }
            });
        }
        senders
    }

    fn watch(&self) -> MutexGuard<'_, Option<Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is new. Senders are named at once: many are gone soon.
    fn look(&self) {
        let mut place = self.watch();
        let Some(Watch { trace, seen }) = place.as_mut() else { return };
        trace.drain(|sent| {
            if seen.len() == KEPT {
                seen.pop_front();
            }
            seen.push_back((sent.target, sent.signal, name(sent.sender)));
        });
    }

    /// Who sent a signal to a process last.
    pub(super) fn of(&self, target: u32, signal: i32) -> Option<String> {
        self.look();
        let place = self.watch();
        let mut seen = place.as_ref()?.seen.iter().rev();
        seen.find(|(to, number, _)| (*to, *number) == (target, signal)).map(|(.., sender)| sender.clone())
    }
}

fn name(pid: u32) -> String {
    if pid == 0 {
        return "the kernel".to_owned();
    }
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (pid {pid})", name.trim()),
        Err(_) => format!("a process that is gone (pid {pid})"),
    }
}
