//! Errors and warnings: on standard error as logrus text, which callers of
//! runc know to read, and in the file that `--log` names.

use std::fs::File;
use std::io::Write;

use super::arguments::Global;
use crate::init::{Failing, failed};

/// Where messages go.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens what `--log` names; it is appended to, or made.
    pub(crate) fn open(global: &Global) -> Failing<Log> {
        let file = match &global.log {
            None => None,
            Some(path) => Some(
                File::options()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(failed(&format!("open the log file {}", path.display())))?,
            ),
        };
        Ok(Log { file, json: global.json_log, debug: global.debug })
    }

    /// What made the command fail.
    pub(crate) fn error(&self, message: &str) {
        if self.file.is_some() {
            self.write("error", message);
        }
        // Standard error gets it in any case: a person may be looking.
        let line = if self.file.is_none() { self.line("error", message) } else { format!("{message}\n") };
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// What the caller should know although the command goes on.
    pub(crate) fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    /// What happens, with `--debug`.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = self.line(level, message);
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn line(&self, level: &str, message: &str) -> String {
        let time = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        if self.json && self.file.is_some() {
            let fields = serde_json::json!({ "level": level, "msg": message, "time": time });
            return format!("{fields}\n");
        }
        format!("time={time:?} level={level} msg={message:?}\n")
    }
}
