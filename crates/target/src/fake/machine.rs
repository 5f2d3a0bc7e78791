//! The fake's kernel: tasks, their stops and signals, and the system calls that xol injects.
//!
//! As much of Linux as the engine depends on, with the places in the kernel it is taken from. Nothing runs by itself: a
//! test steps the tasks, or lets them run while the engine waits for a stop or pauses.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CStr;
use std::fs::File;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use insn::Address;
use symbols::maps::Mapping;

use super::cpu::{self, Outcome};
use super::space::{Access, Space};
use super::{Fault, Kind};
use crate::registers::Registers;
use crate::seam::{Call, Event, Resume, Tid};
use crate::sys::process;
use crate::sys::ptrace::SigInfo;

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
/// "Restart this call unless a handler without SA_RESTART runs" (include/linux/errno.h).
pub(crate) const ERESTARTSYS: u64 = (-512_i64).cast_unsigned();
/// A signal action as `rt_sigaction` has it: handler, flags, restorer, mask.
pub(crate) type Action = [u64; 4];

/// How a task is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    Running,
    /// In the kernel, where no signal reaches it (`D`).
    Uninterruptible,
    /// Stands at a stop that nobody has waited for.
    Reported(Event),
    /// The tracer has it.
    Stopped(Event),
    /// In a group-stop that the tracer leaves it in.
    Listening,
    /// A dead leader whose threads live.
    Zombie,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) registers: Registers,
    pub(crate) mask: u64,
    pub(crate) pending: Vec<SigInfo>,
    pub(crate) run: Run,
    pub(crate) traced: bool,
    /// A process of its own that shares the memory.
    pub(crate) is_guest: bool,
    /// Never answers an interrupt.
    pub(crate) is_deaf: bool,
    /// Stops of the kernel's that come before a pending interrupt's, and swallow it.
    pub(crate) script: VecDeque<Event>,
    interrupted: bool,
}

/// A signal that reached the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) tid: Tid,
    pub(crate) info: SigInfo,
    /// What its frame says.
    pub(crate) pc: Address,
    pub(crate) sp: Address,
    pub(crate) mask: u64,
}

