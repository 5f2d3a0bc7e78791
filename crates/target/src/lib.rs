//! The one crate that touches another process.
//!
//! `sys` holds every system call that needs `unsafe`; [`seam`] is the small trait that everything above it speaks;
//! [`linux`] is the ptrace implementation, `fake` one in memory for tests; [`engine`] installs, redirects and removes;
//! [`state`] is how the shared state is reached; [`holder`] is the process that is the ptracer, and the front's end of
//! the line to it. [`stepper`] is the other way to probe, for a process that a tracer holds which can do no more than stop and
//! go on: [`tracee`] is what it asks of that one,
//! [`remote`] a process held by a stub of the GDB remote protocol.

pub mod area;
pub mod engine;
pub mod error;
#[cfg(test)]
mod fake;
pub mod holder;
pub mod linux;
pub mod recover;
pub mod registers;
pub mod remote;
pub mod seam;
pub mod state;
pub mod stepper;
pub mod sys;
pub mod tracee;

pub use error::TargetError;
pub use seam::{Target, Tid};
