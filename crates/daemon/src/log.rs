//! The daemon's own log: lines on standard error.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Config;

/// The log, whose level can be changed.
pub(crate) struct Log(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Log {
    /// Begins to log.
    pub(crate) fn to_stderr(config: &Config) -> Log {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter(config))
            .with_writer(io::stderr)
            .with_ansi(false)
            .with_target(false)
            .with_filter_reloading();
        let handle = lines.reload_handle();
        let log = Log(Box::new(move |filter| {
            let _ = handle.reload(filter);
        }));
        let _ = lines.finish().try_init();
        log
    }

    /// Logs from now on what the settings say.
    pub(crate) fn set(&self, config: &Config) {
        self.0(filter(config));
    }
}

fn filter(config: &Config) -> EnvFilter {
    EnvFilter::new(match config.log_level.as_str() {
        _ if config.debug => "debug",
        "fatal" => "error",
        level => level,
    })
}
