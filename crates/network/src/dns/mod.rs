//! The name server inside containers of user-defined networks.
//!
//! It answers at 127.0.0.11, as Docker's does, for the names of containers on
//! the same networks, and asks the container's own name servers for the rest.
//!
//! - [`names`]: who is called what, and what a container sees of it. Pure.
//! - [`answer`]: one question, one answer. Pure.
//! - [`door`]: the sockets in a container's namespace, and the two rules that
//!   lead port 53 to them, so that a container may have its own port 53.
//! - [`server`]: one thread that serves all sockets; [`forward`] asks others.
//!
//! The daemon owns the sockets. Their ports are remembered with the container:
//! the next daemon binds the same ones, so the rules inside stay as they are.

mod answer;
mod door;
mod forward;
mod names;
mod server;

pub(crate) use door::open;
pub(crate) use names::View;
pub(crate) use server::Resolver;
