//! Whose request is being answered.

use std::fmt;
use std::future::Future;

/// A client of the daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller {
    /// Process on this host, where the connection tells.
    pub pid: Option<i32>,
    /// User on this host, where the connection tells.
    pub user: Option<u32>,
}

tokio::task_local! {
    static CALLER: Caller;
}

/// Runs a request on behalf of a client.
pub async fn on_behalf<F: Future>(caller: Caller, request: F) -> F::Output {
    CALLER.scope(caller, request).await
}

/// The client whose request this task answers.
pub(crate) fn current() -> Option<Caller> {
    CALLER.try_with(|caller| *caller).ok()
}

/// As users are told: the name of the program is looked up now, as long as it runs.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        f.write_str(name.as_deref().map_or("a client", str::trim))?;
        match (self.pid, self.user) {
            (Some(pid), Some(user)) => write!(f, " (pid {pid}, user {user})"),
            (None, Some(user)) => write!(f, " (user {user})"),
            _ => Ok(()),
        }
    }
}
