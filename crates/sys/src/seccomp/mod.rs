//! System call filters: OCI seccomp rules compiled to classic BPF, without any C library.
//!
//! [`Filter`] says what is allowed, [`compile`] turns it into a [`Program`], and [`Program::install`] hands that to
//! the kernel. Compiling is pure; installing allocates nothing, so that a freshly cloned process may do it.
//!
//! The meaning of a filter is that of libseccomp as runc uses it, because users' profiles were written against that:
//!
//! * every architecture has its own numbers; names an architecture does not know are skipped there;
//! * a call from an architecture that the filter does not list kills the process;
//! * rules whose action equals the default action are dropped;
//! * the first rule without conditions decides its call, whatever conditional rules exist for it; otherwise the first
//!   matching conditional rule decides; otherwise the default action;
//! * within one rule all conditions must hold, except that a rule naming one argument twice is read as one rule per
//!   condition;
//! * with a refusing default, numbers above every number the filter names answer `ENOSYS`, so that a program built for
//!   a newer kernel falls back instead of giving up.
//!
//! Two things are stricter than libseccomp. Arguments that the kernel cuts to 32 bits are compared by these 32 bits (see
//! `narrow.rs` for the holes that this closes). And a *conditional* rule for `socket` and its
//! family is never mirrored to the 32-bit `socketcall` multiplexer, whose arguments lie behind a pointer where no filter
//! can look.

mod arch;
mod assemble;
mod compile;
#[cfg(test)]
mod differential;
mod filter;
mod install;
mod interpret;
mod multiplex;
mod narrow;
mod tables;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use compile::compile;
pub use filter::{Action, Arg, Error, Filter, Flags, Op, Rule};
pub use install::{Instruction, Program, install};
pub use tables::{name, number};