/// Everything behind the seam.
pub(crate) struct Machine {
    pub(crate) group: i32,
    pub(crate) space: Space,
    /// The program's text, and what is there by right.
    pub(crate) text: Range<Address>,
    pub(crate) pristine: Vec<u8>,
    pub(crate) tasks: BTreeMap<Tid, Task>,
    pub(crate) actions: BTreeMap<i32, Action>,
    /// What reached the program, in order.
    pub(crate) deliveries: Vec<Delivery>,
    /// How often an instruction was carried out where the program has it.
    pub(crate) native: BTreeMap<Address, u64>,
    /// Children made by fork, until they are taken.
    pub(crate) forked: BTreeMap<Tid, Rc<RefCell<Self>>>,
    /// What Linux would not have done to a program by itself.
    pub(crate) violations: Vec<String>,
    pub(crate) group_stop: Option<i32>,
    /// The program's calls sleep till a signal comes.
    pub(crate) calls_sleep: bool,
    /// The process may be registered for membarrier.
    pub(crate) has_membarrier: bool,
    /// Text can be written while tasks run.
    pub(crate) write_running: bool,
    /// Instructions that tasks run between an interrupt and its stop, one number a stop.
    pub(crate) lag: VecDeque<u32>,
    /// Instructions a task runs in a millisecond that the engine pauses.
    pub(crate) pace: u32,
    pub(crate) fault: Option<(u64, Fault)>,
    pub(crate) operations: u64,
    /// Whether each operation so far was a system call, or about a task, or neither.
    pub(crate) kinds: Vec<Kind>,
    /// The tracer was killed: nothing it does has an effect.
    pub(crate) is_tracer_dead: bool,
    files: BTreeMap<i32, Rc<File>>,
    began: Instant,
    clock: Duration,
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Machine {
    /// What a running task does; it does not come back from that call.
    pub(crate) fn unmap_text(&mut self) {
        let mut running = self.tasks.values_mut().filter(|task| matches!(task.run, Run::Running)).peekable();
        if running.peek().is_none() {
            return;
        }
        running.for_each(|task| task.run = Run::Uninterruptible);
        self.pace = 0;
        self.space.unmap(&self.text.clone());
    }

    pub(crate) fn has_text(&self) -> bool {
        self.space.mappings().iter().any(|mapping| mapping.range == self.text)
    }

    pub(crate) fn new(space: Space, text: Range<Address>, group: i32) -> Self {
        let pristine = space.bytes(&text);
        Self {
            group,
            space,
            text,
            pristine,
            tasks: BTreeMap::new(),
            actions: BTreeMap::new(),
            deliveries: Vec::new(),
            native: BTreeMap::new(),
            forked: BTreeMap::new(),
            violations: Vec::new(),
            group_stop: None,
            calls_sleep: false,
            has_membarrier: true,
            write_running: true,
            lag: VecDeque::new(),
            pace: 0,
            fault: None,
            operations: 0,
            kinds: Vec::new(),
            is_tracer_dead: false,
            files: BTreeMap::new(),
            began: Instant::now(),
            clock: Duration::ZERO,
        }
    }

    /// Adds a running task.
    pub(crate) fn start(&mut self, tid: Tid, registers: Registers, traced: bool) {
        let task = Task {
            registers,
            mask: 0,
            pending: Vec::new(),
            run: Run::Running,
            traced,
            is_guest: false,
            is_deaf: false,
            script: VecDeque::new(),
            interrupted: false,
        };
        self.tasks.insert(tid, task);
    }

    pub(crate) fn task(&mut self, tid: Tid) -> &mut Task {
        self.tasks.get_mut(&tid).expect("a task of the fake")
    }

    /// A task that has ended shows nothing of the memory, though others live in it (kernel/exit.c, `exit_mm`).
    pub(super) fn has_memory(&self, tid: Tid) -> bool {
        let ended =
            |run: Run| matches!(run, Run::Zombie | Run::Reported(Event::Exited(_) | Event::Killed(_)));
        self.tasks.get(&tid).is_some_and(|task| !ended(task.run))
    }

    pub(super) fn now(&self) -> Instant {
        self.began + self.clock
    }

    /// Time passes, and whoever may run does.
    pub(super) fn pause(&mut self, time: Duration) {
        self.clock += time;
        let steps = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).saturating_mul(self.pace);
        for tid in self.tasks.keys().copied().collect::<Vec<_>>() {
            (0..steps).all(|_| self.step(tid));
        }
    }

    // ---- running ----

    /// Lets a task run one instruction, or take its signal. Gives whether it may go on.
    pub(crate) fn step(&mut self, tid: Tid) -> bool {
        self.settle(tid);
        if self.is_asleep(tid) {
            return false;
        }
        let Some(task) = self.tasks.get_mut(&tid).filter(|task| matches!(task.run, Run::Running)) else {
            return false;
        };
        let pc = task.registers.pc();
        let is_pristine = is_pristine(&self.space, &self.text, &self.pristine, pc);
        let outcome = cpu::step(&mut self.space, &mut task.registers);
        if is_pristine && !matches!(outcome, Outcome::Trap(_)) {
            *self.native.entry(pc).or_default() += 1;
        }
        match outcome {
            Outcome::Done => {}
            Outcome::Syscall => self.system_call(tid),
            Outcome::Trap(info) => self.force(tid, info),
        }
        self.settle(tid);
        matches!(self.tasks.get(&tid).map(|task| task.run), Some(Run::Running))
    }

