//! The container's log file, in the `json-file` format of Docker: one JSON
//! object a line with `log`, `stream` and `time`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use budu_spec::units::rfc3339_nano;

use crate::plan::LogPlan;
use crate::protocol::{STDERR, STDOUT};

/// A line longer than this is split; readers join the pieces, which lack a newline.
const MAX_LINE: usize = 16 << 10;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: Option<u64>,
    max_file: u32,
    /// Unfinished lines: standard output's, standard error's.
    partial: [Vec<u8>; 2],
}

impl Log {
    /// Opens the log for appending, mode 0640.
    pub(super) fn open(plan: &LogPlan) -> io::Result<Log> {
        let file = open(&plan.path)?;
        let size = file.metadata()?.len();
        let max_file = plan.max_file.max(1);
        Ok(Log { path: plan.path.clone(), file, size, max_size: plan.max_size, max_file, partial: Default::default() })
    }

    /// Appends what a stream said. Failures (a full disk) lose log lines, not output.
    pub(super) fn write(&mut self, stream: u8, mut data: &[u8]) {
        let mut out = Vec::new();
        let time = rfc3339_nano(jiff::Timestamp::now());
        let partial = &mut self.partial[usize::from(stream == STDERR)];
        while !data.is_empty() {
            let line_end = data.iter().position(|&b| b == b'\n').map(|at| at + 1);
            let take = line_end.unwrap_or(data.len()).min(MAX_LINE - partial.len());
            partial.extend_from_slice(&data[..take]);
            data = &data[take..];
            if partial.last() == Some(&b'\n') || partial.len() == MAX_LINE {
                entry(&mut out, stream, partial, &time);
                partial.clear();
            }
        }
        if partial.is_empty() {
            *partial = Vec::new();
        }
        self.append(&out);
    }

    /// Writes unfinished lines: the stream has ended.
    pub(super) fn finish(&mut self) {
        let time = rfc3339_nano(jiff::Timestamp::now());
        let mut out = Vec::new();
        for (stream, partial) in [STDOUT, STDERR].into_iter().zip(&mut self.partial) {
            if !partial.is_empty() {
                entry(&mut out, stream, partial, &time);
                partial.clear();
            }
        }
        self.append(&out);
    }

    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.max_size.is_some_and(|max| self.size > 0 && self.size + bytes.len() as u64 > max) {
            self.rotate();
        }
        if self.file.write_all(bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }

    /// Renames `log.1` to `log.2` and so on, `log` to `log.1`, and starts anew.
    fn rotate(&mut self) {
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.max_file.saturating_sub(1)).rev() {
            let _ = std::fs::rename(numbered(n), numbered(n + 1));
        }
        let moved = if self.max_file > 1 { std::fs::rename(&self.path, numbered(1)) } else { self.file.set_len(0) };
        if let (Ok(()), Ok(file)) = (moved, open(&self.path)) {
            self.file = file;
            self.size = 0;
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Prints one entry.
fn entry(out: &mut Vec<u8>, stream: u8, line: &[u8], time: &str) {
    out.extend_from_slice(b"{\"log\":");
    let text = String::from_utf8_lossy(line);
    // Writing JSON to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, text.as_ref());
    out.extend_from_slice(b",\"stream\":");
    out.extend_from_slice(if stream == STDERR { b"\"stderr\"" } else { b"\"stdout\"" });
    let _ = writeln!(out, ",\"time\":\"{time}\"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(path: &std::path::Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                (value["stream"].as_str().unwrap().to_owned(), value["log"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    #[test]
    fn lines_are_kept_whole_and_long_ones_split() {
        let dir = std::env::temp_dir().join(format!("budu-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let plan = LogPlan { path: path.clone(), max_size: None, max_file: 1 };
        let mut log = Log::open(&plan).unwrap();
        log.write(STDOUT, b"one\ntw");
        log.write(STDERR, b"warn \"\xff\"\n");
        log.write(STDOUT, b"o\n");
        log.write(STDOUT, &vec![b'x'; MAX_LINE + 1]);
        log.finish();
        let entries = read_back(&path);
        std::fs::remove_dir_all(&dir).unwrap();
        let owned = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            entries[..3],
            [owned("stdout", "one\n"), owned("stderr", "warn \"\u{fffd}\"\n"), owned("stdout", "two\n")]
        );
        assert_eq!(entries[3].1.len(), MAX_LINE);
        assert_eq!(entries[4].1, "x");
    }

    #[test]
    fn rotation_keeps_the_number_of_files_asked_for() {
        let dir = std::env::temp_dir().join(format!("budu-rotate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let plan = LogPlan { path: dir.join("log"), max_size: Some(200), max_file: 2 };
        let mut log = Log::open(&plan).unwrap();
        for n in 0..20 {
            log.write(STDOUT, format!("line {n}\n").as_bytes());
        }
        let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let last = read_back(&dir.join("log")).pop().unwrap().1;
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(names, ["log", "log.1"]);
        assert_eq!(last, "line 19\n");
    }
}
