//! The seam: everything above `sys` speaks to a process through [`Target`].
//!
//! Two implementations: ptrace ([`crate::linux`]) and, for tests only, memory (`fake.rs`); a third, for the GDB remote
//! protocol, is to come. Methods that need a stopped thread fail with [`TargetError::Gone`] or `System` when it runs or is gone.

use std::time::{Duration, Instant};
use std::{fmt, io};

use insn::{Address, Isa};
use serde::{Deserialize, Serialize};
use symbols::maps::Mapping;

use crate::error::{TargetError, system};
use crate::registers::Registers;
use crate::state::Remote;
use crate::sys::ptrace::SigInfo;

/// A thread, by the kernel's number for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tid(pub i32);

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened to a thread. It stands still until resumed, but for the last two.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Stopped because we asked, or a new thread's first stop.
    Interrupted,
    /// The whole process is stopped by job control.
    GroupStop(i32),
    /// About to receive this signal.
    Signal(SigInfo),
    /// At a system call's entry or exit.
    Syscall,
    /// About to end, its memory still there. Reported only where asked for ([`Target::report_exits`]).
    Exiting,
    /// Made a new task that shares the address space as a thread.
    Clone(Tid),
    /// Made a new process.
    Fork(Tid),
    /// Made a new process and waits for its exec or end.
    Vfork(Tid),
    /// Replaced the address space; the thread had this number before.
    Exec(Tid),
    /// Ended with this status.
    Exited(i32),
    /// Ended by this signal.
    Killed(i32),
}

/// How a stopped thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Run; deliver the signal unless 0.
    Run(i32),
    /// The same, but stop at the next entry or exit of a system call.
    ToSyscall(i32),
    /// Stay in the group-stop, but report its end.
    Listen,
}

/// What a kind of target can do: asked for, not assumed.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Threads are reported and controlled one by one.
    pub threads: bool,
    /// The tracer can share memory with the target.
    pub shared_memory: bool,
    /// Signals are seen before they are delivered.
    pub signals: bool,
    /// Text can be written while the threads run.
    pub write_running: bool,
}

/// The signal fields of /proc/PID/status: bit n-1 for signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalFields {
    /// Blocked in this thread.
    pub blocked: u64,
    /// Ignored by the process.
    pub ignored: u64,
    /// Caught by handlers of the process.
    pub caught: u64,
}

/// A system call to be made by a stopped thread of the target.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// For messages.
    pub name: &'static str,
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a killed tracer would do harm in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// A thread has registers that are not its own: it makes a call for us. Also: the program has a descriptor that is not,
    /// between two of those calls.
    ForeignRegisters,
    /// A patch is half written: it crosses a page, or a word where text is written word by word.
    HalfWritten,
    /// Threads stand where the text is about to lead them, and it does not yet: inside a patch that goes.
    MovedThreads,
    /// A signal is held back until its thread has left a stub: the thread's mask is not its own, and breakpoints stand on the
    /// stub's exits. Also: a thread stands at a trap of ours, whose signal it would get.
    HeldSignal,
}

/// A file to be executed, as far as privileges go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Where it is, as the process sees it.
    pub path: String,
    /// Whether it changes user, group or capabilities of who executes it (set-user-ID, set-group-ID, file capabilities).
    pub gives_privilege: bool,
    /// Whether the process that executes it has not got what it gives (only known behind the exec).
    pub is_deprived: bool,
}

/// One traced address space with its threads.
pub trait Target {
    /// The ISA of its tasks.
    fn isa(&self) -> Isa;
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The time by which [`Self::wait`] and the engine's own deadlines go.
    fn now(&self) -> Instant {
        Instant::now()
    }
    /// Lets the target run for a while.
    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// The tasks known to share the address space.
    fn tasks(&self) -> Vec<Tid>;
    /// Whether the task stands still.
    fn is_stopped(&self, tid: Tid) -> bool;
    /// Begins tracing threads that appeared unseen; how many.
    ///
    /// # Errors
    /// What prevents it.
    fn seize_new(&mut self) -> Result<usize, TargetError>;
    /// Adds a task that the kernel attached for us. Gives its first stop if that was reported before its maker's event:
    /// waitpid keeps no order between tasks.
    fn adopt(&mut self, tid: Tid) -> Option<Event>;
    /// Drops a task that is gone or no longer ours.
    fn forget(&mut self, tid: Tid);

    /// Waits for a thread's next event; `None` at the deadline.
    ///
    /// # Errors
    /// [`TargetError::Gone`] when there is nothing to wait for.
    fn wait(&mut self, tid: Tid, deadline: Instant) -> Result<Option<Event>, TargetError>;
    /// Asks a thread to stop.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn interrupt(&mut self, tid: Tid) -> Result<(), TargetError>;
    /// Lets a stopped thread go on.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn resume(&mut self, tid: Tid, how: Resume) -> Result<(), TargetError>;
    /// Lets go of a stopped thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn detach(&mut self, tid: Tid, signal: i32) -> Result<(), TargetError>;

