//! Is a displaced instruction the same instruction?
//!
//! Random encodings of every instruction, each run once in place and once as [`insn::relocate`] displaces it, from the same
//! registers, flags, vector state, memory and stack. Both must end in the same state and at the same place, by the same signal
//! with the same details, once the displaced run's end is put in terms of the original by its state equations.
//!
//! This package executes x86-64 code, and is empty elsewhere.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

pub mod case;
pub mod compare;
pub mod encode;
pub mod fuzz;
pub mod random;
pub mod world;

mod executor;
mod sys;

pub use sys::End;
