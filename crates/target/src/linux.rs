//! A process under ptrace.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use insn::{Address, Isa};
use symbols::maps::Mapping;
use symbols::stat::Stat;
use symbols::status::{SignalSet, Status};

use crate::error::{TargetError, system};
use crate::registers::Registers;
use crate::seam::{Call, Capabilities, Event, Executable, Resume, SignalFields, Target, Tid, Window};
use crate::state::Remote;
use crate::sys::ptrace::{self, Running, SigInfo, Stopped, Wait};
use crate::sys::{affinity, poll, process};

mod execute;
mod guests;
mod inject;
mod living;
pub mod permission;
mod sharing;
mod tracer;
mod windows;

pub use living::{is_alive, shown_by};
pub use permission::explain;
pub use tracer::Tracer;

/// A task's state, as far as we know. Registers and siginfo can be reached only through `Stopped`.
#[derive(Debug)]
enum State {
    Running(Running),
    Stopped(Stopped),
    /// Between two states, while a transition consumes it; also: the transition failed since the task is gone.
    Gone,
}

impl State {
    fn stopped(&self) -> Option<&Stopped> {
        if let Self::Stopped(stopped) = self { Some(stopped) } else { None }
    }
}

/// One process (thread group) and everything that shares its address space, under ptrace.
#[derive(Debug)]
pub struct Process {
    /// A thread group of those that share the memory: the one that it began with, as long as that lives.
    pid: i32,
    isa: Isa,
    tasks: BTreeMap<Tid, State>,
    tracer: Rc<Tracer>,
    memory: File,
    /// A `syscall` instruction of the target's own.
    gate: Option<Address>,
    /// Text is written word by word with ptrace, because /proc/PID/mem does not allow it (or a test says so).
    poke: bool,
    /// Nobody told whether others share the memory.
    is_unsure: bool,
}

/// How long a thread under our hands may take to reach its next stop. To give up would leave it with registers that are
/// not its own, so the patience is nearly the front's: registering for membarrier waits for a grace period of the kernel, which
/// on a starved machine took over ten seconds.
const TRANSITION: Duration = Duration::from_secs(100);

impl Process {
    /// Seizes all threads of a running process; they go on running.
    ///
    /// # Errors
    /// No such process, not permitted, already traced, unsupported.
    pub fn attach(tracer: &Rc<Tracer>, pid: i32) -> Result<Self, TargetError> {
        let mut process = Self::with_tasks(tracer, pid, BTreeMap::new())?;
        while process.seize_new()? + process.seize_guests()? > 0 {}
        // Threads that have ended cannot be seized.
        if process.tasks.is_empty() { Err(TargetError::NoSuchProcess { pid }) } else { Ok(process) }
    }

    /// A process that the kernel attached for us when another made it, whose maker did not live to tell.
    ///
    /// # Errors
    /// It is gone.
    pub fn orphan(tracer: &Rc<Tracer>, pid: i32) -> Result<Self, TargetError> {
        let state = State::Running(Running::auto_attached(pid));
        Self::with_tasks(tracer, pid, BTreeMap::from([(Tid(pid), state)]))
    }

    fn with_tasks(tracer: &Rc<Tracer>, pid: i32, tasks: BTreeMap<Tid, State>) -> Result<Self, TargetError> {
        let memory = permission::open_memory(pid)?;
        let tracer = Rc::clone(tracer);
        let (isa, poke) = (isa_of(pid), force_poke());
        Ok(Self { pid, isa, tasks, tracer, memory, gate: None, poke, is_unsure: false })
    }

    /// Whether other processes may share the memory that were not found: neither the kernel nor the memory itself tells who does.
    #[must_use]
    pub fn may_have_unseen_guests(&self) -> bool {
        self.is_unsure
    }

