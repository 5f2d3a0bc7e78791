//! What front and holder say to each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{Change, ChangeReport, Left, Statistics};
use crate::error::TargetError;
use crate::seam::Tid;

/// From the front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Seize a running process.
    Attach {
        /// The process.
        pid: i32,
    },
    /// Start a command; it is held at its first instruction.
    Spawn {
        /// Files to try, in order.
        paths: Vec<Vec<u8>>,
        /// Its arguments, its name first.
        argv: Vec<Vec<u8>>,
    },
    /// Change what is installed.
    Change(Box<Change>),
    /// Let a held thread go.
    Go {
        /// The thread.
        tid: Tid,
    },
    /// Stop the world, and say which threads are in the area. It stands still until `Thaw`.
    Freeze,
    /// Let the world go on.
    Thaw,
    /// Numbers so far.
    Status,
    /// Take everything out and let the target go.
    Leave,
    /// End.
    Quit,
}

/// The holder's answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To `Attach` and `Spawn`.
    Attached(Attached),
    /// To `Change`: with the holder's descriptor of the shared state.
    Changed(ChangeReport, Option<i32>),
    /// To `Leave`.
    Left(Left, Status),
    /// To `Freeze`: the threads inside.
    Frozen(Vec<Tid>),
    /// To `Status`.
    Status(Status),
    /// To `Go`, `Thaw` and `Quit`.
    Done,
    /// It could not be done.
    Failed(TargetError),
}

/// A target under control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The process.
    pub pid: i32,
    /// Number of its threads.
    pub threads: usize,
    /// The thread that is held at the program's first instruction, if it was just started.
    pub held: Option<Tid>,
}

/// Numbers for the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Time the whole target stood still, in all.
    pub stopped: Duration,
    /// The longest of those times.
    pub longest_stop: Duration,
    /// Threads moved from an interior boundary to their copy.
    pub strays: u64,
    /// Hits of breakpoints.
    pub traps: u64,
    /// Signals that found a thread in the area.
    pub held_signals: u64,
    /// Saved PCs in signal frames that were moved with the text.
    pub frames: u64,
    /// Most threads seen at once.
    pub threads: usize,
}

impl From<Statistics> for Status {
    fn from(from: Statistics) -> Self {
        let Statistics { stopped, longest_stop, strays, traps, held_signals, frames, threads } = from;
        Self { stopped, longest_stop, strays, traps, held_signals, frames, threads }
    }
}

/// What the holder tells unasked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum News {
    /// A library was loaded or unloaded; the thread waits for `Go`.
    Library(Tid),
    /// The program replaced itself by another; the thread waits for `Go`.
    Exec(Tid),
    /// The process ended.
    Ended {
        /// Exit status.
        status: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
    },
    /// For the user.
    Warning(String),
}

/// One message from the holder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// An answer.
    Reply(Reply),
    /// Unasked.
    News(News),
}
