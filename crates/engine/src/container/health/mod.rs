//! Health checks: what is probed when, and what the results come to.
//!
//! [`Check`] is what configuration asks for, [`judge`] what one more result
//! makes of a container; both are pure. [`watch`] runs the probes.

mod action;
mod probe;
mod watch;

use std::time::Duration;

use budu_spec::docker::{ContainerConfig, Health, HealthConfig, HealthResult};

use super::record::State;
use crate::Error;

pub(super) use action::check_label;
pub(super) use watch::{start, stop};

/// Results kept.
const KEPT: usize = 5;
/// Shortest duration that may be asked for, nanoseconds.
const SHORTEST: i64 = 1_000_000;
/// Shell of `CMD-SHELL` when the image names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The words for health, as in inspect and events.
pub(crate) mod word {
    /// Not known yet.
    pub(crate) const STARTING: &str = "starting";
    /// The last probe that counted succeeded.
    pub(crate) const HEALTHY: &str = "healthy";
    /// Too many probes in a row failed.
    pub(crate) const UNHEALTHY: &str = "unhealthy";
    /// Nobody asks.
    pub(crate) const NONE: &str = "none";
}

/// A health check, with Docker's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Program and arguments of a probe.
    command: Vec<String>,
    /// Between the end of a probe and the next one.
    interval: Duration,
    /// How long a probe may take.
    timeout: Duration,
    /// Failures do not count so long after the start.
    start_period: Duration,
    /// As `interval`, in the start period of a container that was not healthy yet.
    start_interval: Duration,
    /// Failures in a row that make a container unhealthy.
    retries: i64,
}

impl Check {
    /// The check a container asks for, if it does.
    pub(crate) fn of(config: &ContainerConfig) -> Option<Check> {
        let wish = config.healthcheck.as_ref()?;
        let (kind, rest) = wish.test.as_deref()?.split_first()?;
        let shell = || match config.shell.as_deref() {
            None | Some([]) => SHELL.map(str::to_owned).to_vec(),
            Some(shell) => shell.to_vec(),
        };
        let command = match kind.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => [shell(), rest.to_vec()].concat(),
            _ => return None,
        };
        let time = |value: Option<i64>, seconds: u64| match value.and_then(|v| u64::try_from(v).ok()) {
            None | Some(0) => Duration::from_secs(seconds),
            Some(nanos) => Duration::from_nanos(nanos),
        };
        Some(Check {
            command,
            interval: time(wish.interval, 30),
            timeout: time(wish.timeout, 30),
            start_period: time(wish.start_period, 0),
            start_interval: time(wish.start_interval, 5),
            retries: wish.retries.filter(|n| *n > 0).unwrap_or(3),
        })
    }

    /// The pause before the next probe of a container that started `age` ago.
    fn pause(&self, age: Duration, status: &str) -> Duration {
        match age < self.start_period && status == word::STARTING {
            true => self.start_interval,
            false => self.interval,
        }
    }
}