    /// Drops a task that has ended. With the last one of its process another process that shares the memory stands for it: the
    /// number is nobody's from now on, or somebody else's.
    fn drop_task(&mut self, tid: Tid) {
        self.tasks.remove(&tid);
        let has_first = self.tasks.contains_key(&Tid(self.pid));
        // The first thread may have ended before we came.
        if has_first || self.tasks.keys().any(|task| self.is_thread(*task)) {
            return;
        }
        self.pid = self.tasks.keys().find_map(|task| group_of(*task)).unwrap_or(self.pid);
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Notes what waitpid said of a task.
    pub fn note(&mut self, tid: Tid, wait: Wait) -> Event {
        match wait {
            Wait::Exited(_) | Wait::Killed(_) => self.drop_task(tid),
            _ => self.set_stopped(tid),
        }
        self.event(tid, wait)
    }

    fn set_stopped(&mut self, tid: Tid) {
        let state = self.tasks.entry(tid).or_insert(State::Gone);
        *state = match std::mem::replace(state, State::Gone) {
            State::Running(running) => State::Stopped(running.into_stopped()),
            State::Stopped(stopped) => State::Stopped(stopped),
            // Reported by waitpid for a task not seen before: the kernel attached it.
            State::Gone => State::Stopped(Running::auto_attached(tid.0).into_stopped()),
        };
    }

    fn event(&self, tid: Tid, wait: Wait) -> Event {
        let task = |message: u64| Tid(i32::try_from(message).unwrap_or(0));
        match wait {
            Wait::Interrupted => Event::Interrupted,
            Wait::GroupStop(signal) => Event::GroupStop(signal),
            Wait::Signal(signal) => Event::Signal(
                self.stopped(tid)
                    .and_then(|stopped| stopped.siginfo().map_err(system("PTRACE_GETSIGINFO")))
                    .unwrap_or_else(|_| SigInfo::new(signal, 0, 0)),
            ),
            Wait::Syscall => Event::Syscall,
            Wait::Event(libc::PTRACE_EVENT_CLONE, message) => Event::Clone(task(message)),
            Wait::Event(libc::PTRACE_EVENT_FORK, message) => Event::Fork(task(message)),
            Wait::Event(libc::PTRACE_EVENT_VFORK, message) => Event::Vfork(task(message)),
            Wait::Event(libc::PTRACE_EVENT_EXEC, message) => Event::Exec(task(message)),
            Wait::Event(libc::PTRACE_EVENT_EXIT, _) => Event::Exiting,
            Wait::Event(..) => Event::Interrupted,
            Wait::Exited(status) => Event::Exited(status),
            Wait::Killed(signal) => Event::Killed(signal),
        }
    }

    fn stopped(&self, tid: Tid) -> Result<&Stopped, TargetError> {
        match self.tasks.get(&tid) {
            Some(State::Stopped(stopped)) => Ok(stopped),
            _ => Err(TargetError::Gone { tid }),
        }
    }

    /// Resumes a stopped task by `how`, keeping its type-state.
    fn transition(
        &mut self,
        tid: Tid,
        how: impl FnOnce(Stopped) -> io::Result<Running>,
    ) -> Result<(), TargetError> {
        let state = self.tasks.get_mut(&tid).ok_or(TargetError::Gone { tid })?;
        match std::mem::replace(state, State::Gone) {
            State::Stopped(stopped) => match how(stopped) {
                Ok(running) => {
                    *state = State::Running(running);
                    Ok(())
                }
                // ESRCH: killed under our hands. Its exit is still reported by waitpid.
                Err(_) => {
                    *state = State::Running(Running::auto_attached(tid.0));
                    Err(TargetError::Gone { tid })
                }
            },
            other => {
                *state = other;
                Ok(())
            }
        }
    }

    fn poke_text(&mut self, address: Address, bytes: &[u8]) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let stopped = self.tasks.values().find_map(State::stopped).ok_or_else(gone)?;
        // Whole words, the first and last completed from what is there.
        let first = address.0 & !7;
        let words = (address.0 + bytes.len() as u64).next_multiple_of(8) - first;
        let mut buffer = vec![0_u8; usize::try_from(words).map_err(|_| gone())?];
        self.memory.read_exact_at(&mut buffer, first)?;
        let skip = usize::try_from(address.0 - first).map_err(|_| gone())?;
        buffer[skip..skip + bytes.len()].copy_from_slice(bytes);
        let mut words = (first..).step_by(8).zip(buffer.chunks_exact(8));
        self.tracer.windows.mark(Window::HalfWritten, true);
        let poked = words.try_for_each(|(at, word)| {
            stopped.poke(at, u64::from_ne_bytes(word.try_into().unwrap_or([0; 8])))
        });
        self.tracer.windows.mark(Window::HalfWritten, false);
        poked
    }
}

