//! What front and holder say to each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{Change, ChangeReport, Left, Statistics};
use crate::error::TargetError;
use crate::seam::Tid;

/// An address space that the holder has in its hands, by a number of the holder's: a process may have several, one after
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Space(pub u32);

/// How processes are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// Keep their children.
    pub follow: bool,
    /// Make any call in a process that has a system-call filter.
    pub inject_freely: bool,
}

/// From the front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Seize a running process.
    Attach {
        /// The process.
        pid: i32,
        /// How it is to be held.
        manner: Manner,
    },
    /// Start a command; it is held at its first instruction.
    Spawn {
        /// Files to try, in order.
        paths: Vec<Vec<u8>>,
        /// Its arguments, its name first.
        argv: Vec<Vec<u8>>,
        /// How it is to be held.
        manner: Manner,
    },
    /// Change what is installed.
    Change(Space, Box<Change>),
    /// Let a held thread go.
    Go {
        /// Where it is.
        space: Space,
        /// The thread.
        tid: Tid,
    },
    /// Stop the world, and say which threads are in the area. It stands still until `Thaw`.
    Freeze(Space),
    /// Let the world go on.
    Thaw(Space),
    /// The front has opened a state that the holder kept for it: its file is not needed any more.
    Opened(Space),
    /// Take everything out and let the target go.
    Leave(Space),
    /// End.
    Quit,
}

/// The holder's answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To `Attach` and `Spawn`.
    Attached(Attached),
    /// To `Change`: with the holder's descriptor of the shared state (`Opened`), if it is new and not the target's alone.
    Changed(ChangeReport, Option<i32>),
    /// To `Leave`: with the holder's descriptor of a copy of the state, where that was the target's alone (`Opened`).
    Left(Left, Status, Option<i32>),
    /// To `Freeze`: the threads inside.
    Frozen(Vec<Tid>),
    /// To `Go`, `Thaw`, `Opened` and `Quit`.
    Done,
    /// It could not be done.
    Failed(TargetError),
}

/// A target under control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its address space.
    pub space: Space,
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
    Library(Space, Tid),
    /// The process of an address space ended, or executed another program; this one shares the memory and lives on.
    PassedOn(Space, i32),
    /// A new address space.
    Born(Newborn),
    /// The last thread of an address space is gone.
    Ended {
        /// Which.
        space: Space,
        /// Its numbers.
        numbers: Status,
        /// The holder's descriptor of a copy of its state, where that was the target's alone (`Opened`).
        saved: Option<i32>,
    },
    /// The command of `Spawn` ended, traced or not any more.
    Command {
        /// Exit status.
        status: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
    },
    /// For the user.
    Warning(String),
}

/// A new address space, come out of one that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newborn {
    /// Where it came from.
    pub parent: Space,
    /// Its number.
    pub space: Space,
    /// Its process.
    pub pid: i32,
    /// By fork: the holder's descriptor of its state, which the front is to open (`Opened`). Else by exec: its only thread
    /// waits for `Go`.
    pub origin: Origin,
}

/// How an address space came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// By fork: it runs, probed like its parent then.
    Forked {
        /// The holder's descriptor of its state, where that is not the process's alone.
        state: Option<i32>,
        /// How many changes its parent had seen.
        changes: u32,
    },
    /// By exec: the thread is held at its first instruction. Whether it is the same process as before, whose former address
    /// space is gone then.
    Executed {
        /// The thread.
        tid: Tid,
        /// No child that shared the memory, but the process itself.
        replaced: bool,
    },
}

/// One message from the holder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// An answer.
    Reply(Reply),
    /// Unasked.
    News(News),
}
