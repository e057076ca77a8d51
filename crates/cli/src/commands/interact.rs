//! Being attached to a container: terminal size and signals, beside the bytes.

use std::convert::Infallible;
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Call, Client, Query};
use crate::error::Error;
use crate::terminal;

/// Runs `main` to its end while `companion` goes on.
pub(super) async fn beside<T>(main: impl Future<Output = T>, companion: impl Future<Output = Infallible>) -> T {
    tokio::select! {
        biased;
        result = main => result,
        never = companion => match never {},
    }
}

/// Keeps the size of a container's or exec's terminal equal to the user's, forever.
pub(super) async fn follow_size(client: &Client, path: &str) -> Infallible {
    let mut changes = signal(SignalKind::window_change()).ok();
    // The process may not be there yet: try again for about half a second.
    for attempt in 1..=10 {
        if resize(client, path, terminal::size()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10 * attempt)).await;
    }
    loop {
        let changed = match changes.as_mut() {
            Some(changes) => changes.recv().await,
            None => None,
        };
        if changed.is_none() {
            return std::future::pending().await;
        }
        // It may have ended just now; then there is nothing to resize.
        let _ = resize(client, path, terminal::size()).await;
    }
}

/// Sets the size once; an unknown size is left alone.
pub(super) async fn resize(client: &Client, path: &str, size: Option<(u16, u16)>) -> Result<(), Error> {
    let Some((rows, columns)) = size else { return Ok(()) };
    let query = Query::new(format!("{path}/resize")).set("h", &rows.to_string()).set("w", &columns.to_string());
    client.done(Call::post(query)).await
}

/// Signals that are passed on to the container.
const PROXIED: &[i32] = &[1, 2, 3, 5, 6, 7, 10, 12, 14, 15, 16, 18, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31];

/// The signals sent to us, caught from now on.
#[derive(Debug)]
pub(super) struct SignalProxy {
    signals: Vec<(i32, Signal)>,
}

impl SignalProxy {
    /// Starts catching.
    pub(super) fn catch() -> SignalProxy {
        let open = |&number: &i32| signal(SignalKind::from_raw(number)).ok().map(|signal| (number, signal));
        SignalProxy { signals: PROXIED.iter().filter_map(open).collect() }
    }

    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.signals {
                if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Passes signals on, forever.
    pub(super) async fn forward(mut self, client: &Client, path: &str) -> Infallible {
        loop {
            let number = self.next().await;
            let name = budu_spec::signal::name(number).map_or_else(|| number.to_string(), |name| format!("SIG{name}"));
            // A container that just ended cannot be signalled, and need not be.
            let _ = client.done(Call::post(Query::new(format!("{path}/kill")).set("signal", &name))).await;
        }
    }
}

/// Whatever goes on beside the bytes: sizes with a terminal, else signals.
pub(super) async fn companion(client: &Client, path: &str, tty: bool, signals: Option<SignalProxy>) -> Infallible {
    match signals {
        _ if tty && terminal::stdout_is_tty() => follow_size(client, path).await,
        Some(signals) if !tty => signals.forward(client, path).await,
        _ => std::future::pending().await,
    }
}
