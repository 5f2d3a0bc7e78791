//! A process held by a stub of the GDB remote protocol, as a [`Tracee`].

use std::collections::HashMap;
use std::time::Instant;

use insn::{Address, Isa};
use remote::client::{Action, BreakpointKind};
use remote::description::{Layout, RegisterFile};
use remote::link::Stream;
use remote::{Cause, Client, RemoteError, Signal, Stop as Reply, ThreadId};

use crate::error::{Errno, TargetError, system};
use crate::registers::Registers;
use crate::seam::Tid;
use crate::sys::process;
use crate::tracee::{Abilities, Event, Go, Stop, Tracee};

/// See the module header.
#[derive(Debug)]
pub struct RemoteProcess<S> {
    client: Client<S>,
    layout: Layout,
    /// The thread that breakpoints and memory are asked for by: one of the process itself.
    main: ThreadId,
    /// The remote's names of threads.
    names: HashMap<Tid, ThreadId>,
    /// Registers as they were read at this stop.
    read: HashMap<Tid, RegisterFile>,
    is_emulated: bool,
    takes_breakpoints: bool,
    /// An interrupt was sent and is not answered.
    asked_to_stop: bool,
    questions: u64,
    /// The number of the process on this machine, or of the emulator that runs it.
    here: Option<i32>,
}

impl<S: Stream> RemoteProcess<S> {
    /// The process that a remote holds, or got just now ([`Client::run`], [`Client::attach`]): `stop` is how it stands. `is_here`:
    /// the remote runs on this machine.
    ///
    /// # Errors
    /// There is none, or its registers are not known.
    pub fn new(mut client: Client<S>, stop: &Reply, is_here: bool) -> Result<Self, TargetError> {
        if !matches!(stop, Reply::Stopped { .. }) {
            let text = "the remote holds no process: give it one, or start a command with `-- CMD`, or attach with -p";
            return Err(TargetError::Remote(text.to_owned()));
        }
        let layout = client.layout()?;
        let main = match stop.thread() {
            Some(thread) => thread,
            None => match client.current_thread()? {
                Some(thread) => thread,
                None => *client.threads()?.first().ok_or_else(nobody)?,
            },
        };
        // Only qemu knows the question.
        let is_emulated = !client.request(b"qqemu.sstepbits")?.is_empty();
        let mut held = Self {
            client,
            layout,
            main,
            names: HashMap::new(),
            read: HashMap::new(),
            is_emulated,
            takes_breakpoints: true,
            asked_to_stop: false,
            questions: 0,
            here: None,
        };
        held.remember(main)?;
        held.here = if is_here { held.own_number() } else { None };
        Ok(held)
    }

    /// The conversation itself, for what is no part of [`Tracee`].
    pub fn client(&mut self) -> &mut Client<S> {
        &mut self.client
    }

