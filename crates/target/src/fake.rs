//! A target in memory, for tests: the third implementation of the seam.
//!
//! A [`Fake`] is a handle of a [`Machine`](machine::Machine): an address space, tasks with registers, masks and signals, and
//! a processor for the instructions of stubs. Time stands still but where the engine waits or pauses, so nothing depends
//! on the speed of the machine the test runs on. Every operation is numbered, and any of them can be made to fail.

use std::cell::{RefCell, RefMut};
use std::fs::File;
use std::rc::Rc;
use std::time::{Duration, Instant};

use insn::{Address, Isa};
use symbols::maps::Mapping;

use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::{Call, Capabilities, Event, Executable, Resume, SignalFields, Target, Tid, Window};
use crate::state::Remote;
use crate::sys::ptrace::SigInfo;

pub(crate) mod cpu;
pub(crate) mod machine;
pub(crate) mod space;

use machine::{Machine, Run};
use space::Access;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails as such an operation may: memory cannot be reached, the thread is gone.
    Fails,
    /// An injected system call answers with this error number; nothing else is touched.
    Answers(i32),
    /// Somebody kills the process just before.
    Killed,
    /// The thread it is about never stops again.
    Silent,
    /// Somebody kills the tracer just before.
    TracerDies,
    /// The program unmaps its text just before, if a task of it runs.
    Unmaps,
}

/// What kinds of operations there are for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of the system calls that a task makes for us.
    Call,
    /// Asking a task to stop, or waiting for it.
    Stop,
    Other,
}

/// What an operation is about.
#[derive(Clone, Copy, Debug)]
enum About {
    Stop(Tid),
    Task(Tid),
    Memory(&'static str, Address, usize),
    Other(&'static str),
    Call,
}

/// One traced address space in memory.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) machine: Rc<RefCell<Machine>>,
}

impl Fake {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine: Rc::new(RefCell::new(machine)) }
    }

    pub(crate) fn machine(&self) -> RefMut<'_, Machine> {
        self.machine.borrow_mut()
    }

    /// Counts an operation; whatever was to go wrong at it does.
    fn begin(&self, about: About) -> Result<RefMut<'_, Machine>, TargetError> {
        let mut machine = self.machine();
        let number = machine.operations;
        machine.operations += 1;
        machine.kinds.push(match about {
            About::Call => Kind::Call,
            About::Stop(_) => Kind::Stop,
            _ => Kind::Other,
        });
        if let Some((_, fault)) = machine.fault.filter(|(at, _)| *at == number) {
            machine.fault = None;
            self.go_wrong(&mut machine, fault, about)?;
        }
        if machine.is_tracer_dead {
            return Err(TargetError::Line("the tracer was killed".to_owned()));
        }
        Ok(machine)
    }

    fn go_wrong(&self, machine: &mut Machine, fault: Fault, about: About) -> Result<(), TargetError> {
        match (fault, about) {
            (Fault::Killed, _) => machine.kill(libc::SIGKILL),
            (Fault::TracerDies, _) => machine.is_tracer_dead = true,
            (Fault::Unmaps, _) => machine.unmap_text(),
            (Fault::Silent, About::Stop(tid)) => {
                if let Some(task) = machine.tasks.get_mut(&tid) {
                    task.is_deaf = true;
                }
            }
            (Fault::Fails, About::Task(tid) | About::Stop(tid)) => {
                if let Some(task) = machine.tasks.get_mut(&tid) {
                    task.run = Run::Reported(Event::Killed(libc::SIGKILL));
                }
            }
            (Fault::Fails, About::Memory(verb, address, len)) => {
                let source = libc::EIO.into();
                return Err(TargetError::Memory { verb: verb.to_owned(), address, len, source });
            }
            (Fault::Fails, About::Other(what)) => return Err(failed(what)),
            (Fault::Fails | Fault::Silent | Fault::Answers(_), _) => {}
        }
        Ok(())
    }

    fn task<R>(&self, tid: Tid, what: impl FnOnce(&mut Machine) -> Option<R>) -> Result<R, TargetError> {
        what(&mut *self.begin(About::Task(tid))?).ok_or(TargetError::Gone { tid })
    }
}

fn failed(what: &str) -> TargetError {
    TargetError::System { what: what.to_owned(), source: libc::EIO.into() }
}

impl Target for Fake {
    fn isa(&self) -> Isa {
        Isa::X86_64
    }

    fn capabilities(&self) -> Capabilities {
        let write_running = self.machine().write_running;
        Capabilities { threads: true, shared_memory: true, signals: true, write_running }
    }

    fn now(&self) -> Instant {
        self.machine().now()
    }

