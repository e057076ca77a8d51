//! Shows the progress messages of a pull: a line per layer that is rewritten on a terminal,
//! plain lines elsewhere.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;

use budu_spec::docker::{JsonMessage, ProgressDetail};
use budu_spec::units::human_size;

use crate::client::Streaming;
use crate::error::Error;

/// Renders messages to a writer.
#[derive(Debug)]
pub(crate) struct Progress<W> {
    out: W,
    terminal: Option<usize>,
    lines: HashMap<String, usize>,
}

impl<W: Write> Progress<W> {
    /// `terminal` is the number of columns when `out` is a terminal.
    pub(crate) fn new(out: W, terminal: Option<usize>) -> Progress<W> {
        Progress { out, terminal, lines: HashMap::new() }
    }

    /// Shows one message; an error in it is the result.
    pub(crate) fn show(&mut self, message: &JsonMessage) -> Result<(), Error> {
        if let Some(error) = &message.error_detail {
            return Err(Error::new(&error.message));
        }
        if let Some(error) = &message.error {
            return Err(Error::new(error));
        }
        if message.aux.is_some() {
            return Ok(());
        }
        let mut text = String::new();
        let in_place = self.terminal.is_some() && message.id.is_some();
        let up = if in_place { self.place(message.id.as_deref().unwrap_or_default()) } else { None };
        if self.terminal.is_some() && !in_place {
            // What follows a plain line no longer rewrites the lines above it.
            self.lines.clear();
        }
        if let Some(up) = up.filter(|up| *up > 0) {
            let _ = write!(text, "\x1b[{up}A");
        }
        self.line(message, in_place, &mut text);
        if let Some(up) = up.filter(|up| *up > 0) {
            let _ = write!(text, "\x1b[{up}B");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(())
    }

    /// How many lines up the line of `id` is; a new one is opened at the bottom.
    fn place(&mut self, id: &str) -> Option<usize> {
        let count = self.lines.len();
        if let Some(line) = self.lines.get(id) {
            return Some(count - line);
        }
        self.lines.insert(id.to_owned(), count);
        // The new line must exist before the cursor can go up to it.
        let _ = self.out.write_all(b"\n");
        Some(1)
    }

    fn line(&self, message: &JsonMessage, in_place: bool, text: &mut String) {
        let bar = message.progress_detail.as_ref().and_then(|detail| bar(detail, self.terminal));
        if self.terminal.is_none() && bar.is_some() {
            // Without a terminal the steps of a bar would be noise.
            return;
        }
        if let Some(stream) = &message.stream {
            text.push_str(stream);
            return;
        }
        if in_place {
            text.push_str("\x1b[2K\r");
        }
        if let Some(id) = &message.id {
            let _ = write!(text, "{id}: ");
        }
        text.push_str(message.status.as_deref().unwrap_or_default());
        if let Some(bar) = bar {
            let _ = write!(text, " {bar}");
        }
        text.push_str(if in_place { "\r" } else { "\n" });
    }
}

/// `[=====>      ]  1.2MB/3.4MB`
fn bar(detail: &ProgressDetail, columns: Option<usize>) -> Option<String> {
    const WIDTH: usize = 50;
    let current = detail.current?;
    let total = detail.total.unwrap_or_default();
    if current == 0 && total == 0 {
        return None;
    }
    let now = human_size(current as f64, 4);
    if total == 0 {
        return Some(format!("{now:>8}"));
    }
    let done = usize::try_from((u128::from(current.min(total)) * WIDTH as u128) / u128::from(total)).unwrap_or(WIDTH);
    let mut text = String::new();
    if columns.is_none_or(|columns| columns > 110) {
        let done = done.max(1);
        let rest = " ".repeat(WIDTH - done);
        let _ = write!(text, "[{}>{rest}]  ", "=".repeat(done - usize::from(rest.is_empty())));
    }
    let _ = write!(text, "{now:>8}");
    if current <= total {
        let _ = write!(text, "/{}", human_size(total as f64, 4));
    }
    Some(text)
}

/// Reads a progress stream to its end.
pub(crate) async fn follow<W: Write>(streaming: &mut Streaming, progress: &mut Progress<W>) -> Result<(), Error> {
    let mut values = JsonStream::default();
    while let Some(piece) = streaming.next().await? {
        values.take(&piece, &mut |json| {
            let message =
                serde_json::from_slice(json).map_err(|error| Error::Transport { reason: error.to_string() })?;
            progress.show(&message)
        })?;
    }
    Ok(())
}

/// Cuts a stream of JSON values, however separated, at their ends.
#[derive(Debug, Default)]
pub(crate) struct JsonStream {
    pending: Vec<u8>,
}

impl JsonStream {
    /// Takes bytes and hands out each value that is complete.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let mut values =
                serde_json::Deserializer::from_slice(&self.pending[done..]).into_iter::<serde::de::IgnoredAny>();
            match values.next() {
                Some(Ok(_)) => {
                    let end = done + values.byte_offset();
                    each(self.pending[done..end].trim_ascii())?;
                    done = end;
                }
                Some(Err(error)) if !error.is_eof() => return Err(Error::Transport { reason: error.to_string() }),
                _ => break,
            }
        }
        self.pending.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(columns: Option<usize>, json: &str) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, columns);
        let mut stream = JsonStream::default();
        for byte in json.as_bytes() {
            stream.take(&[*byte], &mut |json| progress.show(&serde_json::from_slice(json).unwrap())).unwrap();
        }
        drop(progress);
        String::from_utf8(out).unwrap()
    }

    const PULL: &str = "{\"status\":\"Pulling from x\",\"id\":\"latest\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10},\"id\":\"abc\"}\r\n{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n{\"status\":\"Status: done\"}\r\n";

    #[test]
    fn plain_output_has_no_bars() {
        assert_eq!(render(None, PULL), "latest: Pulling from x\nabc: Pull complete\nStatus: done\n");
    }

    #[test]
    fn a_terminal_rewrites_the_layer_line() {
        let text = render(Some(80), PULL);
        assert_eq!(
            text,
            "\n\x1b[1A\x1b[2K\rlatest: Pulling from x\r\x1b[1B\n\x1b[1A\x1b[2K\rabc: Downloading       5B/10B\r\x1b[1B\x1b[1A\x1b[2K\rabc: Pull complete\r\x1b[1BStatus: done\n"
        );
        assert!(
            render(Some(120), PULL).contains("[=========================>                         ]        5B/10B")
        );
    }

    #[test]
    fn errors_in_the_stream_are_errors() {
        let message =
            serde_json::from_str(r#"{"errorDetail":{"message":"no such thing"},"error":"no such thing"}"#).unwrap();
        let error = Progress::new(Vec::new(), None).show(&message).unwrap_err();
        assert_eq!(error.to_string(), "no such thing");
    }
}
