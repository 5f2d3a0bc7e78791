//! Signals held back until their thread has left the stub.
//!
//! Every way out of a stub is an unconditional branch at a known place. While a thread has a signal to get, the first byte of
//! each is a breakpoint; whoever arrives there is moved to where the branch leads, and the one with the signal gets it
//! there. So no private copy of the stub is needed, and nothing is ever single-stepped.

use std::collections::BTreeSet;

use insn::Address;
use insn::isa::Order;
use insn::relocate::{Destination, Thread, branch_target};
use program::layout::SharedMemory;
use program::stub::Stub;

use super::change::answer;
use super::dispositions::bit;
use super::state::Engine;
use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::{Call, Resume, Target, Tid, Window};
use crate::sys::ptrace::SigInfo;

/// A thread on its way to the end of a stub.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    /// The stub.
    stub: Address,
    /// The signals it gets then, in the order in which they came.
    held_back: Vec<SigInfo>,
    /// Its own mask.
    mask: u64,
    /// Whether a system call is among the displaced instructions.
    calls: bool,
    /// Whether job control has stopped it, and it runs for us alone.
    stopped: bool,
}

impl Drain {
    /// The mask that the program gave the thread.
    pub(super) fn mask(&self) -> u64 {
        self.mask
    }
}

/// Faults of the displaced instruction, and our own traps, must get through meanwhile.
const LET_THROUGH: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

impl<T: Target> Engine<T> {
    /// Lets the thread run to the end of its stub before it gets the signal.
    pub(super) fn drain(
        &mut self,
        tid: Tid,
        registers: &Registers,
        info: SigInfo,
    ) -> Result<(), TargetError> {
        if let Some(drain) = self.draining.get_mut(&tid) {
            // One that a process sent, of those that are let through. It would have been queued once.
            if drain.held_back.iter().all(|other| other.signal() != info.signal()) {
                drain.held_back.push(info);
            }
            return self.run(tid, 0);
        }
        let Some(stub) = self.stub_of(registers) else {
            // In a mapping of ours, but in no code of ours: the program jumped there by itself.
            return self.run(tid, info.signal());
        };
        self.statistics.held_signals += 1;
        self.begin_drain(tid, stub, vec![info])?;
        self.run(tid, 0)
    }

    /// Runs a thread that job control has stopped to the end of its stub, where it is stopped again.
    pub(super) fn drain_stopped(&mut self, tid: Tid, registers: &Registers) -> Result<(), TargetError> {
        if !self.draining.contains_key(&tid) {
            let Some(stub) = self.stub_of(registers) else { return Ok(()) };
            self.begin_drain(tid, stub, Vec::new())?;
        }
        match self.draining.get_mut(&tid) {
            // It stays: in a system call it would not be stopped.
            Some(drain) if drain.calls => Ok(()),
            Some(drain) => {
                drain.stopped = true;
                self.target.resume(tid, Resume::Run(0))
            }
            None => Ok(()),
        }
    }

    fn begin_drain(&mut self, tid: Tid, stub: Address, held_back: Vec<SigInfo>) -> Result<(), TargetError> {
        let mask = self.target.signal_mask(tid)?;
        self.target.mark(Window::HeldSignal, true);
        let begun =
            self.arm_exits(stub, true).and_then(|()| self.target.set_signal_mask(tid, !let_through()));
        if begun.is_err() {
            self.target.mark(Window::HeldSignal, false);
            return begun;
        }
        let points = self.stubs.get(&stub).map(|stub| stub.points.as_slice()).unwrap_or_default();
        let calls = points.iter().any(|point| point.behind_syscall);
        self.draining.insert(tid, Drain { stub, held_back, mask, calls, stopped: false });
        Ok(())
    }

    /// Whether a thread may come to a system call on its way out. Asleep there it would keep its signal waiting.
    pub(super) fn may_sleep_in_drain(&self, tid: Tid) -> bool {
        self.draining.get(&tid).is_some_and(|drain| drain.calls)
    }

    /// A thread on its way out has come to a displaced system call: it has its own mask in there, and its signals wait for it
    /// as they would have. They find it behind the call.
    pub(super) fn on_drained_call(&mut self, tid: Tid) -> Result<(), TargetError> {
        self.in_window(|engine| {
            let held_back = engine.abort_drain(tid)?;
            held_back.iter().try_for_each(|info| engine.reissue(tid, info))
        })?;
        if self.may_be_let_go(tid) { self.on_guest_call(tid) } else { self.run(tid, 0) }
    }

    /// The stub a thread is in: by its PC, or from a shared routine by the return address at its stack pointer.
    fn stub_of(&self, registers: &Registers) -> Option<Address> {
        let pc = registers.pc();
        if let Some((stub, _)) = self.stub_at(pc) {
            return Some(stub.at);
        }
        self.routines_at(pc)?;
        let mut word = vec![0; self.target.isa().abi().word];
        self.target.read(registers.sp(), &mut word).ok()?;
        self.stub_at(Address(Order::Little.number(&word))).map(|(stub, _)| stub.at)
    }

