//! What a session is asked, and what it tells.

use std::ffi::OsString;

use target::TargetError;
use thiserror::Error;

use crate::catalogue::LookupError;

/// What to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Running processes.
    Attach(Vec<u32>),
    /// A command to start: the program and its arguments.
    Spawn(Vec<OsString>),
}

/// What a hit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Count.
    Count,
    /// Count, and write a record.
    Trace,
}

/// What a session is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The processes.
    pub target: Target,
    /// The probes, as typed.
    pub specs: Vec<String>,
    /// What each hit does.
    pub action: Action,
    /// Probe the children of the processes too: forked ones, and whatever any of them executes.
    pub follow: bool,
    /// Make any system call in a process that has a system-call filter, though one that is not foreseen may kill it.
    pub inject_freely: bool,
    /// A site that is hit more often than this in a second is out of the text for a while (sampled).
    pub max_rate: Option<u64>,
}

/// How a site is probed, or why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// A jump to the stub.
    Jump,
    /// A jump that ends in the bytes of the next instructions, which stay.
    Pun,
    /// A breakpoint.
    Trap,
    /// Not probed: see the reason.
    Refused,
    /// Its file is not mapped yet.
    Waiting,
}

impl Mechanism {
    pub(super) fn of(mechanism: insn::plan::Mechanism) -> Self {
        match mechanism {
            insn::plan::Mechanism::Jump => Self::Jump,
            insn::plan::Mechanism::Pun => Self::Pun,
            _ => Self::Trap,
        }
    }
}

/// Lost hits by reason. A lost hit was not recorded; its count is never guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostBy {
    /// The ring had no room.
    pub ring_full: u64,
    /// Beyond the nesting depth.
    pub nested: u64,
    /// Begun, never finished.
    pub abandoned: u64,
    /// The thread could not be given a slot of its own.
    pub no_slot: u64,
}

impl LostBy {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.nested, self.abandoned, self.no_slot].into_iter().fold(self.ring_full, u64::saturating_add)
    }
}

/// One probe at one address of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteStatus {
    /// Canonical name: `KIND:REAL_PATH:SYMBOL[+0xN]`.
    pub probe: String,
    /// As typed.
    pub spec: String,
    /// The process.
    pub pid: u32,
    /// Run-time address; `None` while its file is not mapped.
    pub address: Option<u64>,
    /// Virtual address as `nm` prints it.
    pub file_address: u64,
    /// How it is probed.
    pub mechanism: Mechanism,
    /// Hits so far (a lower bound while armed).
    pub hits: u64,
    /// Hits that could not be recorded.
    pub lost: u64,
    /// The same by reason.
    pub lost_by: LostBy,
    /// Why it is refused or waits.
    pub reason: Option<String>,
    /// If it was out of the text for a while ([`Options::max_rate`]): the share of its time that it was in, 0 to 1.
    pub sampled: Option<f64>,
}

/// One hit of a traced site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Index into [`Session::sites`]; sites are only ever added at the end.
    pub site: usize,
    /// Integer arguments of the calling convention.
    pub args: [u64; 6],
}

/// What a session did to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sites probed by a jump.
    pub jump: u64,
    /// Sites probed by a jump that ends in the bytes of the next instructions.
    pub pun: u64,
    /// Sites probed by a breakpoint.
    pub trap: u64,
    /// Sites refused.
    pub refused: u64,
    /// Sites whose file never appeared.
    pub waiting: u64,
    /// Sites that were out of the text for a while.
    pub sampled: u64,
    /// All hits.
    pub hits: u64,
    /// All lost hits.
    pub lost: u64,
    /// Threads seen.
    pub threads: u64,
    /// Time the target was stopped, all stops together, microseconds.
    pub stopped_us: u64,
    /// The longest stop, microseconds.
    pub longest_stop_us: u64,
    /// Whether the text is byte for byte what it was.
    pub text_restored: bool,
    /// Mappings of ours that stay, because something may still reach them.
    pub left_mapped: u64,
    /// Mappings made for stubs and state.
    pub mappings: u64,
    /// Pages of stubs.
    pub pages: u64,
    /// Bytes of memory that stubs and state took.
    pub resident: u64,
    /// The median of what a hit cost the thread that made it, by the tracer's clock, where the tracer carries hits out itself.
    pub hit_cost_ns: Option<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Whether the target still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// All processes of the target are gone.
    Ended,
}

