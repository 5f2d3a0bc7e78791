//! What a stopped target says of itself: typed stop replies (GDB manual, "Stop Reply Packets").

use std::fmt;

use insn::Address;

use crate::packet::unhex;

/// A thread as the protocol names it. Numbers are the remote's: gdbserver's are the kernel's, others may count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId {
    /// Its process, where the remote speaks of several ("multiprocess").
    pub process: Option<u64>,
    /// Its number.
    pub thread: u64,
}

impl ThreadId {
    /// Reads `TID` or `pPID.TID`, hexadecimal; `None` where it is anything else, or means any or all threads (0, -1).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let positive = |text: &[u8]| number(text).filter(|number| *number != 0);
        let Some(both) = text.strip_prefix(b"p") else {
            return Some(Self { process: None, thread: positive(text)? });
        };
        let (process, thread) = split(both, b'.')?;
        Some(Self { process: Some(positive(process)?), thread: positive(thread)? })
    }
}

/// As in a packet.
impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "p{process:x}.{:x}", self.thread),
            None => write!(f, "{:x}", self.thread),
        }
    }
}

/// A signal by GDB's number for it (include/gdb/signals.def of its sources), which is not the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(pub u8);

/// The kernel's number (asm-generic/signal.h: all architectures but alpha, mips, parisc, sparc and xtensa) and GDB's, where they
/// differ. `SIGSTKFLT` has no number of GDB's.
const DIFFERENT: [(i32, u8); 12] = [
    (7, 10),  // SIGBUS
    (10, 30), // SIGUSR1
    (12, 31), // SIGUSR2
    (17, 20), // SIGCHLD
    (18, 19), // SIGCONT
    (19, 17), // SIGSTOP
    (20, 18), // SIGTSTP
    (23, 16), // SIGURG
    (29, 23), // SIGIO
    (30, 32), // SIGPWR
    (31, 12), // SIGSYS
    (32, 77),
];

impl Signal {
    /// No signal.
    pub const NONE: Self = Self(0);
    /// What an interrupt gives.
    pub const INT: Self = Self(2);
    /// An instruction that there is not.
    pub const ILL: Self = Self(4);
    /// A breakpoint or a step.
    pub const TRAP: Self = Self(5);
    /// What stops a program.
    pub const STOP: Self = Self(17);
    /// An access of memory that there is not.
    pub const SEGV: Self = Self(11);

    /// The kernel's number; `None` where Linux has no such signal.
    #[must_use]
    pub fn linux(self) -> Option<i32> {
        if let Some((linux, _)) = DIFFERENT.iter().find(|(_, gdb)| *gdb == self.0) {
            return Some(*linux);
        }
        let same = i32::from(self.0);
        match self.0 {
            1..=6 | 8 | 9 | 11 | 13..=15 | 21 | 22 | 24..=28 => Some(same),
            45..=75 => Some(same - 12), // SIGRTMIN + 1 on
            78 => Some(64),
            _ => None,
        }
    }

    /// From the kernel's number; `None` where the protocol has none.
    #[must_use]
    pub fn from_linux(number: i32) -> Option<Self> {
        (1..=78).map(Self).find(|signal| signal.linux() == Some(number))
    }
}

/// Why a thread stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The signal alone; a remote that does not say more leaves breakpoints and steps here too, with SIGTRAP.
    Signal,
    /// A breakpoint instruction. Where the remote announces that it says so, the PC is back at it.
    Breakpoint,
    /// A breakpoint of the processor's.
    HardwareBreakpoint,
    /// A watchpoint at this address.
    Watchpoint(Address),
    /// Libraries were loaded or unloaded.
    Libraries,
    /// It made a process.
    Fork(ThreadId),
    /// It made a process and waits for its exec or end.
    Vfork(ThreadId),
    /// That process executed something or ended.
    VforkDone,
    /// It executes this file now.
    Exec(Vec<u8>),
    /// It is new.
    Created,
    /// It enters this system call.
    SyscallEntry(u64),
    /// It comes back from this system call.
    SyscallReturn(u64),
    /// A recorded execution is at its beginning.
    ReplayBegin,
    /// A recorded execution is at its end.
    ReplayEnd,
}