    /// Writes breakpoints over the exits of a stub, or the exits' own bytes again.
    fn arm_exits(&mut self, at: Address, armed: bool) -> Result<(), TargetError> {
        let breakpoint = self.target.isa().abi().breakpoint;
        for (address, own) in self.exits_of(at) {
            self.target.write(address, if armed { breakpoint } else { &own })?;
        }
        Ok(())
    }

    /// The exits of a stub, and the bytes of them over which a breakpoint is written.
    fn exits_of(&self, at: Address) -> Vec<(Address, Vec<u8>)> {
        let len = self.target.isa().abi().breakpoint.len();
        let Some(stub) = self.stubs.get(&at) else { return Vec::new() };
        let own = |offset: u32| {
            let start = usize::try_from(offset).ok()?;
            Some((at + u64::from(offset), stub.bytes.get(start..start + len)?.to_vec()))
        };
        exit_offsets(stub).into_iter().filter_map(own).collect()
    }

    /// Every exit that has a breakpoint now, with its own bytes.
    pub(super) fn exits_under_breakpoints(&self) -> Vec<(Address, Vec<u8>)> {
        let stubs: BTreeSet<Address> = self.draining.values().map(|drain| drain.stub).collect();
        stubs.into_iter().flat_map(|stub| self.exits_of(stub)).collect()
    }

    /// Whether a thread is on its way out of this stub.
    pub(super) fn is_drained(&self, stub: Address) -> bool {
        self.draining.values().any(|drain| drain.stub == stub)
    }

    /// The mask of a thread that has all signals blocked while it leaves a stub.
    pub(super) fn mask_before_drain(&self, tid: Tid) -> Option<u64> {
        self.draining.get(&tid).map(|drain| drain.mask)
    }

    /// A thread met the breakpoint over an exit.
    pub(super) fn on_exit_trap(
        &mut self,
        tid: Tid,
        mut registers: Registers,
        info: &SigInfo,
    ) -> Result<(), TargetError> {
        let at = Address(registers.pc().0.wrapping_sub(self.target.isa().abi().pc_past_breakpoint));
        match self.behind_exit(tid, at, &registers) {
            Some((pc, sp)) => {
                registers.set_pc(pc);
                registers.set_sp(sp);
            }
            // The branch reads memory that is not there: let the branch itself fault.
            None => registers.set_pc(at),
        }
        self.target.set_registers(tid, &registers)?;
        let stopped = self.draining.get(&tid).is_some_and(|drain| drain.stopped);
        let held_back = self.abort_drain(tid)?;
        let moved = self.repair(tid, info.signal())?;
        if stopped {
            self.target.interrupt(tid)?;
        }
        match held_back.as_slice() {
            [only] if !moved && !stopped => {
                self.target.set_siginfo(tid, only)?;
                self.run(tid, only.signal())
            }
            all => {
                self.requeue_all(tid, all)?;
                self.go_on_behind_trap(tid)
            }
        }
    }

    /// The thread has left its stub: its own mask again, and the exits unless another waits for them. Gives the
    /// signals that were held back.
    pub(super) fn abort_drain(&mut self, tid: Tid) -> Result<Vec<SigInfo>, TargetError> {
        let Some(drain) = self.draining.remove(&tid) else { return Ok(Vec::new()) };
        let own = self.target.set_signal_mask(tid, drain.mask);
        if !self.is_drained(drain.stub)
            && let Err(error) = self.arm_exits(drain.stub, false)
        {
            // Nobody is in a stub that is not there any more.
            self.tell_of_harm(&error.to_string());
        }
        self.target.mark(Window::HeldSignal, false);
        own.map(|()| drain.held_back)
    }

    /// The thread was taken out of its stub by other means while a signal was held back for it: it gets it now. The world is
    /// stopped, and the thread stands at an interrupt stop again afterwards.
    pub(super) fn end_drain(&mut self, tid: Tid) -> Result<(), TargetError> {
        self.in_window(|engine| {
            let held_back = engine.abort_drain(tid)?;
            engine.requeue_all(tid, &held_back)
        })
    }

    /// A thread ended on its way to an exit: nobody waits for it there any more.
    pub(super) fn forget_drain(&mut self, tid: Tid) {
        let Some(drain) = self.draining.remove(&tid) else { return };
        if !self.is_drained(drain.stub) {
            // The address space may be gone with the thread.
            let _ = self.arm_exits(drain.stub, false);
        }
        self.target.mark(Window::HeldSignal, false);
    }