    /// Whether an emulator runs the program.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.is_emulated
    }

    /// What this machine knows the process as, where it bears that out: traced, or an emulator.
    fn own_number(&self) -> Option<i32> {
        let number = if self.is_emulated { i32::try_from(self.main.thread).ok()? } else { self.process() };
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).unwrap_or_default()
        };
        let is_it =
            if self.is_emulated { field("Name").starts_with("qemu-") } else { field("TracerPid") != "0" };
        is_it.then_some(number)
    }

    /// Whether the process can be stopped while it runs. gdbserver interrupts the process group of that number, which there
    /// need not be; qemu-user hears nothing.
    #[must_use]
    pub fn can_be_interrupted(&mut self) -> bool {
        self.here.is_some() || !self.is_emulated && self.leads_its_group() != Some(false)
    }

    /// By /proc/PID/stat (proc_pid_stat(5), field 5), as the remote sees it.
    fn leads_its_group(&mut self) -> Option<bool> {
        let number = self.process();
        let text = self.client.whole_file(&format!("/proc/{number}/stat"), 1 << 16).ok()?;
        let text = String::from_utf8_lossy(&text);
        let (_, fields) = text.rsplit_once(')')?;
        Some(fields.split_whitespace().nth(2)? == number.to_string())
    }

    fn remember(&mut self, thread: ThreadId) -> Result<Tid, TargetError> {
        let tid = i32::try_from(thread.thread).map(Tid).map_err(|_| {
            TargetError::Remote(format!("the remote names a thread {thread}, which is no number of a thread"))
        })?;
        self.names.insert(tid, thread);
        Ok(tid)
    }

    fn name(&self, tid: Tid) -> Result<ThreadId, TargetError> {
        self.names.get(&tid).copied().ok_or(TargetError::Gone { tid })
    }

    /// Makes the process itself what memory and breakpoints are asked of. A remote of one process needs no word.
    fn select_process(&mut self) -> Result<(), TargetError> {
        let is_one_of_several = self.names.values().any(|name| name.process != self.main.process);
        if is_one_of_several { self.ask(|client, main| client.select(main)) } else { Ok(()) }
    }

    /// A question to the remote.
    fn ask<A>(
        &mut self,
        question: impl FnOnce(&mut Client<S>, ThreadId) -> Result<A, RemoteError>,
    ) -> Result<A, TargetError> {
        self.questions += 1;
        Ok(question(&mut self.client, self.main)?)
    }

    fn event(&mut self, reply: Reply) -> Result<Stop, TargetError> {
        match reply {
            Reply::Stopped { thread, signal, cause, .. } => {
                let tid = match thread {
                    Some(thread) => self.remember(thread)?,
                    None => self.remember(self.main)?,
                };
                let event = self.stopped(signal, cause)?;
                Ok(Stop { tid, event })
            }
            Reply::Exited { process, status } => {
                let event = Event::Exited(i32::try_from(status).unwrap_or(i32::MAX));
                Ok(Stop { tid: self.ended(process), event })
            }
            Reply::Killed { process, signal } => {
                let event = Event::Killed(signal.linux().unwrap_or_default());
                Ok(Stop { tid: self.ended(process), event })
            }
            Reply::ThreadExited { thread, .. } => {
                let tid = self.remember(thread)?;
                self.names.remove(&tid);
                Ok(Stop { tid, event: Event::Nothing })
            }
            Reply::NoneLeft => Err(nobody()),
        }
    }

    fn ended(&mut self, process: Option<u64>) -> Tid {
        let number = process.and_then(|process| i32::try_from(process).ok());
        self.names.retain(|_, name| process.is_none() || name.process != process);
        Tid(number.unwrap_or_else(|| self.process()))
    }

    fn stopped(&mut self, signal: Signal, cause: Cause) -> Result<Event, TargetError> {
        Ok(match cause {
            Cause::Breakpoint | Cause::HardwareBreakpoint => Event::Breakpoint,
            Cause::Libraries => Event::Libraries,
            Cause::Fork(child) => Event::Fork(self.remember(child)?),
            Cause::Vfork(child) => Event::Vfork(self.remember(child)?),
            Cause::Exec(path) => Event::Exec(String::from_utf8_lossy(&path).into_owned()),
            // The end of a recording: nothing comes behind it.
            Cause::ReplayEnd => Event::Exited(0),
            Cause::Signal
                if self.asked_to_stop && matches!(signal, Signal::INT | Signal::STOP | Signal::NONE) =>
            {
                self.asked_to_stop = false;
                Event::Interrupted
            }
            Cause::Signal => signal.linux().map_or(Event::Nothing, Event::Signal),
            _ => Event::Nothing,
        })
    }
}

fn nobody() -> TargetError {
    TargetError::Remote("the remote has nothing left that runs".to_owned())
}

impl<S: Stream> Tracee for RemoteProcess<S> {
    fn isa(&self) -> Isa {
        self.layout.isa()
    }

    fn process(&self) -> i32 {
        i32::try_from(self.main.process.unwrap_or(self.main.thread)).unwrap_or_default()
    }

    fn abilities(&self) -> Abilities {
        let features = self.client.features();
        Abilities {
            breakpoints: self.takes_breakpoints,
            // qemu-user makes a system call of every `trapa` (linux-user/sh4/cpu_loop.c), and 7.2 ends at `ta 1`
            // (linux-user/sparc/cpu_loop.c); of s390x's breakpoint it makes SIGILL.
            traps: !(self.is_emulated
                && matches!(self.isa(), Isa::Sh | Isa::Sparc | Isa::Sparc64 | Isa::S390x)),
            step: features.steps(),
            threads: !features.actions.is_empty(),
            // qemu-user drops what comes while the program stands.
            interrupts_wait: self.here.is_some() || !self.is_emulated,
        }
    }

    fn questions(&self) -> u64 {
        self.questions
    }

    fn threads(&mut self) -> Result<Vec<Tid>, TargetError> {
        let process = self.main.process;
        let listed = self.ask(|client, _| client.threads())?;
        listed.into_iter().filter(|name| name.process == process).map(|name| self.remember(name)).collect()
    }

    fn registers(&mut self, tid: Tid) -> Result<Registers, TargetError> {
        let name = self.name(tid)?;
        if !self.read.contains_key(&tid) {
            let file = self.ask(|client, _| client.registers(name))?;
            self.read.insert(tid, file);
        }
        let file = self.read.get(&tid).ok_or(TargetError::Gone { tid })?;
        let bytes = self.layout.prstatus(file).map_err(RemoteError::from)?;
        Ok(Registers::of(self.isa(), bytes))
    }

