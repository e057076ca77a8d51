//! Other limits for a container of the engine while it runs.

use budu_spec::oci::Resources;

use crate::cgroup;
use crate::compile;
use crate::init::Failing;
use crate::oci::limits::{is_nothing, merge, to_write};
use crate::oci::undo::to_undo;
use crate::plan::CgroupPlan;
use crate::protocol::{Failure, FailureClass};

/// Changes the limits of the group at `path` by what `wish` has; `before` is
/// all that hold so far. What cannot be done whole is taken back.
///
/// # Errors
/// What the kernel refused, or that there is no such group.
pub fn change(path: &str, before: &Resources, wish: &Resources) -> Result<(), Failure> {
    if is_nothing(wish) {
        return Ok(());
    }
    let gone = || Failure { class: FailureClass::State, message: "the container has no control group".to_owned() };
    let layout = cgroup::layout()?.ok_or_else(gone)?;
    let plan = CgroupPlan { path: path.to_owned(), ..CgroupPlan::default() };
    let place = cgroup::resolve(Some(&layout), &plan)?;
    let write = |resources: &Resources| -> Failing<()> {
        let resources = compile::resources(resources)
            .map_err(|e| Failure { class: FailureClass::Invalid, message: e.to_string() })?;
        cgroup::update(&layout, &plan, &place, &resources)
    };
    let mut all = before.clone();
    merge(&mut all, wish);
    let writing = to_write(&all, wish);
    write(&writing).inspect_err(|_| {
        // Some of it may have been done; of a second failure there is nothing better to tell.
        let _ = write(&to_undo(before, &writing));
    })
}