    /// A system call of the program's own: it answers at once, or sleeps.
    fn system_call(&mut self, tid: Tid) {
        let sleeps = self.calls_sleep;
        let task = self.task(tid);
        let abi = task.registers.isa().abi();
        let number = task.registers.get(abi.syscall.number);
        let behind = task.registers.pc().0;
        let flags = task.registers.get(abi.flags.expect("x86-64 has flags"));
        task.registers.set(cpu::slot(iced_x86::Register::RCX), behind);
        task.registers.set(cpu::slot(iced_x86::Register::R11), flags);
        task.registers.set(abi.syscall.result, if sleeps { ERESTARTSYS } else { 4711 });
        if let Some(original) = abi.syscall.original_number {
            task.registers.set(original, if sleeps { number } else { u64::MAX });
        }
    }

    fn is_asleep(&self, tid: Tid) -> bool {
        self.tasks.get(&tid).is_some_and(|task| {
            let abi = &task.registers.isa().abi().syscall;
            let in_call = abi.original_number.is_some_and(|slot| task.registers.get(slot) != u64::MAX);
            in_call && task.registers.get(abi.result) == ERESTARTSYS
        })
    }

    /// On its way to user mode an interrupted call is restarted, or told to have been interrupted
    /// (arch/x86/kernel/signal.c, `arch_do_signal_or_restart`).
    fn leave_call(&mut self, tid: Tid, interrupts: bool) {
        if !self.is_asleep(tid) {
            return;
        }
        let task = self.task(tid);
        let abi = &task.registers.isa().abi().syscall;
        let Some(original) = abi.original_number else { return };
        let number = task.registers.get(original);
        task.registers.set(original, u64::MAX);
        if interrupts {
            task.registers.set(abi.result, (-i64::from(libc::EINTR)).cast_unsigned());
        } else {
            task.registers.set(abi.result, number);
            let pc = task.registers.pc().offset(-2);
            task.registers.set_pc(pc);
        }
    }

    /// What a task waits for in the kernel has come.
    pub(crate) fn wake(&mut self, tid: Tid) {
        self.leave_call(tid, false);
        let task = self.task(tid);
        if let Run::Uninterruptible = task.run {
            let is_interrupted = std::mem::take(&mut task.interrupted);
            task.run = if is_interrupted { Run::Reported(Event::Interrupted) } else { Run::Running };
        }
    }

    // ---- signals ----

    /// A fault: what blocks or ignores it is lost (kernel/signal.c, `force_sig_info_to_task`).
    fn force(&mut self, tid: Tid, info: SigInfo) {
        let signal = info.signal();
        let is_ignored = self.handler(signal) == SIG_IGN;
        let task = self.task(tid);
        if task.mask & bit(signal) != 0 || is_ignored {
            task.mask &= !bit(signal);
            self.actions.insert(signal, [SIG_DFL; 4]);
        }
        self.queue(tid, info);
    }

    /// A classic signal that is pending already is pending once (kernel/signal.c, `legacy_queue`).
    fn queue(&mut self, tid: Tid, info: SigInfo) {
        let task = self.task(tid);
        if info.signal() >= 32 || task.pending.iter().all(|other| other.signal() != info.signal()) {
            task.pending.push(info);
        }
    }

    /// Sends a signal to a task.
    pub(crate) fn send(&mut self, tid: Tid, info: SigInfo) {
        self.queue(tid, info);
        self.settle(tid);
    }

    fn handler(&self, signal: i32) -> u64 {
        self.actions.get(&signal).map_or(SIG_DFL, |action| action[0])
    }

    /// A running task looks whether there is a signal for it; an interrupt comes first (kernel/signal.c, `get_signal`),
    /// and is reported to who waits.
    fn settle(&mut self, tid: Tid) {
        let Some(task) = self.tasks.get_mut(&tid) else { return };
        if !matches!(task.run, Run::Running) || task.interrupted {
            return;
        }
        match task.script.pop_front() {
            Some(event) if task.traced => {
                task.run = Run::Reported(event);
                return;
            }
            // Nobody traces what it makes now.
            Some(Event::Clone(child)) => self.task(child).run = Run::Running,
            _ => {}
        }
        let Some(task) = self.tasks.get_mut(&tid) else { return };
        // Faults first (kernel/signal.c, `dequeue_synchronous_signal`), then by number.
        let unblocked = |info: &&SigInfo| task.mask & bit(info.signal()) == 0;
        let next = task.pending.iter().filter(unblocked).min_by_key(|info| (info.code() <= 0, info.signal()));
        let Some(info) = next.copied() else { return };
        task.pending.retain(|other| other.signal() != info.signal());
        if task.traced {
            task.run = Run::Reported(Event::Signal(info));
        } else {
            self.deliver(tid, info);
        }
    }

