//! What the shim is told to write, and what can be read of it.

use std::path::{Path, PathBuf};

use budu_runtime::log::attributes;
use budu_runtime::plan::{LogFormat, LogPlan};

use super::about::About;
use super::driver::Driver;
use super::options::{self, Options, text};
use crate::container::record::Record;
use crate::{Engine, Error};

/// A log is bounded unless somebody says otherwise: this size, that many files.
const SIZE: u64 = 20 << 20;
const FILES: u32 = 5;
/// What a driver that sends has to work with where no cache is wanted.
const QUEUE: u64 = 1 << 20;
const QUEUES: u32 = 2;

/// A container's log files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFiles {
    pub(crate) path: PathBuf,
    pub(crate) format: LogFormat,
    /// They may be shown.
    pub(crate) readable: bool,
}

/// Where a container's log files are; `None` when its driver keeps nothing.
pub(crate) fn files(record: &Record, data_dir: &Path) -> Option<LogFiles> {
    let config = &record.host_config.log_config;
    let files = |name: &str, format| LogFiles { path: data_dir.join(name), format, readable: true };
    match Driver::named(&config.kind)? {
        Driver::None => None,
        Driver::JsonFile => Some(files(&format!("{}-json.log", record.id), LogFormat::Json)),
        Driver::Local => Some(files("local-logs/container.log", LogFormat::Local)),
        Driver::Syslog | Driver::Gelf | Driver::Fluentd | Driver::Journald => {
            let readable = options::boolean(text(&config.config, "cache-disabled")) != Some(true);
            Some(LogFiles { readable, ..files("container-cached.log", LogFormat::Local) })
        }
    }
}

impl Engine {
    /// What a container's shim is told of its log; `None` with the driver `none`.
    ///
    /// # Errors
    /// When a value of an option is wrong.
    pub(crate) fn log_plan(&self, record: &Record) -> Result<Option<LogPlan>, Error> {
        let Some(files) = self.log_files(record) else { return Ok(None) };
        if files.path.parent().is_some_and(|dir| dir.ends_with("local-logs"))
            && let Some(dir) = files.path.parent()
        {
            super::make_directory(dir).map_err(Error::io("create directory", dir))?;
        }
        let plan = files.plan(record);
        plan.map(Some).map_err(|e| Error::invalid(format!("failed to initialize logging driver: {e}")))
    }
}

impl LogFiles {
    /// What the shim is told. Values that Docker looks at only here are refused here.
    pub(crate) fn plan(&self, record: &Record) -> Result<LogPlan, Error> {
        let config = &record.host_config.log_config;
        let driver = Driver::named(&config.kind).unwrap_or(Driver::JsonFile);
        let mut plan = LogPlan { path: self.path.clone(), format: self.format, ..LogPlan::default() };
        match driver {
            Driver::JsonFile => json_file(&config.config, &mut plan)?,
            Driver::Local => local(&config.config, "", &mut plan)?,
            _ if self.readable => local(&config.config, "cache-", &mut plan)?,
            _ => (plan.max_size, plan.max_file) = (Some(QUEUE), QUEUES),
        }
        if driver.sends() {
            plan.hold = text(&config.config, "mode") != "non-blocking";
            // One file is being written, so at least one more is needed to send from.
            plan.max_file = plan.max_file.max(2);
            let buffer = options::ram(text(&config.config, "max-buffer-size")).unwrap_or(0);
            let least = buffer.div_ceil(u64::from(plan.max_file - 1));
            plan.max_size = plan.max_size.map(|size| size.max(least));
        } else {
            let about = About::new(record);
            let mut pairs = about.extra()?;
            let tag = about.tag("")?;
            if !tag.is_empty() {
                pairs.insert("tag".to_owned(), tag);
            }
            plan.attributes = attributes(self.format, &pairs);
        }
        Ok(plan)
    }
}

fn json_file(options: &Options, plan: &mut LogPlan) -> Result<(), Error> {
    let size = match options.get("max-size").map(String::as_str) {
        None => None,
        // Docker's word for its own default; here the way to ask for it.
        Some("-1") => Some(None),
        Some(size) => match options::decimal(size).map_err(Error::invalid)? {
            0 => return Err(Error::invalid("max-size must be a positive number")),
            size => Some(Some(size)),
        },
    };
    let count = options.get("max-file").map(|text| number(text)).transpose()?;
    if count.is_some_and(|count| count < 1) {
        return Err(Error::invalid("max-file cannot be less than 1"));
    }
    plan.compress = options::flag(options, "compress")?;
    if plan.compress && (size.flatten().is_none() || count.is_none_or(|count| count < 2)) {
        let message = "compress cannot be true when max-file is less than 2 or max-size is not set";
        return Err(Error::invalid(message));
    }
    let usual = if size.is_some() { 1 } else { FILES };
    plan.max_file = count.map_or(usual, |count| u32::try_from(count).unwrap_or(u32::MAX));
    plan.max_size = size.unwrap_or(Some(SIZE));
    Ok(())
}

