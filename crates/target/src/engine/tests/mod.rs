//! The engine on a target in memory: every moment can be chosen, every operation can be made to fail.

mod faults;
mod fixture;
mod patches;
mod random;
mod signals;
mod stops;
