//! The harness of the real-process tests: compiles the programs of `programs/`, runs them and xol, and looks at a
//! target from outside, before, during and after a session.
//!
//! Every wait has a deadline of [`PATIENCE`], long enough for a loaded machine, so a test ends in any case. Programs end
//! with their standard input, and every child is killed by its own handle when a test drops it.
//!
//! Environment: `XOL_BIN` names another binary than `target/<profile>/xol`; `XOL_TEST_OUT` another place for compiled
//! programs than `target/tmp`; `XOL_TEST_PROGRAMS` another folder than `programs/`; `XOL_TEST_ISA=i386` the 32-bit variant of
//! programs in C, C++ and assembly; `XOL_LONG=1` chooses the long form of the runs that have one.

mod compile;
pub mod every;
mod filter;
mod process;
mod random;
mod server;
mod session;
mod snapshot;
mod sys;
mod windows;

pub use compile::{Program, copy, out_dir, which};
pub use filter::{Filter, Verdict, Way};
pub use process::{Line, Process, wait_for};
pub use random::Random;
pub use server::{MACHINES, Machine, Server};
pub use session::{Report, Session, as_nobody, xol, xol_binary};
pub use snapshot::{
    Masks, Region, Snapshot, Watch, base_of, children_of, maps, masks, read_memory, status_field,
    text_changes, tracer_of,
};
pub use sys::{Handle, Signal, is_root, send};
pub use windows::{Window, Windows};

use std::time::Duration;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the long form of the long runs was asked for.
#[must_use]
pub fn long_form() -> bool {
    std::env::var_os("XOL_LONG").is_some_and(|value| value == "1")
}

/// The short or the long form of a number of rounds.
#[must_use]
pub fn rounds(short: u64, long: u64) -> u64 {
    if long_form() { long } else { short }
}

/// Ends the test with a printed reason: what it needs is not on this machine.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        eprintln!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}

/// The value of a `Result<_, String>`, or the end of the test with the reason.
#[macro_export]
macro_rules! need {
    ($wanted:expr) => {
        match $wanted {
            Ok(value) => value,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}
