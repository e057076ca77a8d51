//! What reads the kernel's files, within reach of the fuzzer: no interface of this crate.

use std::path::PathBuf;

use budu_sys::cgroup::Cgroup;

use crate::{cgroup, init};

/// What `events` says of a group, as JSON.
pub fn metrics(group: &Cgroup) -> String {
    serde_json::to_string(&cgroup::measured(group)).expect("plain data always encodes")
}

/// What is read of a mountinfo file: hierarchies of version 1 by the name of
/// their directory and where they are (`own` is a /proc/self/cgroup), options of
/// version 2, and kernel file systems that are mounted whole.
pub fn mount_table(table: &[u8], own: &str) -> (Vec<(String, PathBuf)>, Vec<String>, Vec<PathBuf>) {
    let (hierarchies, options) = init::cgroup_mounts(table, own);
    (hierarchies, options, init::bare_kernel_mounts(table))
}
