//! `POST /images/prune`.

use budu_engine::Engine;
use budu_image::{Error, Image, Removed};
use budu_spec::Filters;
use budu_spec::docker::ImageDeleted;
use serde_json::json;

use super::image::seconds;
use super::image_list::until;
use crate::http::{Call, Failure, Reply, blocking, ok};

/// Filter keys.
const KEYS: &[&str] = &["dangling", "label", "label!", "until"];

/// `POST /images/prune`.
pub(crate) async fn prune(call: Call) -> Reply {
    let filters = call.filters()?;
    filters.check_keys(KEYS)?;
    // Without a word about it, only images without a name go.
    let dangling = filters.flag("dangling")?.unwrap_or(true);
    let until = until(&filters)?;
    let engine = call.app.engine.clone();
    let (removed, reclaimed) = blocking(move || sweep(&engine, &filters, dangling, until)).await??;
    let engine = &call.app.engine;
    engine.events().publish("image", "prune", "", [("reclaimed".to_owned(), reclaimed.to_string())].into());
    let rows: Vec<ImageDeleted> = removed
        .into_iter()
        .map(|step| match step {
            Removed::Untagged(name) => ImageDeleted { untagged: Some(name), deleted: None },
            Removed::Deleted(id) => ImageDeleted { untagged: None, deleted: Some(id) },
        })
        .collect();
    ok(&json!({"ImagesDeleted": (!rows.is_empty()).then_some(rows), "SpaceReclaimed": reclaimed}))
}

/// Removes what no container uses; what was removed, and the bytes that are free now.
fn sweep(
    engine: &Engine,
    filters: &Filters,
    dangling: bool,
    until: Option<i64>,
) -> Result<(Vec<Removed>, u64), Failure> {
    let store = engine.images();
    let before = store.usage();
    let mut removed = Vec::new();
    for image in store.list()? {
        let id = image.id.to_string();
        let used = before.containers.get(&id).is_some_and(|count| *count > 0);
        if used || !wanted(&image, filters, dangling, until) {
            continue;
        }
        for name in names(&image) {
            match store.remove(&name, false, true, &|container| engine.is_running(container)) {
                Ok(steps) => {
                    for step in &steps {
                        let (action, name) = match step {
                            Removed::Untagged(name) => ("untag", name.clone()),
                            Removed::Deleted(id) => ("delete", id.clone()),
                        };
                        engine.events().publish("image", action, &id, [("name".to_owned(), name)].into());
                    }
                    removed.extend(steps);
                }
                // Somebody began to use it, or removed it, a moment ago.
                Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok((removed, before.total.saturating_sub(store.usage().total)))
}

fn wanted(image: &Image, filters: &Filters, dangling: bool, until: Option<i64>) -> bool {
    (!dangling || image.tags.is_empty())
        && until.is_none_or(|until| seconds(&image.created) <= until)
        && filters.labels_match(&image.config.config.labels)
}

/// What it goes by: its names, then by id what may be left.
fn names(image: &Image) -> Vec<String> {
    match image.tags.is_empty() {
        true => vec![image.id.to_string()],
        false => image.tags.iter().map(budu_spec::Reference::familiar).collect(),
    }
}