/// Checks what a request says about health, with Docker's texts.
pub(crate) fn validate(wish: Option<&HealthConfig>) -> Result<(), Error> {
    let Some(wish) = wish else { return Ok(()) };
    let short = |value: Option<i64>| value.is_some_and(|v| v != 0 && v < SHORTEST);
    for (name, value) in [
        ("Interval", wish.interval),
        ("Timeout", wish.timeout),
        ("StartPeriod", wish.start_period),
        ("StartInterval", wish.start_interval),
    ] {
        if short(value) {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if wish.retries.is_some_and(|n| n < 0) {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// Fills what a request left open from the image's check.
pub(crate) fn merge(wish: Option<HealthConfig>, image: Option<HealthConfig>) -> Option<HealthConfig> {
    let (mut wish, image) = match (wish, image) {
        (Some(wish), Some(image)) => (wish, image),
        (wish, image) => return wish.or(image),
    };
    let fill = |value: &mut Option<i64>, default: Option<i64>| {
        if value.is_none_or(|v| v == 0) {
            *value = default;
        }
    };
    if wish.test.as_ref().is_none_or(Vec::is_empty) {
        wish.test = image.test;
    }
    fill(&mut wish.interval, image.interval);
    fill(&mut wish.timeout, image.timeout);
    fill(&mut wish.start_period, image.start_period);
    fill(&mut wish.start_interval, image.start_interval);
    fill(&mut wish.retries, image.retries);
    Some(wish)
}

/// What a container's health is called; `none` without a check.
pub(crate) fn name(state: &State) -> &str {
    state.health.as_ref().map_or(word::NONE, |health| &health.status)
}

/// A container starts: its health is open again. Earlier results stay to be seen.
pub(super) fn begin(state: &mut State, config: &ContainerConfig) {
    state.health = Check::of(config).map(|_| {
        let log = state.health.take().and_then(|health| health.log).unwrap_or_default();
        Health { status: word::STARTING.to_owned(), failing_streak: 0, log: Some(log) }
    });
}

/// A container ended. Nobody who does not run is well, as in Docker.
pub(super) fn end(state: &mut State) {
    if let Some(health) = &mut state.health {
        word::UNHEALTHY.clone_into(&mut health.status);
    }
}

/// Adds a result. `age` is how long the container ran when the probe began.
/// Returns whether the status changed.
fn judge(health: &mut Health, check: &Check, result: HealthResult, age: Duration) -> bool {
    let before = health.status.clone();
    let good = result.exit_code == 0;
    let log = health.log.get_or_insert_default();
    log.push(result);
    log.drain(..log.len().saturating_sub(KEPT));
    if good {
        health.failing_streak = 0;
        word::HEALTHY.clone_into(&mut health.status);
    } else if health.status != word::STARTING || age >= check.start_period {
        health.failing_streak += 1;
        if health.failing_streak >= check.retries {
            word::UNHEALTHY.clone_into(&mut health.status);
        }
    }
    health.status != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> ContainerConfig {
        let test = Some(test.iter().map(|word| (*word).to_owned()).collect());
        ContainerConfig {
            healthcheck: Some(HealthConfig { test, ..HealthConfig::default() }),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn forms_of_a_test() {
        let command = |test: &[&str]| Check::of(&config(test)).map(|check| check.command.join(" "));
        assert_eq!(command(&["CMD", "curl", "-f"]).as_deref(), Some("curl -f"));
        assert_eq!(command(&["CMD-SHELL", "exit 1"]).as_deref(), Some("/bin/sh -c exit 1"));
        assert_eq!(command(&["NONE"]), None);
        assert_eq!(command(&[]), None);
        let own = ContainerConfig { shell: Some(vec!["/bin/ash".into(), "-xc".into()]), ..config(&["CMD-SHELL", "x"]) };
        assert_eq!(Check::of(&own).unwrap().command, ["/bin/ash", "-xc", "x"]);
    }

    #[test]
    fn failures_count_after_the_start_period_and_a_success_starts_over() {
        let check =
            Check { retries: 2, start_period: Duration::from_secs(10), ..Check::of(&config(&["CMD", "x"])).unwrap() };
        let mut state = State::default();
        begin(&mut state, &config(&["CMD", "x"]));
        let mut health = state.health.unwrap();
        let mut told = |code, seconds| {
            let result = HealthResult { exit_code: code, ..HealthResult::default() };
            let changed = judge(&mut health, &check, result, Duration::from_secs(seconds));
            (health.status.clone(), health.failing_streak, changed)
        };
        let at = |status: &str, streak, changed| (status.to_owned(), streak, changed);
        assert_eq!(told(1, 1), at("starting", 0, false));
        assert_eq!(told(1, 10), at("starting", 1, false));
        assert_eq!(told(0, 11), at("healthy", 0, true));
        assert_eq!(told(1, 12), at("healthy", 1, false));
        assert_eq!(told(-1, 13), at("unhealthy", 2, true));
        assert_eq!(told(1, 14), at("unhealthy", 3, false));
        assert_eq!(told(0, 15), at("healthy", 0, true));
        assert_eq!(health.log.unwrap().len(), KEPT);
    }

    #[test]
    fn pauses() {
        let check = Check { start_period: Duration::from_secs(10), ..Check::of(&config(&["CMD", "x"])).unwrap() };
        let seconds = |age, status| check.pause(Duration::from_secs(age), status).as_secs();
        assert_eq!(seconds(1, word::STARTING), 5);
        assert_eq!(seconds(1, word::HEALTHY), 30);
        assert_eq!(seconds(10, word::STARTING), 30);
    }

    #[test]
    fn values_that_make_no_sense() {
        let wish = HealthConfig { interval: Some(5), ..HealthConfig::default() };
        assert_eq!(validate(Some(&wish)).unwrap_err().to_string(), "Interval in Healthcheck cannot be less than 1ms");
        let wish = HealthConfig { retries: Some(-1), ..HealthConfig::default() };
        assert_eq!(validate(Some(&wish)).unwrap_err().to_string(), "Retries in Healthcheck cannot be negative");
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let image =
            HealthConfig { test: Some(vec!["CMD".into(), "x".into()]), interval: Some(7), ..HealthConfig::default() };
        let wish = HealthConfig { retries: Some(9), interval: Some(0), ..HealthConfig::default() };
        let merged = merge(Some(wish), Some(image.clone())).unwrap();
        assert_eq!((merged.test, merged.interval, merged.retries), (image.test.clone(), Some(7), Some(9)));
        assert_eq!(merge(None, Some(image.clone())), Some(image));
    }
}
