//! What records say of the container they come from.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::options::{Options, text};
use super::tag;
use crate::Error;
use crate::container::record::Record;

/// The container, in the words of tags and drivers.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) command: String,
    pub(crate) image_id: String,
    pub(crate) image_name: String,
    /// Unix nanoseconds.
    pub(crate) created: i64,
    pub(crate) hostname: String,
    env: Vec<String>,
    labels: BTreeMap<String, String>,
    options: Options,
}

impl About {
    pub(crate) fn new(record: &Record) -> About {
        let words = std::iter::once(&record.path).chain(&record.args).map(String::as_str);
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        About {
            id: record.id.to_string(),
            name: record.name.clone(),
            command: words.collect::<Vec<_>>().join(" "),
            image_id: record.image_id.clone(),
            image_name: record.config.image.clone(),
            created: record.created,
            hostname,
            env: record.config.env.clone().unwrap_or_default(),
            labels: record.config.labels.clone(),
            options: record.host_config.log_config.config.clone(),
        }
    }

    /// A field of a tag.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        Some(match name {
            "ID" => self.short_id().to_owned(),
            "FullID" | "ContainerID" => self.id.clone(),
            "Name" => self.name.clone(),
            "ContainerName" => format!("/{}", self.name),
            "Command" => self.command.clone(),
            "ImageID" => short(&self.image_id).to_owned(),
            "ImageFullID" | "ContainerImageID" => self.image_id.clone(),
            "ImageName" | "ContainerImageName" => self.image_name.clone(),
            "Hostname" => self.hostname.clone(),
            "DaemonName" => "docker".to_owned(),
            _ => return None,
        })
    }

    pub(crate) fn short_id(&self) -> &str {
        short(&self.id)
    }

    /// The tag; `default` when none was asked for.
    pub(crate) fn tag(&self, default: &str) -> Result<String, Error> {
        match text(&self.options, "tag") {
            "" => tag::render(default, self),
            wish => tag::render(wish, self),
        }
    }

    /// Labels and variables that were asked for.
    pub(crate) fn extra(&self) -> Result<BTreeMap<String, String>, Error> {
        let variables: BTreeMap<&str, &str> = self.env.iter().filter_map(|e| e.split_once('=')).collect();
        let labels = self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut extra = BTreeMap::new();
        for (all, list, pattern) in [(&labels, "labels", "labels-regex"), (&variables, "env", "env-regex")] {
            self.choose(all, list, pattern, &mut extra)?;
        }
        Ok(extra)
    }

    fn choose(
        &self,
        all: &BTreeMap<&str, &str>,
        list: &str,
        pattern: &str,
        extra: &mut BTreeMap<String, String>,
    ) -> Result<(), Error> {
        for key in text(&self.options, list).split(',') {
            if let Some(value) = all.get(key) {
                extra.insert(key.to_owned(), (*value).to_owned());
            }
        }
        let pattern = text(&self.options, pattern);
        if !pattern.is_empty() {
            let regex =
                Regex::new(pattern).map_err(|e| Error::invalid(format!("error parsing regexp: {e}: `{pattern}`")))?;
            let matching = all.iter().filter(|(key, _)| regex.is_match(key));
            extra.extend(matching.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        }
        Ok(())
    }
}

fn short(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    fn about(options: &[(&str, &str)]) -> About {
        let mut record = record("web");
        record.image_id = format!("sha256:{}", "0123456789ab".repeat(5));
        record.config.image = "nginx:1".to_owned();
        record.args = vec!["-x".to_owned()];
        record.config.env = Some(vec!["A=1".to_owned(), "AB=2".to_owned(), "C=3".to_owned()]);
        record.config.labels = [("one", "1"), ("two", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        record.host_config.log_config.config =
            options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        About::new(&record)
    }

    #[test]
    fn tags() {
        let named = about(&[]);
        assert_eq!(named.tag("{{.ID}}").unwrap(), named.id[..12]);
        for (tag, want) in [
            ("{{.Name}}/{{ .ImageName }}", "web/nginx:1"),
            ("x {{.ImageID}} {{upper .Name}} {{.Name | upper}}", "x 0123456789ab WEB WEB"),
            ("{{.Command}}", "true -x"),
        ] {
            assert_eq!(about(&[("tag", tag)]).tag("{{.ID}}").unwrap(), want);
        }
        for bad in ["{{.Nope}}", "{{.Name", "{{range .X}}"] {
            assert!(about(&[("tag", bad)]).tag("").is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_and_variables() {
        let extra = |options: &[(&str, &str)]| {
            about(options).extra().unwrap().into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(extra(&[]), "");
        assert_eq!(extra(&[("labels", "two,none"), ("env", "C")]), "C=3,two=2");
        assert_eq!(extra(&[("labels-regex", "^o"), ("env-regex", "^A")]), "A=1,AB=2,one=1");
    }
}
