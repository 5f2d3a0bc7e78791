//! Real processes under xol. One binary, one module for each part of what must hold.

mod bad_input;
mod children;
mod churn;
mod death;
mod exact;
mod follow;
mod frames;
mod hostile;
mod insns;
mod kinds;
mod languages;
mod libraries;
mod nginx;
mod overload;
mod probes;
mod real_programs;
mod seccomp;
mod signals;
mod state;
mod storms;
mod surroundings;
mod terminal;
mod trace;