    fn set_registers(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError> {
        let name = self.name(tid)?;
        let mut file = match self.read.remove(&tid) {
            Some(file) => file,
            None => self.ask(|client, _| client.registers(name))?,
        };
        self.questions += 1;
        self.client.set_prstatus(name, &self.layout, &mut file, registers.bytes())?;
        self.read.insert(tid, file);
        Ok(())
    }

    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), TargetError> {
        self.select_process()?;
        self.ask(|client, _| client.read(at, into))
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), TargetError> {
        self.select_process()?;
        self.ask(|client, _| client.write(at, bytes))
    }

    fn insert_breakpoint(&mut self, isa: Isa, at: Address, instruction: &[u8]) -> Result<(), TargetError> {
        self.select_process()?;
        let size = breakpoint_size(isa, instruction);
        self.questions += 1;
        let inserted = self.client.insert_breakpoint(BreakpointKind::Software, at, size);
        if matches!(inserted, Err(RemoteError::Unsupported { .. })) {
            self.takes_breakpoints = false;
        }
        Ok(inserted?)
    }

    fn remove_breakpoint(&mut self, isa: Isa, at: Address, instruction: &[u8]) -> Result<(), TargetError> {
        self.select_process()?;
        let size = breakpoint_size(isa, instruction);
        self.ask(|client, _| client.remove_breakpoint(BreakpointKind::Software, at, size))
    }

    fn go(&mut self, how: Go<'_>) -> Result<(), TargetError> {
        self.read.clear();
        let (threads, others) = match how {
            Go::All(signals) => {
                let given = |(tid, signal): &(Tid, i32)| {
                    // A signal without a number in the protocol cannot be given: there is one, and nobody uses it.
                    let action = Signal::from_linux(*signal).map_or(Action::Continue, Action::ContinueWith);
                    Some((self.names.get(tid).copied()?, action))
                };
                (signals.iter().filter_map(given).collect(), Some(Action::Continue))
            }
            Go::Only(tid) => (vec![(self.name(tid)?, Action::Continue)], None),
            Go::Step(tid) => (vec![(self.name(tid)?, Action::Step)], None),
        };
        self.ask(|client, _| client.resume(&threads, others))
    }

    fn wait(&mut self, deadline: Instant) -> Result<Option<Stop>, TargetError> {
        if self.asked_to_stop && !self.client.is_running() {
            self.asked_to_stop = false;
            let tid = self.remember(self.main)?;
            return Ok(Some(Stop { tid, event: Event::Interrupted }));
        }
        match self.client.wait(deadline)? {
            Some(reply) => self.event(reply).map(Some),
            None => Ok(None),
        }
    }

    fn interrupt(&mut self) -> Result<(), TargetError> {
        // Nobody would keep the signal from the program.
        if !self.client.is_good() {
            return Err(RemoteError::Broken.into());
        }
        self.asked_to_stop = true;
        match self.here {
            // It stands still, behind an answer that was no stop.
            _ if !self.client.is_running() => Ok(()),
            // The signal that the interrupt would become.
            Some(number) => {
                process::tgkill(number, number, libc::SIGINT).map_err(system("interrupting the program"))
            }
            None => Ok(self.client.interrupt()?),
        }
    }

    fn let_go(&mut self, child: Tid, inserted: &[(Isa, Address, Vec<u8>)]) -> Result<(), TargetError> {
        let name = self.name(child)?;
        for (isa, at, instruction) in inserted {
            let size = breakpoint_size(*isa, instruction);
            self.ask(|client, _| {
                client.select(name)?;
                client.remove_breakpoint(BreakpointKind::Software, *at, size)
            })?;
        }
        self.ask(|client, _| client.detach(name.process))?;
        self.names.retain(|_, known| known.process != name.process);
        Ok(())
    }

    fn detach(&mut self) -> Result<(), TargetError> {
        self.ask(|client, main| client.detach(main.process))
    }
}

/// What the protocol calls a breakpoint's kind (GDB manual, "ARM Breakpoint Kinds"; else the length of the instruction).
fn breakpoint_size(isa: Isa, instruction: &[u8]) -> usize {
    match isa {
        Isa::Thumb if instruction.len() > 2 => 3,
        _ => isa.breakpoint(instruction.len()).len(),
    }
}

impl From<RemoteError> for TargetError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Memory { verb, address, len, .. } => {
                // The protocol's numbers have no fixed meaning.
                Self::Memory { verb: verb.to_owned(), address, len, source: Errno(libc::EFAULT) }
            }
            other => Self::Remote(other.to_string()),
        }
    }
}