/// A stop reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A thread, and with it every other, stands still.
    Stopped {
        /// Which; `None` where the remote does not say.
        thread: Option<ThreadId>,
        /// What it is about to receive; [`Signal::NONE`] or `TRAP` where there is none.
        signal: Signal,
        /// Why.
        cause: Cause,
        /// Registers that came along, by number (target's order of bytes).
        registers: Vec<(u32, Vec<u8>)>,
    },
    /// A process ended.
    Exited {
        /// Which.
        process: Option<u64>,
        /// Its status.
        status: u32,
    },
    /// A process ended by a signal.
    Killed {
        /// Which.
        process: Option<u64>,
        /// The signal.
        signal: Signal,
    },
    /// A thread ended (only where asked for).
    ThreadExited {
        /// Which.
        thread: ThreadId,
        /// Its status.
        status: u32,
    },
    /// Nothing that runs is left.
    NoneLeft,
}

impl Stop {
    /// Reads a stop reply; `None` where it is none.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        match kind {
            b'S' => Some(Self::Stopped {
                thread: None,
                signal: signal(rest)?,
                cause: Cause::Signal,
                registers: Vec::new(),
            }),
            b'T' => stopped(rest),
            b'W' => {
                let (status, process) = ended(rest)?;
                Some(Self::Exited { process, status: u32::try_from(number(status)?).ok()? })
            }
            b'X' => {
                let (number, process) = ended(rest)?;
                Some(Self::Killed { process, signal: signal(number)? })
            }
            b'w' => {
                let (status, thread) = split(rest, b';')?;
                let status = u32::try_from(number(status)?).ok()?;
                Some(Self::ThreadExited { thread: ThreadId::parse(thread)?, status })
            }
            b'N' if rest.is_empty() => Some(Self::NoneLeft),
            _ => None,
        }
    }

    /// The thread that stopped or ended, where one is named.
    #[must_use]
    pub fn thread(&self) -> Option<ThreadId> {
        match self {
            Self::Stopped { thread, .. } => *thread,
            Self::ThreadExited { thread, .. } => Some(*thread),
            _ => None,
        }
    }
}

/// `AA` or `AA;process:PID` of `W` and `X`.
fn ended(text: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let Some((status, rest)) = split(text, b';') else { return Some((text, None)) };
    let process = rest.strip_prefix(b"process:")?;
    Some((status, Some(number(process)?)))
}

/// `AA` and `NAME:VALUE;` any number of times.
fn stopped(text: &[u8]) -> Option<Stop> {
    let (signal_text, rest) = text.split_at_checked(2)?;
    let mut thread = None;
    let mut cause = Cause::Signal;
    let mut registers = Vec::new();
    for field in rest.split(|byte| *byte == b';').filter(|field| !field.is_empty()) {
        let (name, value) = split(field, b':')?;
        match name {
            b"thread" => thread = Some(ThreadId::parse(value)?),
            b"core" => {}
            _ => {
                if let Some(found) = self::cause(name, value)? {
                    cause = found;
                } else if let Some(register) = number(name) {
                    registers.push((u32::try_from(register).ok()?, unhex(value)?));
                }
            }
        }
    }
    Some(Stop::Stopped { thread, signal: signal(signal_text)?, cause, registers })
}

/// A cause by its name: `Some(None)` where it is no name of a cause, `None` where its value is wrong.
fn cause(name: &[u8], value: &[u8]) -> Option<Option<Cause>> {
    Some(Some(match name {
        b"swbreak" => Cause::Breakpoint,
        b"hwbreak" => Cause::HardwareBreakpoint,
        b"watch" | b"rwatch" | b"awatch" => Cause::Watchpoint(Address(number(value)?)),
        b"library" => Cause::Libraries,
        b"fork" => Cause::Fork(ThreadId::parse(value)?),
        b"vfork" => Cause::Vfork(ThreadId::parse(value)?),
        b"vforkdone" => Cause::VforkDone,
        b"exec" => Cause::Exec(unhex(value)?),
        b"create" => Cause::Created,
        b"syscall_entry" => Cause::SyscallEntry(number(value)?),
        b"syscall_return" => Cause::SyscallReturn(number(value)?),
        b"replaylog" if value == b"begin" => Cause::ReplayBegin,
        b"replaylog" => Cause::ReplayEnd,
        _ => return Some(None),
    }))
}

fn signal(text: &[u8]) -> Option<Signal> {
    u8::try_from(number(text)?).ok().map(Signal)
}

/// A hexadecimal number of 64 bits at most; leading zeros do not count.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let all_digits = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| all_digits)?;
    u64::from_str_radix(text, 16).ok()
}

/// What is before the first `at`, and behind it.
pub(crate) fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    let (before, rest) = text.split_at(place);
    Some((before, rest.get(1..)?))
}