    fn pause(&mut self, time: Duration) {
        self.machine().pause(time);
    }

    fn tasks(&self) -> Vec<Tid> {
        self.machine().tasks.iter().filter(|(_, task)| task.traced).map(|(tid, _)| *tid).collect()
    }

    fn is_stopped(&self, tid: Tid) -> bool {
        self.machine().stopped(tid).is_some()
    }

    fn seize_new(&mut self) -> Result<usize, TargetError> {
        let mut machine = self.begin(About::Other("seizing"))?;
        // A child whose maker's event is still to come is attached already (kernel/fork.c, `ptrace_init_task`).
        let is_new = |task: &&mut machine::Task| {
            !task.traced && !task.is_guest && !matches!(task.run, Run::Reported(_))
        };
        let new: Vec<_> = machine.tasks.values_mut().filter(is_new).map(|task| task.traced = true).collect();
        Ok(new.len())
    }

    fn adopt(&mut self, tid: Tid) -> Option<Event> {
        if let Some(task) = self.machine().tasks.get_mut(&tid) {
            task.traced = true;
        }
        None
    }

    fn forget(&mut self, tid: Tid) {
        self.machine().tasks.remove(&tid);
    }

    fn wait(&mut self, tid: Tid, deadline: Instant) -> Result<Option<Event>, TargetError> {
        self.begin(About::Stop(tid))?.wait(tid, deadline).ok_or(TargetError::Gone { tid })
    }

    fn interrupt(&mut self, tid: Tid) -> Result<(), TargetError> {
        self.begin(About::Stop(tid))?.interrupt(tid).ok_or(TargetError::Gone { tid })
    }

    fn resume(&mut self, tid: Tid, how: Resume) -> Result<(), TargetError> {
        self.task(tid, |machine| machine.resume(tid, how))
    }

    fn detach(&mut self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        self.task(tid, |machine| machine.detach(tid, signal))
    }

    fn registers(&self, tid: Tid) -> Result<Registers, TargetError> {
        self.task(tid, |machine| machine.stopped(tid).map(|task| task.registers.clone()))
    }

    fn set_registers(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError> {
        self.task(tid, |machine| machine.stopped(tid).map(|task| task.registers.clone_from(registers)))
    }

    fn thread_pointer(&self, tid: Tid) -> Option<Address> {
        let slot = self.isa().abi().thread_base?;
        let at = self.registers(tid).ok()?.get(slot);
        (at != 0).then_some(Address(at))
    }

    fn group_stop(&self, tid: Tid) -> Option<i32> {
        match self.machine().stopped(tid)?.run {
            Run::Stopped(Event::GroupStop(signal)) => Some(signal),
            _ => None,
        }
    }

    fn set_siginfo(&mut self, tid: Tid, info: &SigInfo) -> Result<(), TargetError> {
        self.task(tid, |machine| machine.set_siginfo(tid, *info))
    }

    fn pending(&self, tid: Tid) -> Result<Vec<SigInfo>, TargetError> {
        self.task(tid, |machine| machine.stopped(tid).map(|task| task.pending.clone()))
    }

    fn signal_mask(&self, tid: Tid) -> Result<u64, TargetError> {
        self.task(tid, |machine| machine.stopped(tid).map(|task| task.mask))
    }

    fn set_signal_mask(&mut self, tid: Tid, mask: u64) -> Result<(), TargetError> {
        self.task(tid, |machine| machine.stopped(tid).map(|task| task.mask = mask))
    }

    fn signal_fields(&self, tid: Tid) -> Result<SignalFields, TargetError> {
        self.task(tid, |machine| {
            let blocked = machine.tasks.get(&tid)?.mask;
            let mut fields = SignalFields { blocked, ..SignalFields::default() };
            for (signal, action) in &machine.actions {
                let bit = 1_u64 << (signal - 1);
                fields.ignored |= if action[0] == 1 { bit } else { 0 };
                fields.caught |= if action[0] > 1 { bit } else { 0 };
            }
            Some(fields)
        })
    }

    fn blocked_at(&self, tid: Tid) -> Option<Address> {
        let mut machine = self.machine();
        let task = machine.tasks.get_mut(&tid)?;
        matches!(task.run, Run::Uninterruptible).then(|| task.registers.pc())
    }

    fn state(&self, tid: Tid) -> char {
        match self.machine().tasks.get(&tid).map(|task| task.run) {
            None => 'X',
            Some(Run::Running) => 'R',
            Some(Run::Uninterruptible) => 'D',
            Some(Run::Zombie | Run::Reported(Event::Exited(_) | Event::Killed(_))) => 'Z',
            Some(Run::Reported(_) | Run::Stopped(_) | Run::Listening) => 't',
        }
    }

    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), TargetError> {
        let len = buffer.len();
        let machine = self.begin(About::Memory("read", address, len))?;
        let error = TargetError::Memory { verb: "read".to_owned(), address, len, source: libc::EIO.into() };
        machine.space.read(address, buffer, Access::Tracer).ok_or(error)
    }