fn local(options: &Options, prefix: &str, plan: &mut LogPlan) -> Result<(), Error> {
    let option = |name: &str| text(options, &format!("{prefix}{name}"));
    let invalid =
        |name: &str, why: String| Error::invalid(format!("invalid value for {name}: {}: {why}", option(name)));
    plan.max_size = match option("max-size") {
        "" => Some(SIZE),
        "-1" => None,
        size => Some(options::decimal(size).map_err(|why| invalid("max-size", why))?).filter(|size| *size > 0),
    };
    let count = match option("max-file") {
        "" => i64::from(FILES),
        count => number(count).map_err(|why| invalid("max-file", why.to_string()))?,
    };
    plan.max_file = u32::try_from(count).map_err(|_| Error::invalid("max-file must not be negative"))?;
    plan.compress = match option("compress") {
        "" => prefix.is_empty(),
        word => options::boolean(word).ok_or_else(|| {
            let why = format!("strconv.ParseBool: parsing {word:?}: invalid syntax");
            Error::invalid(format!("invalid boolean value for compress: {why}"))
        })?,
    };
    if plan.compress && plan.max_file <= 1 {
        return Err(Error::invalid("compression cannot be enabled when max file count is 1"));
    }
    Ok(())
}

fn number(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    fn plan(driver: &str, pairs: &[(&str, &str)]) -> Result<LogPlan, String> {
        let mut record = record("x");
        record.host_config.log_config.kind = driver.to_owned();
        record.host_config.log_config.config = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let files = files(&record, Path::new("/d")).expect("a driver with files");
        files.plan(&record).map_err(|e| e.to_string())
    }

    fn shape(driver: &str, pairs: &[(&str, &str)]) -> (Option<u64>, u32, bool, bool) {
        let plan = plan(driver, pairs).unwrap();
        (plan.max_size, plan.max_file, plan.compress, plan.hold)
    }

    #[test]
    fn bounded_unless_asked_otherwise() {
        const MB: u64 = 1 << 20;
        assert_eq!(shape("json-file", &[]), (Some(20 * MB), 5, false, false));
        assert_eq!(shape("json-file", &[("max-size", "10m")]), (Some(10_000_000), 1, false, false));
        assert_eq!(shape("json-file", &[("max-size", "-1")]), (None, 1, false, false));
        assert_eq!(shape("json-file", &[("max-file", "3")]), (Some(20 * MB), 3, false, false));
        assert_eq!(shape("local", &[]), (Some(20 * MB), 5, true, false));
        assert_eq!(shape("local", &[("compress", "false"), ("max-file", "1")]), (Some(20 * MB), 1, false, false));
        assert_eq!(shape("syslog", &[]), (Some(20 * MB), 5, false, true));
        assert_eq!(shape("syslog", &[("cache-disabled", "true")]), (Some(MB), 2, false, true));
        let options =
            [("cache-max-size", "1m"), ("cache-max-file", "1"), ("mode", "non-blocking"), ("max-buffer-size", "4m")];
        assert_eq!(shape("gelf", &options), (Some(4 * MB), 2, false, false));
    }

    #[test]
    fn values_are_refused_in_dockers_words() {
        for (driver, pairs, want) in [
            ("json-file", &[("max-size", "x")][..], "invalid size: 'x'"),
            ("json-file", &[("max-size", "0")], "max-size must be a positive number"),
            ("json-file", &[("max-file", "0")], "max-file cannot be less than 1"),
            ("json-file", &[("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax"),
            ("json-file", &[("compress", "x")], "strconv.ParseBool: parsing \"x\": invalid syntax"),
            (
                "json-file",
                &[("compress", "true")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            ("local", &[("max-file", "1")], "compression cannot be enabled when max file count is 1"),
            ("local", &[("max-size", "x")], "invalid value for max-size: x: invalid size: 'x'"),
        ] {
            assert_eq!(plan(driver, pairs).unwrap_err(), want);
        }
    }

    #[test]
    fn attributes_are_labels_variables_and_tag() {
        let plan = plan("json-file", &[("tag", "{{.Name}}!")]).unwrap();
        assert_eq!(String::from_utf8(plan.attributes).unwrap(), "{\"tag\":\"x!\"}");
    }
}
