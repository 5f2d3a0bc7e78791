//! The engine on a target in memory: every moment can be chosen, every operation can be made to fail.

mod failed;
mod faults;
mod fixture;
mod frames;
mod patches;
mod random;
mod signals;
mod stops;
