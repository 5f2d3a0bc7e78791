//! The one crate that touches another process.
//!
//! `sys` holds every system call that needs `unsafe`; [`seam`] is the small trait that everything above it speaks;
//! [`linux`] is the ptrace implementation, `fake` one in memory for tests; [`engine`] installs, redirects and removes;
//! [`state`] is how the shared state is reached; [`holder`] is the process that is the ptracer, and the front's end of
//! the line to it.

pub mod area;
pub mod engine;
pub mod error;
#[cfg(test)]
mod fake;
pub mod holder;
pub mod linux;
pub mod recover;
pub mod registers;
pub mod seam;
pub mod state;
pub mod sys;

pub use error::TargetError;
pub use seam::{Target, Tid};
