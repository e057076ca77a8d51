//! The request's configuration over the image's.

use budu_spec::docker::{ContainerConfig, Empty, HealthConfig};
use budu_spec::image::RunConfig;

/// Fills what the request left open from the image, by Docker's rules: an
/// entry point in the request drops the image's command; environment, exposed
/// ports, labels and volumes are united, the request winning.
pub(crate) fn merge(mut config: ContainerConfig, image: &RunConfig) -> ContainerConfig {
    fill(&mut config.user, &image.user);
    fill(&mut config.working_dir, &image.working_dir);
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    } else if config.entrypoint.as_deref() == Some(&[String::new()]) {
        config.entrypoint = None;
    }
    if config.stop_signal.as_ref().is_none_or(String::is_empty) {
        config.stop_signal = Some(image.stop_signal.clone()).filter(|s| !s.is_empty());
    }
    let env = config.env.get_or_insert_default();
    for entry in &image.env {
        if !env.iter().any(|e| key(e) == key(entry)) {
            env.push(entry.clone());
        }
    }
    for (name, value) in &image.labels {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if !image.exposed_ports.is_empty() {
        let ports = config.exposed_ports.get_or_insert_default();
        ports.extend(image.exposed_ports.keys().map(|port| (port.clone(), Empty {})));
    }
    if !image.volumes.is_empty() {
        let volumes = config.volumes.get_or_insert_default();
        volumes.extend(image.volumes.keys().map(|path| (path.clone(), Empty {})));
    }
    config.healthcheck = super::health::merge(config.healthcheck.take(), image.healthcheck.as_ref().map(health));
    if config.shell.is_none() && !image.shell.is_empty() {
        config.shell = Some(image.shell.clone());
    }
    config
}

/// The program and its arguments.
pub(crate) fn command(config: &ContainerConfig) -> Option<(String, Vec<String>)> {
    let mut words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned();
    let path = words.next()?;
    Some((path, words.collect()))
}

fn health(image: &budu_spec::image::Healthcheck) -> HealthConfig {
    let set = |value: i64| Some(value).filter(|v| *v != 0);
    HealthConfig {
        test: Some(image.test.clone()),
        interval: set(image.interval),
        timeout: set(image.timeout),
        start_period: set(image.start_period),
        start_interval: set(image.start_interval),
        retries: set(image.retries),
    }
}

fn fill(wish: &mut String, default: &str) {
    if wish.is_empty() {
        default.clone_into(wish);
    }
}

/// The name part of `NAME=value`.
pub(crate) fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|w| (*w).to_owned()).collect())
    }

    fn image() -> RunConfig {
        RunConfig { entrypoint: list(&["/entry"]), cmd: list(&["serve"]), ..RunConfig::default() }
    }

    #[test]
    fn entry_point_and_command() {
        type Case<'a> = (Option<Vec<String>>, Option<Vec<String>>, &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (None, None, &["/entry", "serve"]),
            (None, list(&["stop"]), &["/entry", "stop"]),
            (list(&["sh"]), None, &["sh"]),
            (list(&["sh"]), list(&["-c", "x"]), &["sh", "-c", "x"]),
            (list(&[""]), list(&["ls"]), &["ls"]),
        ];
        for (entrypoint, cmd, want) in cases {
            let wish =
                ContainerConfig { entrypoint: entrypoint.clone(), cmd: cmd.clone(), ..ContainerConfig::default() };
            let (path, args) = command(&merge(wish, &image())).unwrap();
            let got: Vec<&str> = std::iter::once(&path).chain(&args).map(String::as_str).collect();
            assert_eq!(got, *want, "{entrypoint:?} {cmd:?}");
        }
        assert_eq!(command(&ContainerConfig { entrypoint: list(&[""]), ..ContainerConfig::default() }).unwrap().0, "");
        let cleared = merge(ContainerConfig { entrypoint: list(&[""]), ..ContainerConfig::default() }, &image());
        assert_eq!(command(&cleared), None);
    }

    #[test]
    fn the_request_wins_and_the_image_fills() {
        let image = RunConfig {
            user: "web".into(),
            env: vec!["A=image".into(), "B=image".into()],
            working_dir: "/srv".into(),
            stop_signal: "SIGINT".into(),
            labels: [("x".to_owned(), "image".to_owned())].into(),
            exposed_ports: [("80/tcp".to_owned(), budu_spec::image::Empty {})].into(),
            ..RunConfig::default()
        };
        let wish = ContainerConfig {
            user: "root".into(),
            env: list(&["A=mine"]),
            labels: [("x".to_owned(), "mine".to_owned())].into(),
            ..ContainerConfig::default()
        };
        let merged = merge(wish, &image);
        assert_eq!(merged.user, "root");
        assert_eq!(merged.env, list(&["A=mine", "B=image"]));
        assert_eq!(merged.working_dir, "/srv");
        assert_eq!(merged.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(merged.labels["x"], "mine");
        assert!(merged.exposed_ports.unwrap().contains_key("80/tcp"));
    }
}
