//! `GET /images/json`.

use std::collections::HashMap;

use budu_image::Image;
use budu_spec::docker::{ApiVersion, ImageSummary};
use budu_spec::{Filters, Reference};

use super::image::seconds;
use crate::http::{Call, Failure, Reply, ok};

/// Filter keys.
const KEYS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// `GET /images/json`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = call.filters()?;
    filters.check_keys(KEYS)?;
    let store = call.app.engine.images();
    let at = |key: &str| -> Result<Option<i64>, Failure> {
        let name = filters.values(key).first();
        Ok(name.map(|name| store.resolve(name)).transpose()?.map(|image| seconds(&image.created)))
    };
    let wish = Wish {
        filters: &filters,
        dangling: filters.flag("dangling")?,
        before: at("before")?,
        since: at("since")?,
        until: until(&filters)?,
    };
    let mut users: HashMap<String, i64> = HashMap::new();
    if call.version >= ApiVersion::new(51) {
        for (_, image) in store.leases()? {
            *users.entry(image.to_string()).or_default() += 1;
        }
    }
    let shared = if call.query.flag("shared-size") { Some(store.usage().shared) } else { None };
    let mut rows: Vec<ImageSummary> = store
        .list()?
        .iter()
        .filter_map(|image| {
            let names = wish.names(image)?;
            let mut row = row(image, names, wish.digests(image), call.version, &users);
            if let Some(shared) = &shared {
                row.shared_size = shared.get(&row.id).map_or(0, |size| i64::try_from(*size).unwrap_or(i64::MAX));
            }
            Some(row)
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.created));
    ok(&rows)
}

pub(super) fn until(filters: &Filters) -> Result<Option<i64>, Failure> {
    let text = filters.values("until").first();
    let bad = |text: &str| Failure::invalid(format!("failed to parse value as time or duration: \"{text}\""));
    let parse = |text: &String| budu_spec::units::parse_time(text, jiff::Timestamp::now()).map_err(|_| bad(text));
    let time = text.map(parse).transpose()?;
    Ok(time.map(|t| t.as_second()))
}

struct Wish<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    before: Option<i64>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Wish<'_> {
    /// The names to show an image with; `None` when it is not wanted.
    fn names(&self, image: &Image) -> Option<Vec<String>> {
        let created = seconds(&image.created);
        let dangling = image.tags.is_empty();
        let wanted = self.dangling.is_none_or(|wish| wish == dangling)
            && self.before.is_none_or(|t| created < t)
            && self.since.is_none_or(|t| created > t)
            && self.until.is_none_or(|t| created <= t)
            && self.filters.labels_match(&image.config.config.labels);
        let patterns = self.filters.values("reference");
        let fits = |tag: &&Reference| {
            let (full, name) = (tag.familiar(), tag.familiar_name());
            patterns.iter().any(|p| glob(p, &full) || glob(p, &name))
        };
        let names: Vec<String> =
            image.tags.iter().filter(|t| patterns.is_empty() || fits(t)).map(Reference::familiar).collect();
        (wanted && (patterns.is_empty() || !names.is_empty())).then_some(names)
    }

    /// The `repository@digest` names to show it with.
    fn digests(&self, image: &Image) -> Vec<String> {
        let patterns = self.filters.values("reference");
        let fits = |digest: &&String| {
            let repository = digest.split('@').next().unwrap_or_default();
            patterns.is_empty() || patterns.iter().any(|p| glob(p, digest) || glob(p, repository))
        };
        image.digests.iter().filter(fits).cloned().collect()
    }
}

pub(super) fn row(
    image: &Image,
    names: Vec<String>,
    digests: Vec<String>,
    version: ApiVersion,
    users: &HashMap<String, i64>,
) -> ImageSummary {
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    let id = image.id.to_string();
    let labels = &image.config.config.labels;
    let mut repo_tags = names;
    let mut repo_digests = digests;
    if version < ApiVersion::new(43) {
        if repo_tags.is_empty() {
            repo_tags.push("<none>:<none>".to_owned());
        }
        if repo_digests.is_empty() {
            repo_digests.push("<none>@<none>".to_owned());
        }
    }
    ImageSummary {
        containers: if version >= ApiVersion::new(51) { users.get(&id).copied().unwrap_or(0) } else { -1 },
        created: seconds(&image.created),
        labels: (!labels.is_empty()).then(|| labels.clone()),
        descriptor: (version >= ApiVersion::new(48)).then(|| serde_json::to_value(&image.target).unwrap_or_default()),
        repo_digests,
        repo_tags,
        shared_size: -1,
        size,
        virtual_size: (version < ApiVersion::new(44)).then_some(size),
        id,
        ..ImageSummary::default()
    }
}

/// Matches `*` (anything but a slash) and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    fn fits(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                let reach = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
                (0..=reach).any(|n| fits(rest, &text[n..]))
            }
            (Some((b'?', rest)), Some((byte, tail))) => *byte != b'/' && fits(rest, tail),
            (Some((want, rest)), Some((byte, tail))) => want == byte && fits(rest, tail),
            _ => false,
        }
    }
    fits(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("alp*", "alpine", true),
            ("alp*", "alpine:3", true),
            ("*:3", "alpine:3", true),
            ("a?pine", "alpine", true),
            ("alp*", "x/alpine", false),
            ("*/alpine", "x/alpine", true),
            ("alpine", "alpine:3", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
