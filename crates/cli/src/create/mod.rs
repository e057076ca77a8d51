//! From the flags of `run` and `create` to the body of a create request.

mod files;
mod flags;
mod mount;
mod network;
mod parse;
mod plan;
mod ports;
mod resources;
mod security;

pub(crate) use files::environment;
pub(crate) use flags::ContainerFlags;
pub(crate) use parse::cpus;
pub(crate) use plan::{plan, restart_policy};
