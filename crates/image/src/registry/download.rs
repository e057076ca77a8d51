//! One blob, from the registry into a bounded channel; again from where it broke off.

use std::time::Duration;

use budu_spec::image::Descriptor;
use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::mpsc::Sender;

use super::client::Client;
use super::reply::next;
use crate::error::Error;

/// How a transfer ended without all bytes.
enum Broken {
    /// Another attempt may help.
    Off(Error),
    /// It will not.
    Fatal(Error),
    /// Nobody takes the bytes any more; why is known there.
    Unwanted,
}

/// What to tell while it goes on.
pub(crate) trait Watch {
    /// So many bytes are there.
    fn received(&mut self, bytes: u64);
    /// Another attempt follows after a pause.
    fn retrying(&mut self, pause: Duration);
}

/// Sends exactly `blob.size` bytes to `sink`, or fails. `Ok(false)` when the receiver is gone.
pub(crate) async fn download(
    client: &Client,
    blob: &Descriptor,
    attempts: u32,
    pause: Duration,
    sink: Sender<Bytes>,
    watch: &mut (dyn Watch + Send),
) -> Result<bool, Error> {
    let mut received = 0;
    let mut failed = 0;
    loop {
        match attempt(client, blob, &mut received, &sink, watch).await {
            Ok(()) => return Ok(true),
            Err(Broken::Unwanted) => return Ok(false),
            Err(Broken::Fatal(error)) => return Err(error),
            Err(Broken::Off(error)) => {
                failed += 1;
                if failed >= attempts {
                    return Err(Error::Transfer {
                        digest: blob.digest,
                        received,
                        size: blob.size,
                        cause: error.to_string(),
                    });
                }
                tracing::debug!(%error, blob = %blob.digest, received, "transfer broke off");
                let pause = pause * failed;
                watch.retrying(pause);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn attempt(
    client: &Client,
    blob: &Descriptor,
    received: &mut u64,
    sink: &Sender<Bytes>,
    watch: &mut (dyn Watch + Send),
) -> Result<(), Broken> {
    let wrong_size = |actual| Error::SizeMismatch { what: "layer", digest: blob.digest, expected: blob.size, actual };
    if *received == blob.size && blob.size > 0 {
        return Ok(());
    }
    let response = client.blob(&blob.digest, *received).await.map_err(sort)?;
    let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
    let length = response
        .headers()
        .get(hyper::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let from = if resumed { *received } else { 0 };
    if resumed && range_start(&response) != Some(*received) {
        return Err(Broken::Fatal(Error::Protocol {
            host: client.origin().authority(),
            detail: format!("it sent another part of {} than was asked for", blob.digest),
        }));
    }
    if let Some(length) = length
        && from + length != blob.size
    {
        return Err(Broken::Fatal(wrong_size(from + length)));
    }
    // A registry without ranges sends everything again.
    let mut skip = *received - from;
    let mut body = response.into_body();
    loop {
        let piece = next(&mut body, client.read_timeout(), client.origin()).await.map_err(Broken::Off)?;
        let Some(mut piece) = piece else { break };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
        let _ = piece.split_to(skipped);
        skip -= skipped as u64;
        if piece.is_empty() {
            continue;
        }
        let total = *received + piece.len() as u64;
        if total > blob.size {
            return Err(Broken::Fatal(wrong_size(total)));
        }
        if sink.send(piece).await.is_err() {
            return Err(Broken::Unwanted);
        }
        *received = total;
        watch.received(total);
    }
    if *received == blob.size { Ok(()) } else { Err(Broken::Off(wrong_size(*received))) }
}

/// Whether trying again can help.
fn sort(error: Error) -> Broken {
    match error {
        Error::Unreachable { .. } => Broken::Off(error),
        Error::Registry { status, .. } if status >= 500 || status == 429 || status == 408 => Broken::Off(error),
        other => Broken::Fatal(other),
    }
}

/// The first byte's position in `Content-Range: bytes 5-9/10`.
fn range_start(response: &hyper::Response<hyper::body::Incoming>) -> Option<u64> {
    let value = response.headers().get(hyper::header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
