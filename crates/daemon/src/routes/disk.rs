//! `GET /system/df`: what takes room on the disk.

use std::collections::HashMap;

use budu_engine::ListOptions;
use budu_image::Usage as StoreUsage;
use budu_spec::docker::{ApiVersion, ContainerSummary, DiskLists, DiskUsage, ImageSummary, Usage};
use budu_spec::{Filters, Reference};
use serde_json::Value;

use super::image_list::row;
use crate::http::{Call, Failure, Reply, blocking, ok};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    images: bool,
    containers: bool,
    volumes: bool,
    cache: bool,
}

impl Wish {
    fn of(types: &[String]) -> Result<Wish, Failure> {
        let known = ["container", "image", "volume", "build-cache"];
        if let Some(other) = types.iter().find(|text| !known.contains(&text.as_str())) {
            return Err(Failure::invalid(format!("unknown object type: {other}")));
        }
        let has = |word: &str| types.is_empty() || types.iter().any(|text| text == word);
        Ok(Wish {
            images: has("image"),
            containers: has("container"),
            volumes: has("volume"),
            cache: has("build-cache"),
        })
    }
}

/// `GET /system/df`.
pub(crate) async fn df(call: Call) -> Reply {
    let types = if call.version >= ApiVersion::new(42) { call.query.all("type") } else { Vec::new() };
    let (wish, verbose) = (Wish::of(&types)?, call.query.flag("verbose"));
    let answer = blocking(move || usage(&call, wish, verbose)).await??;
    ok(&answer)
}

fn usage(call: &Call, wish: Wish, verbose: bool) -> Result<DiskUsage, Failure> {
    let new = call.version >= ApiVersion::new(52);
    let store = call.app.engine.images().usage();
    let images = if wish.images { Some(images(call, &store)?) } else { None };
    let containers = if wish.containers { Some(containers(call)?) } else { None };
    let volumes = if wish.volumes { Some(values(&call.app.engine.volumes().usage()?)) } else { None };
    let cache = wish.cache.then(Vec::<Value>::new);
    let mut answer = DiskUsage::default();
    if new {
        let items = |list: Vec<Value>| verbose.then_some(list);
        answer.image_usage =
            images.as_ref().map(|list| Usage { items: items(values(list)), ..image_usage(list, &store) });
        answer.container_usage =
            containers.as_ref().map(|list| Usage { items: items(values(list)), ..container_usage(list) });
        answer.volume_usage = volumes.as_ref().map(|list| Usage { items: items(list.clone()), ..volume_usage(list) });
        answer.build_cache_usage = cache.as_ref().map(|list| Usage { items: items(list.clone()), ..Usage::default() });
    }
    if !new || !verbose {
        answer.lists = Some(DiskLists {
            layers_size: if wish.images { signed(store.total) } else { 0 },
            images,
            containers,
            volumes,
            build_cache: cache,
        });
    }
    Ok(answer)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn values<T: serde::Serialize>(list: &[T]) -> Vec<Value> {
    list.iter().map(|one| serde_json::to_value(one).unwrap_or_default()).collect()
}

fn images(call: &Call, store: &StoreUsage) -> Result<Vec<ImageSummary>, Failure> {
    let users: HashMap<String, i64> = store.containers.iter().map(|(id, n)| (id.clone(), signed(*n))).collect();
    let mut rows: Vec<ImageSummary> = call
        .app
        .engine
        .images()
        .list()?
        .iter()
        .map(|image| {
            let names = image.tags.iter().map(Reference::familiar).collect();
            let mut row = row(image, names, image.digests.clone(), call.version, &users);
            row.containers = users.get(&row.id).copied().unwrap_or(0);
            row.shared_size = signed(store.shared.get(&row.id).copied().unwrap_or(0));
            row
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.created));
    Ok(rows)
}

fn containers(call: &Call) -> Result<Vec<ContainerSummary>, Failure> {
    let options = ListOptions { all: true, limit: 0, size: true, filters: Filters::default() };
    Ok(call.app.engine.list(&options, call.version)?)
}

fn image_usage(list: &[ImageSummary], store: &StoreUsage) -> Usage {
    Usage {
        active_count: list.iter().filter(|image| image.containers > 0).count() as i64,
        total_count: list.len() as i64,
        reclaimable: signed(store.reclaimable),
        total_size: signed(store.total),
        items: None,
    }
}

fn container_usage(list: &[ContainerSummary]) -> Usage {
    let active = |row: &&ContainerSummary| matches!(row.state.as_str(), "running" | "paused" | "restarting");
    let size = |row: &ContainerSummary| row.size_rw.unwrap_or(0);
    Usage {
        active_count: list.iter().filter(active).count() as i64,
        total_count: list.len() as i64,
        reclaimable: list.iter().filter(|row| !active(row)).map(size).sum(),
        total_size: list.iter().map(size).sum(),
        items: None,
    }
}

fn volume_usage(list: &[Value]) -> Usage {
    let number = |row: &Value, key: &str| row["UsageData"][key].as_i64().unwrap_or(0).max(0);
    let idle = |row: &&Value| number(row, "RefCount") == 0;
    Usage {
        active_count: list.iter().filter(|row| !idle(row)).count() as i64,
        total_count: list.len() as i64,
        reclaimable: list.iter().filter(idle).map(|row| number(row, "Size")).sum(),
        total_size: list.iter().map(|row| number(row, "Size")).sum(),
        items: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let all = Wish { images: true, containers: true, volumes: true, cache: true };
        assert_eq!(Wish::of(&[]), Ok(all));
        let some = Wish::of(&["image".into(), "volume".into()]).unwrap();
        assert_eq!(some, Wish { containers: false, cache: false, ..all });
        assert!(Wish::of(&["cheese".into()]).is_err());
    }
}