    fn write(&mut self, address: Address, bytes: &[u8]) -> Result<(), TargetError> {
        let len = bytes.len();
        let mut machine = self.begin(About::Memory("write", address, len))?;
        let error = TargetError::Memory { verb: "write".to_owned(), address, len, source: libc::EIO.into() };
        machine.space.write(address, bytes, Access::Tracer).ok_or(error)
    }

    fn witness(&self) -> Option<Tid> {
        let machine = self.machine();
        let first = Tid(machine.group);
        let tasks: Vec<Tid> = machine.tasks.keys().copied().collect();
        [first].into_iter().chain(tasks).find(|tid| machine.has_memory(*tid))
    }

    fn mappings_of(&self, tid: Tid) -> Result<Vec<Mapping>, TargetError> {
        let machine = self.begin(About::Other("reading /proc/PID/maps"))?;
        Ok(if machine.has_memory(tid) { machine.space.mappings() } else { Vec::new() })
    }

    fn call(&mut self, tid: Tid, calls: &[Call]) -> Result<Vec<i64>, TargetError> {
        self.task(tid, |machine| machine.stopped(tid).map(|_| ()))?;
        let mut answers = Vec::new();
        for call in calls {
            let refusal = {
                let machine = self.machine();
                match machine.fault {
                    Some((at, Fault::Answers(number))) if at == machine.operations => Some(number),
                    _ => None,
                }
            };
            let mut machine = self.begin(About::Call)?;
            machine.stopped(tid).ok_or(TargetError::Gone { tid })?;
            answers.push(refusal.map_or_else(|| machine.call(tid, call), |number| -i64::from(number)));
        }
        self.machine().end_loan(tid).ok_or(TargetError::Gone { tid })?;
        Ok(answers)
    }

    fn group(&self) -> i32 {
        self.machine().group
    }

    fn group_of(&self, _tid: Tid) -> i32 {
        self.group()
    }

    fn is_thread(&self, tid: Tid) -> bool {
        self.machine().tasks.get(&tid).is_some_and(|task| !task.is_guest)
    }

    fn shares_memory(&self, _maker: Option<Tid>, tid: Tid) -> bool {
        self.machine().tasks.contains_key(&tid)
    }

    fn child(&mut self, tid: Tid) -> Result<Self, TargetError> {
        let forked = self.machine().forked.remove(&tid);
        forked.map(|machine| Self { machine }).ok_or(TargetError::NoSuchProcess { pid: tid.0 })
    }

    fn part(&mut self, tid: Tid) -> Result<Self, TargetError> {
        let mut machine = self.begin(About::Other("reaching the new address space"))?;
        let task = machine.tasks.remove(&tid).ok_or(TargetError::Gone { tid })?;
        Ok(Self::new(machine.executed_by(tid, task)))
    }

    fn about_to_execute(&self, _: Tid) -> Option<Executable> {
        None
    }

    fn executable(&self, _: Tid) -> Option<Executable> {
        None
    }

    fn is_filtered(&self) -> bool {
        false
    }

    fn report_exits(&mut self) -> Result<(), TargetError> {
        Ok(())
    }

    fn send(&self, tid: Tid, signal: i32) -> Result<(), TargetError> {
        self.task(tid, |machine| machine.tasks.contains_key(&tid).then_some(()))?;
        self.machine().send(tid, SigInfo::new(signal, libc::SI_TKILL, 0));
        Ok(())
    }

    fn remote_state(&self, _: Address) -> Result<Remote, TargetError> {
        // Only asked for where calls are filtered, which they are not.
        Err(failed("reading the state from outside"))
    }

    fn mark(&self, _: Window, _: bool) {}

    fn visit_every_cpu(&self) -> Result<(), TargetError> {
        self.begin(About::Other("visiting the CPUs")).map(drop)
    }

    fn files_called(&self, _name: &str) -> Vec<u64> {
        Vec::new()
    }

    fn take_file(&mut self, _tid: Tid, fd: i32) -> Result<File, TargetError> {
        let machine = self.begin(About::Other("pidfd_getfd"))?;
        machine.file(fd).and_then(Result::ok).ok_or_else(|| failed("pidfd_getfd"))
    }
}
