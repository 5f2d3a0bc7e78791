//! Every instruction of chosen modules of a program probed at once, and the run compared with runs without probes.
//!
//! What a case shows ([`check`]):
//!
//! * **Output and exit status** are those of a run without probes, in the same environment, without address space
//!   randomisation ([`run`]).
//! * **Each count** is callgrind's of the same instruction ([`callgrind`], [`compare`]), less what a single-stepped run
//!   does before xol arms the libraries ([`before`]). A `rep` counts as one here and as its iterations there: its count
//!   must be that of a neighbour. Differences that are no fault of xol's are listed with the case, by module and
//!   function, with the reason.
//! * **The same counts** come of probes at some instructions only, a few hundred clusters ([`sparse`]).
//! * **The state** — general registers, flags, vector registers, the red zone and as much above the stack pointer — is the
//!   same at each instruction outside a stub that both a probed and a plain run come to, in lock-step ([`lockstep`]).

mod before;
mod callgrind;
mod cases;
mod check;
mod compare;
mod lockstep;
mod memory;
mod modules;
mod run;
mod sparse;
mod tracee;

pub use cases::{Case, Make, Size, all as all_cases};
pub use check::{Report, check};
