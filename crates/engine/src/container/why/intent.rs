//! Who wanted a container to end.

use std::fmt;
use std::sync::PoisonError;

use crate::container::Container;

/// A wish for the end of a container that the engine carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    /// Of which kind.
    pub(crate) by: By,
    /// The signal that was sent first.
    pub(crate) signal: i32,
    /// Seconds it was given, -1 for any time.
    pub(crate) patience: Option<i64>,
    /// SIGKILL had to follow.
    pub(crate) forced: bool,
    /// The client, where it is known.
    pub(crate) caller: Option<String>,
}

/// Kinds of wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// `kill`.
    Kill,
    /// `rm --force`.
    Remove,
    /// The daemon ends.
    Shutdown,
    /// It was unhealthy; what is done about it.
    Health(&'static str),
}

impl By {
    /// What was done, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            By::Stop => "stopped",
            By::Restart => "stopped to be restarted",
            By::Kill => "killed",
            By::Remove => "removed by force",
            By::Shutdown => "stopped with the daemon",
            By::Health(_) => "unhealthy",
        }
    }

    /// A wish that leads to others explains them.
    fn outlasts(self, other: By) -> bool {
        matches!((self, other), (By::Health(_), _) | (By::Restart | By::Shutdown, By::Stop))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl Container {
    /// Notes who wants it to end, before the signal goes.
    pub(crate) fn intend(&self, by: By, signal: i32, patience: Option<i64>) {
        let mut place = self.intent.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = crate::caller::current().map(|caller| caller.to_string());
        match place.as_mut() {
            Some(earlier) if earlier.by.outlasts(by) => {
                earlier.signal = signal;
                earlier.patience = patience;
            }
            _ => *place = Some(Intent { by, signal, patience, forced: false, caller }),
        }
    }

    /// Asking was not enough.
    pub(crate) fn intend_by_force(&self) {
        if let Some(intent) = self.intent.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            intent.forced = true;
        }
    }

    /// Takes the note, so that it explains one end only.
    pub(crate) fn take_intent(&self) -> Option<Intent> {
        self.intent.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