    /// The program gets a signal. Its handlers return at once.
    fn deliver(&mut self, tid: Tid, info: SigInfo) {
        const SA_RESTART: u64 = 0x1000_0000;
        let signal = info.signal();
        let action = self.actions.get(&signal).copied().unwrap_or_default();
        if action[0] > SIG_IGN {
            self.leave_call(tid, action[1] & SA_RESTART == 0);
        }
        let task = self.task(tid);
        let (pc, sp, mask) = (task.registers.pc(), task.registers.sp(), task.mask);
        self.deliveries.push(Delivery { tid, info, pc, sp, mask });
        let is_harmless = matches!(signal, libc::SIGCHLD | libc::SIGCONT | libc::SIGWINCH | libc::SIGURG);
        if action[0] == SIG_DFL && !is_harmless {
            self.kill(signal);
        }
    }

    /// The whole process dies of a signal.
    pub(crate) fn kill(&mut self, signal: i32) {
        for task in self.tasks.values_mut() {
            task.run = Run::Reported(Event::Killed(signal));
        }
    }

    /// One task ends.
    pub(crate) fn end(&mut self, tid: Tid, event: Event) {
        self.task(tid).run = Run::Reported(event);
    }

    /// Job control stops the process.
    pub(crate) fn stop_group(&mut self, signal: i32) {
        self.group_stop = Some(signal);
        for task in self.tasks.values_mut().filter(|task| matches!(task.run, Run::Running)) {
            task.run = if task.traced { Run::Reported(Event::GroupStop(signal)) } else { Run::Listening };
        }
    }

    /// SIGCONT.
    pub(crate) fn continue_group(&mut self) {
        self.group_stop = None;
        for task in self.tasks.values_mut().filter(|task| matches!(task.run, Run::Listening)) {
            task.run = if task.traced { Run::Reported(Event::Interrupted) } else { Run::Running };
        }
    }

    /// A task reports that it made another one, `child`, at whose first stop it stands.
    pub(crate) fn make_thread(&mut self, maker: Tid, child: Tid, registers: Registers) {
        self.start(child, registers, true);
        let task = self.task(child);
        task.run = Run::Reported(Event::Interrupted);
        task.traced = false;
        self.task(maker).script.push_back(Event::Clone(child));
        self.settle(maker);
    }

    /// A task forks: the child has a copy of the memory, and stands before its first instruction.
    pub(crate) fn fork(&mut self, maker: Tid, child: Tid) -> Rc<RefCell<Self>> {
        let mut other = Self::new(self.space.clone(), self.text.clone(), child.0);
        other.pristine.clone_from(&self.pristine);
        other.actions.clone_from(&self.actions);
        let mut task = self.task(maker).clone();
        task.run = Run::Reported(Event::Interrupted);
        task.pending.clear();
        other.tasks.insert(child, task);
        let other = Rc::new(RefCell::new(other));
        self.forked.insert(child, Rc::clone(&other));
        self.task(maker).script.push_back(Event::Fork(child));
        self.settle(maker);
        other
    }

    /// The machine after `tid` executed the program anew: its text, and memory for the one task.
    pub(super) fn executed_by(&self, tid: Tid, task: Task) -> Self {
        let mut space = self.space.clone();
        for mapping in space.mappings().iter().filter(|mapping| crate::area::is_ours(mapping)) {
            space.unmap(&mapping.range);
        }
        space.poke(self.text.start, &self.pristine);
        let mut other = Self::new(space, self.text.clone(), tid.0);
        other.tasks.insert(tid, task);
        other
    }

