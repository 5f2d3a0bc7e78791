//! Signals of a traced thread: which are ours, and what becomes of the rest.

use insn::Address;
use insn::isa::Trap;

use super::dispositions::bit;
use super::place::Place;
use super::state::{Boundary, Engine, Notice};
use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::{Target, Tid, Window};
use crate::sys::ptrace::{STOPS, SigInfo};

/// `si_code` of a breakpoint (include/uapi/asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;

/// What a stop by one of our own bytes asks for.
enum Ours {
    /// Go on there.
    At(Address),
    /// Go on there once the front knows.
    Notify(Address),
    /// A thread that asks for a slot: where to go on with one, and without.
    Ask { retry: Address, give_up: Address },
    /// The end of a stub, for a thread that has a signal to get (or one that got in the way of such).
    Exit,
}

impl<T: Target> Engine<T> {
    /// A thread is about to receive a signal.
    pub(super) fn on_signal(&mut self, tid: Tid, info: SigInfo) -> Result<(), TargetError> {
        let info = self.former_info(tid, info)?;
        let registers = match self.target.registers(tid) {
            // It runs where no code of ours can be.
            Err(TargetError::Unsupported { .. }) => return self.run(tid, info.signal()),
            registers => registers?,
        };
        match self.ours(tid, &registers, &info) {
            Some(ours) => self.in_window(|engine| {
                let done = engine.on_trap(tid, registers, &info, &ours);
                engine.go_on_all_the_same(tid, done, 0)
            }),
            None if self.is_ours(registers.pc()) => self.in_window(|engine| {
                let done = engine.on_signal_in_area(tid, registers, info);
                engine.go_on_all_the_same(tid, done, info.signal())
            }),
            None => self.run(tid, info.signal()),
        }
    }

    /// What fails while a signal is handled (memory of ours that the program took away) must not leave its thread standing.
    fn go_on_all_the_same(
        &mut self,
        tid: Tid,
        done: Result<(), TargetError>,
        signal: i32,
    ) -> Result<(), TargetError> {
        match done {
            Err(error) if !matches!(error, TargetError::Gone { .. }) && self.target.is_stopped(tid) => {
                self.tell_of_harm(&error.to_string());
                if self.must_wait(tid) { Ok(()) } else { self.run(tid, signal) }
            }
            other => other,
        }
    }

    /// Does what would cost a signal, or bring one that is none of the program's, if we died in the middle.
    pub(super) fn in_window<R>(&mut self, what: impl FnOnce(&mut Self) -> R) -> R {
        self.target.mark(Window::HeldSignal, true);
        let result = what(self);
        self.target.mark(Window::HeldSignal, false);
        result
    }

    /// Whether our own bytes raised this signal.
    fn ours(&self, tid: Tid, registers: &Registers, info: &SigInfo) -> Option<Ours> {
        let pc = registers.pc();
        match info.signal() {
            libc::SIGTRAP if info.code() == SI_KERNEL => {
                let at = Address(pc.0.wrapping_sub(self.target.isa().abi().pc_past_breakpoint));
                self.breakpoint(at)
            }
            signal if self.raises(signal) && self.is_fault(pc, info) => {
                // The fault's own address first: the PC may have been moved between fault and report. Where the
                // program had the signal pending the old siginfo is reported, and only the PC tells.
                let at = [Address(info.address()), pc];
                let at = at.into_iter().find(|at| self.boundary(*at).is_some())?;
                let boundary = self.boundary(at)?;
                let was_ours = pc == at && !self.put_back.contains(&(tid, at));
                (boundary.live || was_ours).then(|| self.go_on(boundary, at))
            }
            // Not one that a process sent and that finds the thread there by chance.
            libc::SIGSEGV | libc::SIGBUS if info.code() > 0 => self.recovery(pc).map(Ours::At),
            _ => None,
        }
    }

    /// Whether an opcode inside a jump raises this signal, other than as a breakpoint.
    pub(super) fn raises(&self, signal: i32) -> bool {
        self.target.isa().abi().trapping.iter().any(|trapping| match trapping.by {
            Trap::Invalid => signal == libc::SIGILL,
            Trap::Protected => signal == libc::SIGSEGV,
            Trap::Breakpoint => false,
        })
    }

    /// Whether the signal may be the fault of such an opcode: of faults of memory there are others, also in our code.
    fn is_fault(&self, pc: Address, info: &SigInfo) -> bool {
        info.signal() == libc::SIGILL
            || self.boundary(pc).is_some() && matches!(info.code(), SI_KERNEL | ..=0)
    }

    fn breakpoint(&self, at: Address) -> Option<Ours> {
        if let Some(boundary) = self.boundary(at) {
            if !boundary.live && self.is_foreign_breakpoint(at) {
                return None;
            }
            return Some(self.go_on(boundary, at));
        }
        if let Some((routines, offset)) = self.routines_at(at) {
            let ask = routines.asks.iter().find(|ask| ask.offset == offset)?;
            return Some(Ours::Ask {
                retry: routines.at + u64::from(ask.retry),
                give_up: routines.at + u64::from(ask.give_up),
            });
        }
        let (stub, offset) = self.stub_at(at)?;
        stub.exits.iter().any(|exit| exit.offset == offset).then_some(Ours::Exit)
    }

    /// Whether a breakpoint of ours stands there, or stood.
    pub(super) fn may_be_breakpoint(&self, at: Address) -> bool {
        self.boundary(at).is_some() || self.breakpoint(at).is_some()
    }

