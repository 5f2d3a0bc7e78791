//! Real processes under xol. One binary, one module for each part of what must hold.

mod area;
mod bad_input;
mod children;
mod churn;
mod core_file;
mod death;
mod exact;
mod faults;
mod frames;
mod hostile;
mod insns;
mod jobs;
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
mod unwinding;
