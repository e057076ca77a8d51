//! `state`: one container's state as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use lexopt::Parser;
use serde::Serialize;

use super::arguments::{Global, only_id};
use super::container::{Container, Status};
use crate::init::Failing;

/// What `state` and `list` show, with runc's member names.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(rename = "ociVersion")]
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) pid: i32,
    pub(crate) status: &'static str,
    pub(crate) bundle: &'a Path,
    pub(crate) rootfs: &'a Path,
    pub(crate) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) owner: String,
}

impl<'a> Shown<'a> {
    pub(crate) fn of(container: &'a Container, status: Status) -> Shown<'a> {
        let state = &container.state;
        Shown {
            oci_version: &state.oci_version,
            id: &state.id,
            pid: if status == Status::Stopped { 0 } else { state.pid },
            status: status.as_str(),
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: &state.created,
            annotations: &state.annotations,
            owner: String::new(),
        }
    }
}

pub(super) fn command(global: &Global, parser: &mut Parser) -> Failing<i32> {
    let container = Container::open(global, &only_id(parser, "state")?)?;
    let shown = Shown::of(&container, container.status()?);
    println!("{}", serde_json::to_string_pretty(&shown).expect("plain data always encodes"));
    Ok(0)
}