    /// The tracer was killed: every task goes on without it (kernel/ptrace.c, `exit_ptrace`), one that stood at a signal
    /// with the signal.
    pub(crate) fn lose_tracer(&mut self) {
        self.is_tracer_dead = false;
        self.fault = None;
        for tid in self.tasks.keys().copied().collect::<Vec<_>>() {
            self.let_go(tid, None);
        }
    }

    fn let_go(&mut self, tid: Tid, signal: Option<i32>) {
        let group_stop = self.group_stop;
        let task = self.task(tid);
        let was = task.run;
        task.traced = false;
        task.interrupted = false;
        if let Run::Reported(Event::Exited(_) | Event::Killed(_)) | Run::Zombie | Run::Uninterruptible = was {
            return;
        }
        task.run = if group_stop.is_some() { Run::Listening } else { Run::Running };
        match (was, signal) {
            (Run::Stopped(Event::Signal(info)) | Run::Reported(Event::Signal(info)), None) => {
                self.deliver(tid, info);
            }
            (Run::Stopped(Event::Signal(info)), Some(signal)) if signal != 0 => self.deliver(tid, info),
            _ => {}
        }
        if group_stop.is_none() {
            self.leave_call(tid, false);
            self.settle(tid);
        }
    }

    // ---- what the tracer does ----

    /// A task that stands at a stop of the tracer's.
    pub(super) fn stopped(&mut self, tid: Tid) -> Option<&mut Task> {
        self.tasks.get_mut(&tid).filter(|task| task.traced && matches!(task.run, Run::Stopped(_)))
    }

    pub(super) fn interrupt(&mut self, tid: Tid) -> Option<()> {
        let task = self.tasks.get_mut(&tid).filter(|task| task.traced)?;
        match task.run {
            Run::Listening => {
                let signal = self.group_stop.unwrap_or(libc::SIGSTOP);
                task.run = Run::Reported(Event::GroupStop(signal));
            }
            _ => task.interrupted = true,
        }
        Some(())
    }

    /// The task's next stop, if it comes before `deadline`.
    pub(super) fn wait(&mut self, tid: Tid, deadline: Instant) -> Option<Option<Event>> {
        self.tasks.get(&tid).filter(|task| task.traced)?;
        if matches!(self.task(tid).run, Run::Running) && self.task(tid).interrupted && !self.task(tid).is_deaf
        {
            self.stop(tid);
        }
        self.settle(tid);
        let task = self.task(tid);
        let Run::Reported(event) = task.run else {
            self.clock += deadline.saturating_duration_since(self.began + self.clock);
            return Some(None);
        };
        task.run = Run::Stopped(event);
        if matches!(event, Event::Exited(_) | Event::Killed(_)) {
            self.tasks.remove(&tid);
        }
        Some(Some(event))
    }

    /// A running task notices that it was interrupted, some instructions later.
    fn stop(&mut self, tid: Tid) {
        for _ in 0..self.lag.pop_front().unwrap_or(0) {
            // A fault leads into the kernel, where the interrupt is served first and the fault stays pending.
            let task = self.task(tid);
            if task.pending.iter().any(|info| task.mask & bit(info.signal()) == 0) || !self.step(tid) {
                break;
            }
        }
        let task = self.task(tid);
        if matches!(task.run, Run::Running) {
            // Any other stop swallows a pending interrupt (kernel/signal.c, `ptrace_stop`).
            task.run = Run::Reported(task.script.pop_front().unwrap_or(Event::Interrupted));
            task.interrupted = false;
        }
    }