    /// Registers of a stopped thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn registers(&self, tid: Tid) -> Result<Registers, TargetError>;
    /// Sets the registers of a stopped thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn set_registers(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError>;
    /// The thread pointer of a stopped thread: `%fs:0` or `%gs:0` is there. `None` for a thread without one.
    fn thread_pointer(&self, tid: Tid) -> Option<Address>;
    /// The signal by which job control has stopped the process, as a thread's present stop tells it.
    fn group_stop(&self, tid: Tid) -> Option<i32>;
    /// Replaces the siginfo that a thread is about to receive.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn set_siginfo(&mut self, tid: Tid, info: &SigInfo) -> Result<(), TargetError>;
    /// Signals queued to a stopped thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn pending(&self, tid: Tid) -> Result<Vec<SigInfo>, TargetError>;
    /// The signal mask of a stopped thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn signal_mask(&self, tid: Tid) -> Result<u64, TargetError>;
    /// Sets the signal mask of a stopped thread.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn set_signal_mask(&mut self, tid: Tid, mask: u64) -> Result<(), TargetError>;
    /// Masks and dispositions as the kernel tells them.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn signal_fields(&self, tid: Tid) -> Result<SignalFields, TargetError>;
    /// Where a thread that does not answer will go on in user mode, if it is blocked in the kernel.
    fn blocked_at(&self, tid: Tid) -> Option<Address>;
    /// Where the main stack began: arguments and environment are above, no return address. `None` where nobody tells.
    fn stack_bottom(&self) -> Option<Address> {
        None
    }
    /// The state letter of a thread (`R`, `S`, `D`, `Z`, ...).
    fn state(&self, tid: Tid) -> char;

    /// Fills `buffer` from target memory.
    ///
    /// # Errors
    /// [`TargetError::Memory`].
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), TargetError>;
    /// Writes target memory, text included.
    ///
    /// # Errors
    /// [`TargetError::Memory`].
    fn write(&mut self, address: Address, bytes: &[u8]) -> Result<(), TargetError>;
    /// A task that has the memory, to be asked about it: one that has ended shows nothing of it, the process's first thread
    /// as well as any other. `None` where nobody has it any more.
    fn witness(&self) -> Option<Tid>;
    /// What a task shows to be mapped: nothing where it has ended.
    ///
    /// # Errors
    /// What prevents reading it.
    fn mappings_of(&self, tid: Tid) -> Result<Vec<Mapping>, TargetError>;
    /// What is mapped.
    ///
    /// # Errors
    /// What prevents reading it; also where those who have the memory show nothing.
    fn mappings(&self) -> Result<Vec<Mapping>, TargetError> {
        // Whoever is asked may end before the answer.
        for _ in 0..=self.tasks().len() {
            let Some(witness) = self.witness() else { return Ok(Vec::new()) };
            let mappings = self.mappings_of(witness)?;
            if !mappings.is_empty() {
                return Ok(mappings);
            }
        }
        Err(system("reading /proc/PID/maps")(io::Error::from_raw_os_error(libc::ENODATA)))
    }
    /// Makes a stopped thread carry out system calls; it stands afterwards as before, its own interrupted call to be
    /// restarted. One result per call: the kernel's raw answer.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn call(&mut self, tid: Tid, calls: &[Call]) -> Result<Vec<i64>, TargetError>;
    /// The process's number (thread group).
    fn group(&self) -> i32;
    /// The process (thread group) that a task belongs to.
    fn group_of(&self, tid: Tid) -> i32;
    /// The number by which the process itself knows a task of its own: another than ours in another pid namespace.
    fn number_inside(&self, tid: Tid) -> Tid {
        tid
    }
    /// Whether the task is a thread of the process (not another process that shares its memory).
    fn is_thread(&self, tid: Tid) -> bool;
    /// Whether the process `tid`, made by the target, shares its memory. `maker` made it just now, and stands at the event of
    /// that.
    fn shares_memory(&self, maker: Option<Tid>, tid: Tid) -> bool;
    /// The process `tid`, just made by the target, as a target of its own: it has yet to report its first stop.
    ///
    /// # Errors
    /// [`TargetError::NoSuchProcess`] when it is gone.
    fn child(&mut self, tid: Tid) -> Result<Self, TargetError>
    where
        Self: Sized;
    /// The process `tid`, stopped at the event of its exec, has an address space of its own now: a target of its own. What
    /// shares the former one stays here.
    ///
    /// # Errors
    /// What prevents reaching the new one.
    fn part(&mut self, tid: Tid) -> Result<Self, TargetError>
    where
        Self: Sized;
    /// The file that a task at the entry of a system call is about to execute, if that call is one that executes.
    fn about_to_execute(&self, tid: Tid) -> Option<Executable>;
    /// The file that a process executes.
    fn executable(&self, tid: Tid) -> Option<Executable>;
    /// Whether a system-call filter is in the way: a call that it does not expect may be the process's death.
    fn is_filtered(&self) -> bool;
    /// Reports the end of tasks before their memory is gone ([`Event::Exiting`]). All are stopped.
    ///
    /// # Errors
    /// What prevents it.
    fn report_exits(&mut self) -> Result<(), TargetError>;
    /// Queues a signal to a task, from ourselves.
    ///
    /// # Errors
    /// [`TargetError::Gone`].
    fn send(&self, tid: Tid, signal: i32) -> Result<(), TargetError>;
    /// The shared state at `at`, where it is the target's private memory.
    ///
    /// # Errors
    /// What prevents reaching it.
    fn remote_state(&self, at: Address) -> Result<Remote, TargetError>;
    /// Something begins (or ended) that must not be cut short by our own death.
    fn mark(&self, window: Window, open: bool);
    /// Has the tracer run on every CPU that it may run on, so that each changes address spaces.
    ///
    /// # Errors
    /// What prevents it.
    fn visit_every_cpu(&self) -> Result<(), TargetError>;
    /// The target's descriptors of files whose name begins so.
    fn files_called(&self, name: &str) -> Vec<u64>;
    /// Opens file descriptor `fd` of the task `tid` for ourselves.
    ///
    /// # Errors
    /// What prevents it.
    fn take_file(&mut self, tid: Tid, fd: i32) -> Result<std::fs::File, TargetError>;
}
