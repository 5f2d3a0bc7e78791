//! Does a procedure keep its promise? An abstract machine that interprets the data of this crate, and an exhaustive
//! search of everything it may do.
//!
//! The machine knows no procedure and no architecture. It is made of the [`Caches`](crate::Caches) of a variant, its
//! [`Operation`](crate::Operation)s and the [`Step`](crate::Step)s of one [`Way`](crate::Way); each has the meaning
//! that its data says, and nothing else. What it abstracts stands in `docs/coherence.md`.
//!
//! | file | question |
//! |---|---|
//! | `run.rs` | Which run is it: caches, writer, steps, CPUs and threads? |
//! | `state.rs` | What can be told apart between two moments? |
//! | `event.rs` | What may happen next? |
//! | `machine.rs` | What does it change? |
//! | `operation.rs` | What does an operation do to caches? |
//! | `check.rs` | Which of the promises is broken, and how soonest? |
//! | `trace.rs` | How does one read that? |

mod check;
mod event;
mod machine;
mod operation;
mod run;
mod state;
mod trace;

pub use check::{BOUND, Finding, Promise};
pub use machine::Machine;
pub use run::{Run, Setup, Stage, stages};
pub use state::State;
pub use trace::Trace;