    pub(super) fn resume(&mut self, tid: Tid, how: Resume) -> Option<()> {
        let group_stop = self.group_stop;
        let task = self.tasks.get_mut(&tid).filter(|task| task.traced)?;
        let Run::Stopped(at) = task.run else {
            return matches!(task.run, Run::Running | Run::Listening | Run::Uninterruptible).then_some(());
        };
        match (how, at) {
            (Resume::Listen, _) => {
                task.run = Run::Listening;
                if group_stop.is_none() {
                    self.violations.push(format!("{tid} stays stopped although the process goes on"));
                }
            }
            (Resume::Run(signal) | Resume::ToSyscall(signal), at) => {
                task.run = Run::Running;
                match at {
                    Event::Signal(info) if signal != 0 => self.deliver(tid, info),
                    Event::GroupStop(_) if group_stop.is_some() => {
                        self.violations.push(format!("{tid} runs although the process is stopped"));
                    }
                    _ => {}
                }
                self.go_on(tid);
            }
        }
        Some(())
    }

    /// A task is on its way to user mode.
    fn go_on(&mut self, tid: Tid) {
        let group_stop = self.group_stop;
        let task = self.task(tid);
        match (task.run, group_stop) {
            (Run::Running, Some(signal)) => task.run = Run::Reported(Event::GroupStop(signal)),
            // An interrupt that came while it stood stops it again before it gets there.
            (Run::Running, None) if task.interrupted => {
                task.run = Run::Reported(Event::Interrupted);
                task.interrupted = false;
            }
            (Run::Running, None) => {
                self.leave_call(tid, false);
                self.settle(tid);
            }
            _ => {}
        }
    }

    pub(super) fn detach(&mut self, tid: Tid, signal: i32) -> Option<()> {
        self.stopped(tid)?;
        self.let_go(tid, Some(signal));
        Some(())
    }

    pub(super) fn set_siginfo(&mut self, tid: Tid, new: SigInfo) -> Option<()> {
        match &mut self.stopped(tid)?.run {
            Run::Stopped(Event::Signal(info)) => {
                *info = new;
                Some(())
            }
            _ => None,
        }
    }

    /// The stop after an injected call.
    pub(super) fn end_loan(&mut self, tid: Tid) -> Option<()> {
        let event = self.group_stop.map_or(Event::Interrupted, Event::GroupStop);
        self.stopped(tid)?.run = Run::Stopped(event);
        Some(())
    }

    /// One injected system call.
    pub(super) fn call(&mut self, tid: Tid, call: &Call) -> i64 {
        self.answer(tid, call).unwrap_or_else(|error| -i64::from(error))
    }

    fn answer(&mut self, tid: Tid, call: &Call) -> Result<i64, i32> {
        let isa = insn::Isa::X86_64;
        let numbers = &isa.abi().numbers;
        let [a, b, c, d, e, f] = call.arguments;
        match call.number {
            number if number == numbers.memfd_create => self.memfd_create(Address(a)),
            number if number == numbers.mmap => self.mmap(Address(a).span(b), c, d, e, f),
            number if number == numbers.munmap => {
                self.space.unmap(&Address(a).span(b.next_multiple_of(4096)));
                Ok(0)
            }
            number if number == numbers.close => {
                i32::try_from(a).ok().and_then(|fd| self.files.remove(&fd)).map(|_| 0).ok_or(libc::EBADF)
            }
            number if number == numbers.rt_sigaction => self.rt_sigaction(a, Address(b), Address(c)),
            number if number == numbers.membarrier && self.has_membarrier => Ok(0),
            number if Some(number) == numbers.rt_tgsigqueueinfo => {
                let mut raw = [0; 128];
                self.space.read(Address(d), &mut raw, Access::Read).ok_or(libc::EFAULT)?;
                let info = SigInfo::from_bytes(&raw);
                (a == u64::from(self.group.cast_unsigned()) && b == u64::from(tid.0.cast_unsigned()))
                    .then(|| self.queue(tid, info))
                    .ok_or(libc::EPERM)?;
                Ok(0)
            }
            _ => Err(libc::ENOSYS),
        }
    }

