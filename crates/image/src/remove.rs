//! Removing names and images by Docker's rules: names go first, the image with its last name.

use std::collections::HashSet;

use budu_spec::{Digest, Reference};

use crate::error::Error;
use crate::image::Removed;
use crate::state::{Change, State};
use crate::store::{Found, Inner, Store, find};

/// What is known about the wish to remove.
struct Wish {
    force: bool,
    /// Snapshots whose container runs.
    running: HashSet<String>,
}

/// What a removal will do.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    changes: Vec<Change>,
    removed: Vec<Removed>,
}

impl Store {
    /// Removes a name, and the image with its last one; by id, the image with all its names
    /// (more than one needs `force`). `running` answers whether the container of a snapshot
    /// runs. Layers and blobs that nothing needs any more are deleted.
    ///
    /// `prune_parents` is accepted and has no effect: images here have no parent images.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] with Docker's texts when a container uses it.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        running: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Removed>, Error> {
        let _ = prune_parents;
        // Asked before anything is locked: the answer may need the caller's own locks.
        let containers: Vec<String> = self.inner.state().leases.keys().cloned().collect();
        let running = containers.into_iter().filter(|container| running(container)).collect();
        let wish = Wish { force, running };
        let removed = self.inner.retract(|state| {
            let plan = plan(state, &find(state, name)?, &wish)?;
            Ok((plan.changes, plan.removed))
        })?;
        self.inner.collect()?;
        Ok(removed)
    }
}

impl Inner {
    /// Forgets images that were removed by force and whose last snapshot is gone.
    pub(crate) fn drop_unused_hidden(&self) -> Result<(), Error> {
        self.retract(|state| {
            let unused = state
                .images
                .values()
                .filter(|record| record.hidden && state.leased(&record.target.digest).next().is_none());
            Ok((unused.map(|record| Change::DropImage(record.target.digest)).collect(), ()))
        })
    }
}

fn plan(state: &State, found: &Found, wish: &Wish) -> Result<Plan, Error> {
    match &found.name {
        Some(name) => by_name(state, &found.image, name, wish),
        None => by_id(state, &found.image, wish),
    }
}

fn by_name(state: &State, image: &Digest, name: &Reference, wish: &Wish) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    untag(&mut plan, name);
    if state.names_of(image).any(|other| other != name) {
        return Ok(plan);
    }
    if let Some(container) = state.leased(image).next() {
        if !wish.force {
            return Err(Error::Conflict {
                reason: format!(
                    "unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
                    name.familiar(),
                    short(container),
                    image.short()
                ),
            });
        }
        // Forced while a container runs: only the name goes, the image stays, dangling.
        if state.leased(image).any(|container| wish.running.contains(container)) {
            return Ok(plan);
        }
    }
    delete(state, image, &mut plan);
    Ok(plan)
}

fn by_id(state: &State, image: &Digest, wish: &Wish) -> Result<Plan, Error> {
    let id = image.short();
    let users: Vec<&str> = state.leased(image).collect();
    if let Some(container) = users.iter().find(|container| wish.running.contains(**container)) {
        let reason = format!(
            "unable to delete {id} (cannot be forced) - image is being used by running container {}",
            short(container)
        );
        return Err(Error::Conflict { reason });
    }
    let names: Vec<&Reference> = state.names_of(image).collect();
    if !wish.force {
        if names.len() > 1 {
            let reason =
                format!("unable to delete {id} (must be forced) - image is referenced in multiple repositories");
            return Err(Error::Conflict { reason });
        }
        if let Some(container) = users.first() {
            let reason = format!(
                "unable to delete {id} (must be forced) - image is being used by stopped container {}",
                short(container)
            );
            return Err(Error::Conflict { reason });
        }
    }
    let mut plan = Plan::default();
    for name in names {
        untag(&mut plan, name);
    }
    delete(state, image, &mut plan);
    Ok(plan)
}

fn untag(plan: &mut Plan, name: &Reference) {
    plan.changes.push(Change::DropName(name.clone()));
    plan.removed.push(Removed::Untagged(name.familiar()));
}

/// An image that a snapshot still needs is hidden instead; the last release drops it.
fn delete(state: &State, image: &Digest, plan: &mut Plan) {
    let change = match state.images.get(image) {
        Some(record) if state.leased(image).next().is_some() => {
            let mut record = record.clone();
            record.hidden = true;
            Change::PutImage(record)
        }
        _ => Change::DropImage(*image),
    };
    plan.changes.push(change);
    plan.removed.push(Removed::Deleted(image.to_string()));
}

/// Container ids are shown by their first 12 digits; other names in full.
fn short(container: &str) -> &str {
    match container.get(..12) {
        Some(start) if container.len() == 64 => start,
        _ => container,
    }
}
