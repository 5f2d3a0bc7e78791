//! Real processes under xol. One binary, one module for each part of what must hold.

mod bad_input;
mod children;
mod churn;
mod come_and_go;
mod death;
mod death_at_random;
mod exact;
mod frames;
mod hostile;
mod insns;
mod kinds;
mod languages;
mod libraries;
mod probes;
mod real_programs;
mod seccomp;
mod signals;
mod state;
mod storms;
mod terminal;
mod trace;