/// Why a session could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Not built yet.
    #[error("{0} is not available yet")]
    NotAvailable(&'static str),
    /// The command of `-- CMD` could not be started.
    #[error("cannot start `{command}`: {source}")]
    Command {
        /// As typed.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A probe means nothing.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The process ended before anything was done to it.
    #[error("process {pid} ended before the probes were armed")]
    Ended {
        /// The process.
        pid: i32,
    },
    /// A probe that was named exactly cannot be placed.
    #[error("{probe} cannot be probed: {reason}")]
    Refused {
        /// Canonical name.
        probe: String,
        /// The process, if it is a running one.
        pid: Option<u32>,
        /// Where it is, its bytes, and why.
        reason: String,
    },
    /// The target cannot be reached or changed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A xol that was killed left its probes in the target.
    #[error("process {pid} still has the probes of a xol that was killed ({sites} sites)")]
    Leftovers {
        /// The process.
        pid: i32,
        /// How many.
        sites: usize,
    },
    /// The holder was killed while the probes were being armed.
    #[error("the holder process was killed before the probes were armed; {outcome}")]
    HolderDied {
        /// What became of the text.
        outcome: &'static str,
    },
    /// The user wanted out before anything was armed.
    #[error("interrupted before the probes were armed")]
    Cancelled,
    /// No free address range is large enough.
    #[error("process {pid} has no room for the area: no free range of {len} bytes")]
    NoRoom {
        /// The process.
        pid: i32,
        /// What was needed.
        len: u64,
    },
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Lookup(error) => error.help(),
            Self::Refused { probe, pid, .. } => {
                let process = pid.map(|pid| format!(" -p {pid}")).unwrap_or_default();
                Some(format!("`xol explain '{probe}'{process}` shows how it was analysed"))
            }
            Self::Leftovers { pid, .. } => Some(format!("`xol detach -p {pid}` restores its text")),
            Self::Target(TargetError::NotPermitted { pid, .. }) => {
                Some(format!("`xol doctor -p {pid}` says more"))
            }
            Self::Target(TargetError::Injected { call, source }) if call == "mmap" && is_limit(source.0) => Some(
                "the process has reached a limit: see address space and locked memory in /proc/PID/limits".to_owned(),
            ),
            _ => None,
        }
    }

    /// The exit status that reports it: 127 and 126 as a shell does for a command that is not found or not
    /// executable, 2 for what is not available yet or badly written, else 1.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::NotAvailable(_) => 2,
            Self::Lookup(error) if error.is_usage() => 2,
            Self::Command { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
            Self::Command { .. } => 126,
            _ => 1,
        }
    }
}

/// What mmap(2) says at RLIMIT_AS (ENOMEM) and, where all memory is locked, at RLIMIT_MEMLOCK (EAGAIN).
fn is_limit(number: i32) -> bool {
    use std::io::{Error, ErrorKind};
    matches!(Error::from_raw_os_error(number).kind(), ErrorKind::OutOfMemory | ErrorKind::WouldBlock)
}

/// Who is told how far the long work before the first stop has come, and may end it.
pub trait Progress {
    /// A step begins; `total` units of work, 0 if unknown.
    fn phase(&mut self, what: &str, total: u64);
    /// So many units of the step are done.
    fn advance(&mut self, done: u64);
    /// What the patterns mean.
    fn found(&mut self, _sites: usize, _files: usize) {}
    /// A line for the user.
    fn note(&mut self, text: &str);
    /// The work is done for now.
    fn done(&mut self) {}
    /// Whether the user wants out: the session gives up before it touches the target, or removes what it did.
    fn cancelled(&self) -> bool;
}
