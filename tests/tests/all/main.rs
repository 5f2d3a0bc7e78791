//! Real processes under xol. One binary, one module for each part of what must hold.

mod exact;
mod insns;
mod kinds;
mod languages;
mod probes;
mod state;
