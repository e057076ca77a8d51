//! Commit: an image out of a container.

use budu_image::{CommitWish, Image};
use budu_spec::Reference;
use budu_spec::docker::{ContainerConfig, Empty};
use budu_spec::image::{self, Healthcheck, RunConfig, change};

use super::merge;
use super::record::Status;
use crate::{Engine, Error, clock};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The image's name, if it shall have one.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Freeze the container while its files are read.
    pub pause: bool,
    /// Takes the place of the container's configuration where it says something.
    pub config: Option<ContainerConfig>,
}

impl Engine {
    /// Makes an image of a container.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Invalid`] for a change that is none; [`Error::Conflict`] for a container
    /// that is being removed; [`Error::Image`].
    pub async fn commit_image(&self, name: &str, wish: Commit) -> Result<Image, Error> {
        let container = self.find(name)?;
        let word = match container.state().status {
            Status::Dead => Some("Dead"),
            Status::Removing => Some("being removed"),
            _ => None,
        };
        if let Some(word) = word {
            return Err(Error::conflict(format!("You cannot commit container {} which is {word}", container.id)));
        }
        let record = container.record();
        let config = configuration(&record.config, wish.config.as_ref(), &wish.changes)?;
        let request = CommitWish {
            name: wish.name.clone(),
            config,
            author: wish.author,
            comment: wish.comment.clone(),
            created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
            created: clock::print(clock::now()),
        };
        let frozen = wish.pause && container.state().status == Status::Running && self.pause(name).await.is_ok();
        let (images, id) = (self.images().clone(), container.id.to_string());
        let made = tokio::task::spawn_blocking(move || images.commit(&id, request)).await;
        if frozen && let Err(error) = self.thaw(&container).await {
            tracing::warn!(container = %container.id, %error, "still paused after a commit");
        }
        let image = made.map_err(|error| Error::Runtime { message: error.to_string() })??;
        let reference = wish.name.map(|name| name.familiar()).unwrap_or_default();
        let more = [("comment", wish.comment), ("imageID", image.id.to_string()), ("imageRef", reference)];
        self.tell(&container, "commit", &more);
        Ok(image)
    }
}

/// What containers of the new image start with.
fn configuration(
    own: &ContainerConfig,
    wish: Option<&ContainerConfig>,
    changes: &[String],
) -> Result<RunConfig, Error> {
    let base = run_config(own);
    let mut config = wish.map_or_else(|| base.clone(), run_config);
    change::apply(&mut config, changes).map_err(|error| Error::invalid(error.to_string()))?;
    fill(&mut config, base);
    Ok(config)
}

/// Fills what was left open from the container's own.
fn fill(config: &mut RunConfig, base: RunConfig) {
    for (text, own) in [
        (&mut config.user, base.user),
        (&mut config.working_dir, base.working_dir),
        (&mut config.stop_signal, base.stop_signal),
    ] {
        if text.is_empty() {
            *text = own;
        }
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd = base.cmd;
        }
        if config.entrypoint.is_none() {
            config.entrypoint = base.entrypoint;
        }
    }
    for entry in base.env {
        if !config.env.iter().any(|known| merge::key(known) == merge::key(&entry)) {
            config.env.push(entry);
        }
    }
    for (name, value) in base.labels {
        config.labels.entry(name).or_insert(value);
    }
    config.exposed_ports.extend(base.exposed_ports);
    config.volumes.extend(base.volumes);
    if config.healthcheck.is_none() {
        config.healthcheck = base.healthcheck;
    }
    if config.on_build.is_empty() {
        config.on_build = base.on_build;
    }
    if config.shell.is_empty() {
        config.shell = base.shell;
    }
}

/// The part of a container's configuration that images have.
fn run_config(config: &ContainerConfig) -> RunConfig {
    let keys = |map: &Option<std::collections::BTreeMap<String, Empty>>| {
        map.iter().flatten().map(|(key, _)| (key.clone(), image::Empty {})).collect()
    };
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    RunConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: list(&config.env),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        args_escaped: false,
        healthcheck: config.healthcheck.as_ref().map(|check| Healthcheck {
            test: check.test.clone().unwrap_or_default(),
            interval: check.interval.unwrap_or(0),
            timeout: check.timeout.unwrap_or(0),
            start_period: check.start_period.unwrap_or(0),
            start_interval: check.start_interval.unwrap_or(0),
            retries: check.retries.unwrap_or(0),
        }),
        on_build: list(&config.on_build),
        shell: list(&config.shell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_over_the_wish_and_the_wish_over_the_container() {
        let own = ContainerConfig {
            user: "web".into(),
            cmd: Some(vec!["serve".into()]),
            env: Some(vec!["A=own".into(), "B=own".into()]),
            labels: [("x".to_owned(), "own".to_owned())].into(),
            ..ContainerConfig::default()
        };
        let wish = ContainerConfig { env: Some(vec!["A=wish".into()]), ..ContainerConfig::default() };
        let config = configuration(&own, Some(&wish), &["LABEL y=change".into(), "ENV C=1".into()]).unwrap();
        assert_eq!(config.env, ["A=wish", "C=1", "B=own"]);
        assert_eq!((config.labels.len(), config.user.as_str()), (2, "web"));
        assert_eq!(config.cmd, Some(vec!["serve".to_owned()]));
        let config = configuration(&own, None, &["ENTRYPOINT [\"/e\"]".into()]).unwrap();
        assert_eq!((config.cmd, config.env.len()), (None, 2));
        assert!(configuration(&own, None, &["RUN x".into()]).is_err());
    }
}