    fn memfd_create(&mut self, name: Address) -> Result<i64, i32> {
        let mut text = [0; 8];
        self.space.read(name, &mut text, Access::Read).ok_or(libc::EFAULT)?;
        let name = CStr::from_bytes_until_nul(&text).map_err(|_| libc::EINVAL)?;
        let file = process::memfd(name, 0).map_err(|_| libc::EMFILE)?;
        let fd = (3..).find(|fd| !self.files.contains_key(fd)).ok_or(libc::EMFILE)?;
        self.files.insert(fd, Rc::new(file));
        Ok(fd.into())
    }

    fn mmap(
        &mut self,
        range: Range<Address>,
        protection: u64,
        flags: u64,
        fd: u64,
        offset: u64,
    ) -> Result<i64, i32> {
        let range = range.start..Address(range.end.0.next_multiple_of(4096));
        if flags & u64::from(libc::MAP_FIXED.cast_unsigned()) != 0 {
            self.space.unmap(&range);
        }
        if !self.space.is_free(&range) {
            return Err(libc::EEXIST);
        }
        let file = i32::try_from(fd).ok().and_then(|fd| self.files.get(&fd)).ok_or(libc::EBADF)?;
        let allows = |bit: i32| protection & u64::from(bit.cast_unsigned()) != 0;
        let shared = flags & 0xf == u64::from(libc::MAP_SHARED.cast_unsigned());
        let is_state = allows(libc::PROT_WRITE);
        let mapping = Mapping {
            range: range.clone(),
            readable: allows(libc::PROT_READ),
            writable: is_state,
            executable: allows(libc::PROT_EXEC),
            shared,
            offset,
            device: (0, 1),
            inode: 1000 + fd,
            path: Some(if is_state { "/memfd:xol:st" } else { "/memfd:xol" }.to_owned()),
            deleted: true,
        };
        if shared {
            self.space.map_shared(mapping, Rc::clone(file));
        } else {
            let len = usize::try_from(range.end - range.start).map_err(|_| libc::ENOMEM)?;
            self.space.map(mapping, vec![0; len]);
        }
        Ok(range.start.0.cast_signed())
    }

    fn rt_sigaction(&mut self, signal: u64, new: Address, old: Address) -> Result<i64, i32> {
        let signal = i32::try_from(signal).map_err(|_| libc::EINVAL)?;
        let mut raw = [0; 32];
        if old.0 != 0 {
            let action = self.actions.get(&signal).copied().unwrap_or_default();
            let bytes: Vec<u8> = action.into_iter().flat_map(u64::to_le_bytes).collect();
            self.space.write(old, &bytes, Access::Write).ok_or(libc::EFAULT)?;
        }
        if new.0 != 0 {
            self.space.read(new, &mut raw, Access::Read).ok_or(libc::EFAULT)?;
            let words =
                raw.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
            let mut action = Action::default();
            action.iter_mut().zip(words).for_each(|(to, word)| *to = word);
            self.actions.insert(signal, action);
            if action[0] == SIG_IGN {
                // What is pending of it goes, in all threads (kernel/signal.c, `do_sigaction`).
                let tasks = self.tasks.values_mut();
                tasks.for_each(|task| task.pending.retain(|info| info.signal() != signal));
            }
        }
        Ok(0)
    }

    pub(super) fn file(&self, fd: i32) -> Option<std::io::Result<File>> {
        self.files.get(&fd).map(|file| file.try_clone())
    }
}

/// Whether the instruction at `pc` is the program's own.
fn is_pristine(space: &Space, text: &Range<Address>, pristine: &[u8], pc: Address) -> bool {
    if !text.contains(&pc) {
        return false;
    }
    let offset = usize::try_from(pc - text.start).unwrap_or(usize::MAX);
    let Some(len) = insn::instruction_len(insn::Isa::X86_64, pc, &pristine[offset..]) else { return false };
    let mut live = vec![0; len];
    space.read(pc, &mut live, Access::Execute).is_some() && live == pristine[offset..offset + len]
}
