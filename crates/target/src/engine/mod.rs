//! What is done to one address space: the world stopped and let go, text patched and restored, strays redirected, signals
//! kept out of the area, children let go clean.
//!
//! Generic over [`Target`](crate::seam::Target), so that it runs against memory (`fake`) in its tests.

mod alone;
mod change;
mod children;
mod dispositions;
mod drain;
mod failed;
mod frames;
mod harm;
mod inherit;
mod leave;
mod place;
mod state;
#[cfg(test)]
mod tests;
mod traps;
mod world;

pub use change::{Backing, Change, ChangeReport, Patched};
pub use leave::Left;
pub use state::{Born, Engine, Notice, Statistics};