    /// Where an exit leads: the new `(pc, sp)`.
    fn behind_exit(&self, tid: Tid, at: Address, registers: &Registers) -> Option<(Address, Address)> {
        let (stub, offset) = self.stub_at(at)?;
        let exit = stub.exits.iter().find(|exit| exit.offset == offset)?;
        match exit.to {
            Destination::Fixed(to) => Some((to, registers.sp())),
            Destination::Computed => {
                let start = usize::try_from(offset).ok()?;
                let bytes = stub.bytes.get(start..(start + 15).min(stub.bytes.len()))?;
                let mut read = |at: Address, buffer: &mut [u8]| self.target.read(at, buffer).is_ok();
                let thread =
                    Thread { registers: registers.bytes(), thread_pointer: self.target.thread_pointer(tid) };
                branch_target(self.target.isa(), at, bytes, &thread, &mut read)
            }
        }
    }

    /// [`Self::requeue`] for each, in this order.
    pub(super) fn requeue_all(&mut self, tid: Tid, infos: &[SigInfo]) -> Result<(), TargetError> {
        infos.iter().try_for_each(|info| self.requeue(tid, info))
    }

    /// Puts a signal back into the thread's queue, with its own siginfo, by a call the thread makes itself (the kernel
    /// takes any `si_code` from a thread for itself).
    ///
    /// Where that call must not be made, or fails (EAGAIN at RLIMIT_SIGPENDING, EFAULT where the program unmapped the state),
    /// it is sent from outside.
    pub(super) fn requeue(&mut self, tid: Tid, info: &SigInfo) -> Result<(), TargetError> {
        let number = self.target.isa().abi().numbers.rt_tgsigqueueinfo;
        // The filter may be newer than the last look.
        let Some(number) = number.filter(|_| !self.gentle && !self.target.is_filtered()) else {
            return self.reissue(tid, info);
        };
        match self.queue_to_itself(tid, info, number) {
            Err(TargetError::Injected { .. }) => self.reissue(tid, info),
            other => other,
        }
    }

    /// Sends a signal again from outside. It gets its siginfo back when it arrives.
    fn reissue(&mut self, tid: Tid, info: &SigInfo) -> Result<(), TargetError> {
        self.reissued.push((tid, *info));
        self.target.send(tid, info.signal())
    }

    fn queue_to_itself(&mut self, tid: Tid, info: &SigInfo, number: u64) -> Result<(), TargetError> {
        let (Some(layout), Some((state, _)), Some(shared)) = (&self.layout, self.state_at, &self.shared)
        else {
            return self.reissue(tid, info);
        };
        let offset = layout.scratch().start;
        for (index, word) in info.bytes().chunks_exact(8).enumerate() {
            shared.store(offset + 8 * index, u64::from_ne_bytes(word.try_into().unwrap_or([0; 8])));
        }
        let at = state.0 + offset as u64;
        // The call is the thread's own: it takes the numbers of the thread's pid namespace.
        let [group, thread] = [Tid(self.target.group_of(tid)), tid]
            .map(|tid| u64::from(self.target.number_inside(tid).0.cast_unsigned()));
        let signal = u64::from(info.signal().cast_unsigned());
        let arguments = [group, thread, signal, at, 0, 0];
        let got = self.target.call(tid, &[Call { name: "rt_tgsigqueueinfo", number, arguments }])?;
        // The thread must go on whatever comes of this (EAGAIN at RLIMIT_SIGPENDING, for one).
        if let Err(error) = answer("rt_tgsigqueueinfo", got.first().copied()) {
            self.warn(format!("thread {tid} lost signal {}: {error}", info.signal()));
        }
        Ok(())
    }
}

impl<T: Target> Engine<T> {
    /// The siginfo that a signal had before it was sent again from outside.
    pub(super) fn former_info(&mut self, tid: Tid, info: SigInfo) -> Result<SigInfo, TargetError> {
        let is_it = |(to, was): &(Tid, SigInfo)| *to == tid && was.signal() == info.signal();
        // From outside its pid namespace a sender has no number there. Nor has a signal for which the kernel had no memory.
        let is_ours = match info.code() {
            libc::SI_TKILL => info.sender() == self.owner.0 || info.sender() == 0,
            libc::SI_USER => info.sender() == 0,
            _ => false,
        };
        let Some(index) = self.reissued.iter().position(is_it).filter(|_| is_ours) else { return Ok(info) };
        let (_, former) = self.reissued.remove(index);
        self.target.set_siginfo(tid, &former)?;
        Ok(former)
    }
}

fn let_through() -> u64 {
    LET_THROUGH.iter().fold(0, |set, signal| set | bit(*signal))
}

fn exit_offsets(stub: &Stub) -> BTreeSet<u32> {
    stub.exits.iter().map(|exit| exit.offset).collect()
}