    /// A retired address where a breakpoint stands again that is none of ours.
    fn is_foreign_breakpoint(&self, at: Address) -> bool {
        let breakpoint = self.target.isa().abi().breakpoint;
        let mut live = vec![0; breakpoint.len()];
        self.target.read(at, &mut live).is_ok() && live == breakpoint
    }

    /// The copy in the stub while the patch is in the text; the restored original afterwards.
    fn go_on(&self, boundary: Boundary, at: Address) -> Ours {
        let to = if boundary.live { self.entry_in(boundary.stub, at).unwrap_or(at) } else { at };
        if boundary.live && boundary.notify { Ours::Notify(to) } else { Ours::At(to) }
    }

    fn recovery(&self, pc: Address) -> Option<Address> {
        let find = |table: &[(u32, u32)], base: Address, offset: u32| {
            table.iter().find(|(fault, _)| *fault == offset).map(|(_, resume)| base + u64::from(*resume))
        };
        if let Some((stub, offset)) = self.stub_at(pc) {
            return find(&stub.recoveries, stub.at, offset);
        }
        let (routines, offset) = self.routines_at(pc)?;
        find(&routines.recoveries, routines.at, offset)
    }

    fn on_trap(
        &mut self,
        tid: Tid,
        mut registers: Registers,
        info: &SigInfo,
        ours: &Ours,
    ) -> Result<(), TargetError> {
        let to = match ours {
            Ours::At(to) | Ours::Notify(to) => *to,
            Ours::Ask { retry, give_up } => {
                let key = self.thread_key(tid);
                let given = self.may_ask(tid) && key.is_some_and(|key| self.assign_slot(tid, key));
                if given { *retry } else { *give_up }
            }
            Ours::Exit => return self.on_exit_trap(tid, registers, info),
        };
        let is_stray = self.raises(info.signal())
            && [registers.pc(), Address(info.address())].into_iter().any(|at| self.boundary(at).is_some());
        if is_stray {
            self.statistics.strays += 1;
            if to == registers.pc() {
                self.put_back.insert((tid, to));
            }
        } else {
            self.statistics.traps += 1;
        }
        registers.set_pc(to);
        self.target.set_registers(tid, &registers)?;
        if matches!(ours, Ours::Notify(_)) {
            self.held.insert(tid);
            self.notices.push_back(Notice::Library(tid));
        }
        self.repair(tid, info.signal())?;
        if self.is_users_own(info) {
            self.requeue(tid, info)?;
        }
        self.go_on_behind_trap(tid)
    }

    /// A thread that asks again and again has a slot that its own program destroys: its events are lost, not its time.
    fn may_ask(&mut self, tid: Tid) -> bool {
        const LIMIT: u32 = 64;
        let asked = self.asked.entry(tid).or_default();
        *asked += 1;
        *asked <= LIMIT
    }

    /// A signal that another process queued, reported in the place of our fault's (which the kernel then drops).
    fn is_users_own(&self, info: &SigInfo) -> bool {
        self.raises(info.signal()) && info.code() <= 0
    }

    /// A signal for a thread that is in a stub. The program must see the address of its own code.
    fn on_signal_in_area(
        &mut self,
        tid: Tid,
        mut registers: Registers,
        mut info: SigInfo,
    ) -> Result<(), TargetError> {
        let pc = registers.pc();
        let synchronous = info.code() > 0
            && matches!(
                info.signal(),
                libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP | libc::SIGSYS
            );
        let is_its_place = |place: &Place| {
            synchronous || place.behind_syscall || place.is_entry && !self.traps(place.original())
        };
        if let Some(place) = self.original_of(pc).filter(is_its_place) {
            if synchronous && Address(info.address()) == pc {
                info.set_address(place.original().0);
                self.target.set_siginfo(tid, &info)?;
            }
            place.put(&mut registers);
            self.target.set_registers(tid, &registers)?;
            let held_back = self.abort_drain(tid)?;
            if !held_back.is_empty() {
                // They come after the fault's handler has begun, as signals that were pending would.
                self.requeue_all(tid, &held_back)?;
                self.requeue(tid, &info)?;
                return self.run(tid, 0);
            }
            return self.run(tid, info.signal());
        }
        if synchronous {
            return self.on_fault_of_stub(tid, info);
        }
        if self.stops_at_once(tid, info.signal())? {
            return self.run(tid, info.signal());
        }
        self.drain(tid, &registers, info)
    }

    /// Whether a thread that is put back there traps again. With signals that come faster than the tracer answers it would
    /// never get beyond.
    fn traps(&self, at: Address) -> bool {
        self.boundary(at).is_some_and(|boundary| boundary.live)
    }

    /// A stub's own code faulted: the program took the memory away from under it. That is delivered as it is, since held
    /// back it would come again and again.
    fn on_fault_of_stub(&mut self, tid: Tid, info: SigInfo) -> Result<(), TargetError> {
        self.tell_of_harm("a probe's own code faulted");
        let held_back = self.abort_drain(tid)?;
        if held_back.is_empty() {
            return self.run(tid, info.signal());
        }
        // It faults again at once.
        self.requeue_all(tid, &held_back)?;
        self.run(tid, 0)
    }

    /// A signal that stops the process and has no handler to see a PC. Held back it would outlive the SIGCONT that undoes
    /// it (kernel/signal.c, `prepare_signal` takes queued ones only).
    fn stops_at_once(&self, tid: Tid, signal: i32) -> Result<bool, TargetError> {
        if !STOPS.contains(&signal) {
            return Ok(false);
        }
        Ok(signal == libc::SIGSTOP || self.target.signal_fields(tid)?.caught & bit(signal) == 0)
    }
}