/// The ISA that a process was started for, by the file that it executes. The register set of each thread must agree.
fn isa_of(pid: i32) -> Isa {
    let mut header = [0; symbols::elf::HEADER_LEN];
    let read = File::open(format!("/proc/{}/exe", shown_by(pid))).and_then(|exe| exe.read_at(&mut header, 0));
    let isa = read.ok().and_then(|len| symbols::elf::isa_of(header.get(..len)?).ok());
    isa.unwrap_or(Isa::X86_64)
}

/// What the kernel says of a task.
fn status_of(tid: Tid) -> Option<Status> {
    fs::read(format!("/proc/{tid}/status")).ok().map(|text| Status::parse(&text))
}

/// The thread group of a task.
fn group_of(tid: Tid) -> Option<i32> {
    status_of(tid)?.process
}

/// The number of a task in the innermost of its pid namespaces: the last one of `NSpid:` (proc_pid_status(5)).
fn number_inside(tid: Tid) -> Option<Tid> {
    status_of(tid)?.namespace_pids.last().copied().map(Tid)
}

/// Whether a task has a system-call filter (mode 2 of `Seccomp:`, proc_pid_status(5)).
fn has_filter(tid: Tid) -> bool {
    status_of(tid).is_some_and(|status| status.seccomp == Some(2))
}

/// Whether a task is one that the kernel made for itself in the process: it never runs the program's code.
fn is_kernels(tid: Tid) -> bool {
    fs::read(format!("/proc/{tid}/stat"))
        .is_ok_and(|text| Stat::parse(&text).is_some_and(|stat| stat.is_kernels_worker()))
}

/// Tests force the fallback by this variable: nothing else shows a machine where /proc/PID/mem is restricted.
fn force_poke() -> bool {
    std::env::var_os("XOL_FORCE_POKE").is_some()
}

impl Target for Process {
    fn isa(&self) -> Isa {
        self.isa
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { threads: true, shared_memory: true, signals: true, write_running: !self.poke }
    }

    fn tasks(&self) -> Vec<Tid> {
        self.tasks.keys().copied().collect()
    }

    fn is_stopped(&self, tid: Tid) -> bool {
        matches!(self.tasks.get(&tid), Some(State::Stopped(_)))
    }

