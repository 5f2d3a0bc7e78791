//! What can go wrong between us and another process.

use std::fmt;
use std::io;

use insn::Address;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::seam::Tid;

/// The kernel's error number, shown in words. Travels between holder and front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl From<i32> for Errno {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        // Errors that the standard library makes itself (a short read) have no number: EIO is the kernel's word for it.
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A failure of the target layer.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// The process asked for.
        pid: i32,
    },
    /// The kernel does not let us trace it.
    #[error("not permitted to trace process {pid}: {why}")]
    NotPermitted {
        /// The process asked for.
        pid: i32,
        /// What stands in the way and what would permit it.
        why: String,
    },
    /// Another tracer has it.
    #[error("process {pid} is already traced by process {tracer}")]
    AlreadyTraced {
        /// The process asked for.
        pid: i32,
        /// Its tracer.
        tracer: i32,
    },
    /// Not a kind of process we can probe.
    #[error("process {pid} is not supported yet: {why}")]
    Unsupported {
        /// The process asked for.
        pid: i32,
        /// What kind it is.
        why: String,
    },
    /// The task ended.
    #[error("thread {tid} is gone")]
    Gone {
        /// The thread.
        tid: Tid,
    },
    /// The last task of an address space ended, or executed another program.
    #[error("that address space is gone: its process ended or executed another program")]
    SpaceGone,
    /// The target did not stop in time.
    #[error("thread {tid} did not stop within {milliseconds} ms (state {state})")]
    DidNotStop {
        /// The thread that did not stop.
        tid: Tid,
        /// Its state letter in /proc.
        state: char,
        /// The deadline.
        milliseconds: u64,
    },
    /// Memory of the target cannot be reached.
    #[error("cannot {verb} {len} bytes at {address}: {source}")]
    Memory {
        /// "read" or "write".
        verb: String,
        /// Where.
        address: Address,
        /// How much.
        len: usize,
        /// The kernel's answer.
        source: Errno,
    },
    /// An injected system call failed.
    #[error("the injected {call} failed: {source}")]
    Injected {
        /// Its name.
        call: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// The address wanted for a mapping is taken.
    #[error("the address {address} is already mapped")]
    Taken {
        /// The address.
        address: Address,
    },
    /// Live bytes are not what the plan expects.
    #[error("the bytes at {address} are {found}, not {expected}: the program or another tool changed them")]
    Changed {
        /// Where.
        address: Address,
        /// What is there, in hex.
        found: String,
        /// What was expected, in hex.
        expected: String,
    },
    /// The remote that holds the target says no, says nothing, or is gone.
    #[error("{0}")]
    Remote(String),
    /// The code of a process has no instruction that calls the kernel where we looked.
    #[error("no system-call instruction was found in process {pid}: {looked}")]
    NoGate {
        /// The process.
        pid: i32,
        /// Where we looked.
        looked: String,
    },
    /// Any other system call of ours.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// The other half of the session is gone or spoke nonsense.
    #[error("the connection between front and holder broke: {0}")]
    Line(String),
    /// The command could not be executed.
    #[error("cannot execute the command: {source}")]
    Exec {
        /// The kernel's answer.
        source: Errno,
    },
}

impl TargetError {
    /// Whether it says no more than that what was asked about has come to its end.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::NoSuchProcess { .. } | Self::Gone { .. } | Self::SpaceGone)
    }
}

/// Names a system call in an error.
pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> TargetError {
    move |error| TargetError::System { what: what.to_owned(), source: error.into() }
}
