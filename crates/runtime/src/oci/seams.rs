use crate::init::{Failing, invalid};
use crate::plan::*;
use budu_spec::oci;
use std::path::Path;

pub(crate) fn run_hooks(_: &[Hook], _: &[u8], _: &Path) -> Failing<()> {
    Err(invalid("hooks".into()))
}
pub(crate) fn hooks(_: &oci::Spec) -> Failing<Hooks> {
    Ok(Hooks::default())
}
pub(crate) fn warnings(_: &oci::Spec) -> Vec<String> {
    Vec::new()
}
pub(crate) fn joining(_: &oci::Spec, process: &oci::Process, _: u32) -> Failing<ProcessPlan> {
    Ok(crate::compile::process(process, None)?)
}