    fn seize_new(&mut self) -> Result<usize, TargetError> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.pid))
            .map_err(|error| permission::explain(self.pid, &error))?;
        let mut seized = 0;
        for entry in entries.flatten() {
            let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Tid) else {
                continue;
            };
            if self.tasks.contains_key(&tid) || is_kernels(tid) {
                continue;
            }
            match ptrace::seize(tid.0) {
                Ok(running) => {
                    self.tasks.insert(tid, State::Running(running));
                    seized += 1;
                }
                // One that has ended, as the first one may have.
                Err(_) if !living::has_memory(tid.0) => {}
                // The text must not change under one that somebody else holds.
                Err(error) => permission::refusal(self.pid, tid, &error).map_or(Ok(()), Err)?,
            }
        }
        if self.tasks.is_empty() {
            return Err(TargetError::NoSuchProcess { pid: self.pid });
        }
        Ok(seized)
    }

    fn adopt(&mut self, tid: Tid) -> Option<Event> {
        self.tasks.entry(tid).or_insert_with(|| State::Running(Running::auto_attached(tid.0)));
        let wait = self.tracer.take_early(tid)?;
        Some(self.note(tid, wait))
    }

    fn forget(&mut self, tid: Tid) {
        self.drop_task(tid);
    }

    fn wait(&mut self, tid: Tid, deadline: Instant) -> Result<Option<Event>, TargetError> {
        if let Some(wait) = self.tracer.take_early(tid) {
            return Ok(Some(self.note(tid, wait)));
        }
        loop {
            match ptrace::try_wait(tid.0) {
                Ok(Some((_, wait))) => {
                    self.tracer.note_wait(tid, wait);
                    return Ok(Some(self.note(tid, wait)));
                }
                Ok(None) => {
                    if !poll::wait_for_child(deadline) && Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(_) => {
                    self.drop_task(tid);
                    return Err(TargetError::Gone { tid });
                }
            }
        }
    }

    fn interrupt(&mut self, tid: Tid) -> Result<(), TargetError> {
        match self.tasks.get(&tid) {
            Some(State::Running(running)) => running.interrupt(),
            Some(State::Stopped(stopped)) => stopped.interrupt(),
            _ => return Err(TargetError::Gone { tid }),
        }
        .map_err(|_| TargetError::Gone { tid })
    }

    fn resume(&mut self, tid: Tid, how: Resume) -> Result<(), TargetError> {
        self.transition(tid, |stopped| match how {
            Resume::Run(signal) => stopped.cont(signal),
            Resume::ToSyscall(signal) => stopped.cont_to_syscall(signal),
            Resume::Listen => stopped.listen(),
        })
    }

    fn detach(&mut self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        match self.tasks.remove(&tid) {
            Some(State::Stopped(stopped)) => stopped.detach(signal).map_err(|_| TargetError::Gone { tid }),
            _ => Err(TargetError::Gone { tid }),
        }
    }

    fn registers(&self, tid: Tid) -> Result<Registers, TargetError> {
        let bytes = self.stopped(tid)?.registers().map_err(|_| TargetError::Gone { tid })?;
        let len = bytes.len();
        let unsupported = |why| TargetError::Unsupported { pid: self.pid, why };
        let registers = Registers::new(bytes).ok_or_else(|| {
            unsupported(format!("its threads have a register set of {len} bytes, which is no x86 one"))
        })?;
        if registers.isa() != self.isa {
            // A far jump, as Wine makes them: the kernel goes by the code segment (`user_64bit_mode`).
            let bits = |isa: Isa| 8 * isa.abi().word;
            return Err(unsupported(format!(
                "thread {tid} of the {}-bit process runs in a {}-bit code segment",
                bits(self.isa),
                bits(registers.isa())
            )));
        }
        Ok(registers)
    }

    fn set_registers(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError> {
        self.stopped(tid)?.set_registers(registers.bytes()).map_err(|_| TargetError::Gone { tid })
    }

    fn thread_pointer(&self, tid: Tid) -> Option<Address> {
        let registers = self.registers(tid).ok()?;
        let at = match registers.isa().abi().thread_base {
            Some(slot) => registers.get(slot),
            None => self.stopped(tid).ok()?.thread_area(registers.bytes()).ok()??,
        };
        (at != 0).then_some(Address(at))
    }

    fn group_stop(&self, tid: Tid) -> Option<i32> {
        self.stopped(tid).ok()?.group_stop()
    }

    fn set_siginfo(&mut self, tid: Tid, info: &SigInfo) -> Result<(), TargetError> {
        self.stopped(tid)?.set_siginfo(info).map_err(|_| TargetError::Gone { tid })
    }

    fn pending(&self, tid: Tid) -> Result<Vec<SigInfo>, TargetError> {
        self.stopped(tid)?.pending().map_err(|_| TargetError::Gone { tid })
    }

    fn signal_mask(&self, tid: Tid) -> Result<u64, TargetError> {
        self.stopped(tid)?.signal_mask().map_err(|_| TargetError::Gone { tid })
    }

    fn set_signal_mask(&mut self, tid: Tid, mask: u64) -> Result<(), TargetError> {
        self.stopped(tid)?.set_signal_mask(mask).map_err(|_| TargetError::Gone { tid })
    }

    fn signal_fields(&self, tid: Tid) -> Result<SignalFields, TargetError> {
        let status = status_of(tid).ok_or(TargetError::Gone { tid })?;
        let bits = |set: Option<SignalSet>| set.map_or(0, |set| set.0);
        Ok(SignalFields {
            blocked: bits(status.blocked),
            ignored: bits(status.ignored),
            caught: bits(status.caught),
        })
    }

    fn blocked_at(&self, tid: Tid) -> Option<Address> {
        // "nr args... sp pc", "running", or "-1 sp pc" (Documentation/filesystems/proc.rst).
        let text = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
        let pc = text.split_whitespace().last()?.strip_prefix("0x")?;
        u64::from_str_radix(pc, 16).ok().map(Address)
    }

    fn stack_bottom(&self) -> Option<Address> {
        let text = fs::read(format!("/proc/{}/stat", self.witness()?)).ok()?;
        Stat::parse(&text).map(|stat| stat.start_stack).filter(|bottom| bottom.0 != 0)
    }

    fn state(&self, tid: Tid) -> char {
        fs::read_to_string(format!("/proc/{tid}/stat"))
            .ok()
            .and_then(|text| text.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next()))
            .unwrap_or('X')
    }

    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), TargetError> {
        let len = buffer.len();
        self.memory.read_exact_at(buffer, address.0).map_err(|error| TargetError::Memory {
            verb: "read".to_owned(),
            address,
            len,
            source: error.into(),
        })
    }

    fn write(&mut self, address: Address, bytes: &[u8]) -> Result<(), TargetError> {
        let direct = if self.poke {
            Err(io::Error::from_raw_os_error(libc::EACCES))
        } else {
            self.memory.write_all_at(bytes, address.0)
        };
        direct.or_else(|first| self.poke_text(address, bytes).map_err(|_| first)).map_err(|error| {
            TargetError::Memory { verb: "write".to_owned(), address, len: bytes.len(), source: error.into() }
        })
    }

    fn witness(&self) -> Option<Tid> {
        let first = Tid(self.pid);
        let known = self.tasks.keys().copied();
        let all = self.tasks.contains_key(&first).then_some(first).into_iter().chain(known);
        // Threads of which no tracer is told are found at the next stop.
        all.chain(living::threads(self.pid)).find(|tid| living::has_memory(tid.0))
    }

    fn mappings_of(&self, tid: Tid) -> Result<Vec<Mapping>, TargetError> {
        match fs::read(format!("/proc/{tid}/maps")) {
            Ok(text) => Ok(symbols::maps::parse(&text)),
            Err(_) if !living::has_memory(tid.0) => Ok(Vec::new()),
            Err(error) => Err(system("reading /proc/PID/maps")(error)),
        }
    }

    fn call(&mut self, tid: Tid, calls: &[Call]) -> Result<Vec<i64>, TargetError> {
        inject::run(self, tid, calls)
    }

    fn group(&self) -> i32 {
        self.pid
    }

    fn group_of(&self, tid: Tid) -> i32 {
        group_of(tid).unwrap_or(self.pid)
    }

    fn number_inside(&self, tid: Tid) -> Tid {
        number_inside(tid).unwrap_or(tid)
    }

    fn is_thread(&self, tid: Tid) -> bool {
        fs::metadata(format!("/proc/{}/task/{tid}", self.pid)).is_ok()
    }

    fn shares_memory(&self, maker: Option<Tid>, tid: Tid) -> bool {
        self.shares(maker, tid).unwrap_or(false)
    }

    fn child(&mut self, tid: Tid) -> Result<Self, TargetError> {
        Self::orphan(&self.tracer, tid.0)
    }

    fn part(&mut self, tid: Tid) -> Result<Self, TargetError> {
        let state = self.tasks.remove(&tid).ok_or(TargetError::Gone { tid })?;
        if tid.0 == self.pid {
            // Its other threads are gone with the exec; what is left only shared the memory, and stands for it now.
            self.tasks.retain(|task, _| group_of(*task).is_some_and(|group| group != tid.0));
            self.pid = self.tasks.keys().next().map_or(self.pid, |task| task.0);
        }
        Self::with_tasks(&self.tracer, tid.0, BTreeMap::from([(tid, state)]))
    }

    fn about_to_execute(&self, tid: Tid) -> Option<Executable> {
        execute::about_to(self, tid)
    }

    fn executable(&self, tid: Tid) -> Option<Executable> {
        execute::executed(tid)
    }

    fn is_filtered(&self) -> bool {
        !self.tracer.inject_freely.get() && self.tasks.keys().any(|tid| has_filter(*tid))
    }

    fn report_exits(&mut self) -> Result<(), TargetError> {
        self.tasks
            .values()
            .filter_map(State::stopped)
            .try_for_each(Stopped::report_exit)
            .map_err(system("PTRACE_SETOPTIONS"))
    }

    fn send(&self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        let group = group_of(tid).ok_or(TargetError::Gone { tid })?;
        process::tgkill(group, tid.0, signal).map_err(|_| TargetError::Gone { tid })
    }

    fn remote_state(&self, at: Address) -> Result<Remote, TargetError> {
        Remote::of(shown_by(self.pid), at).map_err(system("opening the shared state"))
    }

    fn mark(&self, window: Window, open: bool) {
        self.tracer.windows.mark(window, open);
    }

    fn visit_every_cpu(&self) -> Result<(), TargetError> {
        affinity::visit_every_cpu().map_err(system("visiting the CPUs"))
    }

    fn files_called(&self, name: &str) -> Vec<u64> {
        let shown = self.witness().map_or(self.pid, |witness| witness.0);
        let entries = fs::read_dir(format!("/proc/{shown}/fd")).into_iter().flatten().flatten();
        let is_called = |entry: &fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|file| file.to_string_lossy().starts_with(name))
        };
        entries.filter(is_called).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn take_file(&mut self, tid: Tid, fd: i32) -> Result<File, TargetError> {
        let pidfd = process::pidfd_open(self.group_of(tid)).map_err(system("pidfd_open"))?;
        let taken = process::pidfd_getfd(&pidfd, fd);
        // A first thread that has ended has no descriptors any more.
        let reopen = || File::options().read(true).write(true).open(format!("/proc/{tid}/fd/{fd}"));
        taken.or_else(|error| reopen().map_err(|_| error)).map_err(system("pidfd_getfd"))
    }
}

/// Looks at an untraced process: its mappings, and a way to read its memory.
///
/// # Errors
/// No such process, or not permitted.
pub fn peek<R>(
    pid: i32,
    look: impl FnOnce(&[Mapping], &mut dyn FnMut(Address, &mut [u8]) -> bool) -> R,
) -> Result<R, TargetError> {
    let shown = shown_by(pid);
    let text = fs::read(format!("/proc/{shown}/maps")).map_err(|error| permission::explain(pid, &error))?;
    let memory =
        File::open(format!("/proc/{shown}/mem")).map_err(|error| permission::explain(pid, &error))?;
    let mappings = symbols::maps::parse(&text);
    Ok(look(&mappings, &mut |at, buffer| memory.read_exact_at(buffer, at.0).is_ok()))
}

/// Opens /proc/PID/mem for reading and writing.
fn open_rw(pid: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", shown_by(pid)))
}
