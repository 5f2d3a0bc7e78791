//! Signals held back until their thread has left the stub.
//!
//! Every way out of a stub is an unconditional branch at a known place. While a thread has a signal to get, the first byte of
//! each is a breakpoint; whoever arrives there is moved to where the branch leads, and the one with the signal gets it
//! there. So no private copy of the stub is needed, and nothing is ever single-stepped.

use std::collections::BTreeSet;

use insn::Address;
use insn::relocate::{Destination, branch_target};
use program::layout::SharedMemory;
use program::stub::Stub;

use super::change::answer;
use super::dispositions::bit;
use super::state::Engine;
use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::{Call, Target, Tid, Window};
use crate::sys::ptrace::SigInfo;

/// A thread on its way to the end of a stub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// The stub.
    stub: Address,
    /// The signal it gets then.
    info: SigInfo,
    /// Its own mask.
    mask: u64,
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
    pub(super) fn drain(&mut self, tid: Tid, registers: Registers, info: SigInfo) -> Result<(), TargetError> {
        let Some(stub) = self.stub_of(&registers) else {
            // In a mapping of ours, but in no code of ours: the program jumped there by itself.
            return self.run(tid, info.signal());
        };
        self.statistics.held_signals += 1;
        let mask = self.target.signal_mask(tid)?;
        let all = !LET_THROUGH.iter().fold(0, |set, signal| set | bit(*signal));
        self.target.mark(Window::HeldSignal, true);
        self.draining.insert(tid, Drain { stub, info, mask });
        self.target.set_signal_mask(tid, mask & !bits() | all)?;
        self.arm_exits(stub, true)?;
        self.run(tid, 0)
    }

    /// Nobody waits for the thread at an exit any more: the exits are their own again unless another waits there.
    fn take_drain(&mut self, tid: Tid) -> Option<(Drain, Result<(), TargetError>)> {
        let drain = self.draining.remove(&tid)?;
        let is_last = !self.draining.values().any(|other| other.stub == drain.stub);
        Some((drain, if is_last { self.arm_exits(drain.stub, false) } else { Ok(()) }))
    }

    /// The stub a thread is in: by its PC, or from a shared routine by the return address at its stack pointer.
    fn stub_of(&self, registers: &Registers) -> Option<Address> {
        let pc = registers.pc();
        if let Some((stub, _)) = self.stub_at(pc) {
            return Some(stub.at);
        }
        self.routines_at(pc)?;
        let mut word = [0; 8];
        self.target.read(registers.sp(), &mut word).ok()?;
        self.stub_at(Address(u64::from_le_bytes(word))).map(|(stub, _)| stub.at)
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
        match self.behind_exit(at, &registers) {
            Some((pc, sp)) => {
                registers.set_pc(pc);
                registers.set_sp(sp);
            }
            // The branch reads memory that is not there: let the branch itself fault.
            None => registers.set_pc(at),
        }
        self.target.set_registers(tid, &registers)?;
        let held_back = self.abort_drain(tid)?;
        let moved = self.repair(tid, info.signal())?;
        let Some(held_back) = held_back else { return self.go_on_behind_trap(tid) };
        if moved {
            self.requeue(tid, &held_back)?;
            return self.go_on_behind_trap(tid);
        }
        self.target.set_siginfo(tid, &held_back)?;
        self.run(tid, held_back.signal())
    }

    /// The thread has left its stub: its own mask again, and the exits unless another waits for them. Gives the
    /// signal that was held back.
    pub(super) fn abort_drain(&mut self, tid: Tid) -> Result<Option<SigInfo>, TargetError> {
        let Some((drain, disarmed)) = self.take_drain(tid) else { return Ok(None) };
        let own = disarmed.and_then(|()| self.target.set_signal_mask(tid, drain.mask));
        self.target.mark(Window::HeldSignal, false);
        own.map(|()| Some(drain.info))
    }

    /// The thread was taken out of its stub by other means while a signal was held back for it: it gets it now. The world is
    /// stopped, and the thread stands at an interrupt stop again afterwards.
    pub(super) fn end_drain(&mut self, tid: Tid) -> Result<(), TargetError> {
        match self.abort_drain(tid)? {
            Some(info) => self.requeue(tid, &info),
            None => Ok(()),
        }
    }

    /// A thread ended on its way to an exit: nobody waits for it there any more.
    pub(super) fn forget_drain(&mut self, tid: Tid) {
        // The address space may be gone with the thread: then nothing can be written, nor need be.
        if self.take_drain(tid).is_some() {
            self.target.mark(Window::HeldSignal, false);
        }
    }

    /// Where an exit leads: the new `(pc, sp)`.
    fn behind_exit(&self, at: Address, registers: &Registers) -> Option<(Address, Address)> {
        let (stub, offset) = self.stub_at(at)?;
        let exit = stub.exits.iter().find(|exit| exit.offset == offset)?;
        match exit.to {
            Destination::Fixed(to) => Some((to, registers.sp())),
            Destination::Computed => {
                let start = usize::try_from(offset).ok()?;
                let bytes = stub.bytes.get(start..(start + 15).min(stub.bytes.len()))?;
                let mut read = |at: Address, buffer: &mut [u8]| self.target.read(at, buffer).is_ok();
                branch_target(self.target.isa(), at, bytes, registers.bytes(), &mut read)
            }
        }
    }

    /// Puts a signal back into the thread's queue, with its own siginfo, by a call the thread makes itself (the kernel
    /// takes any `si_code` from a thread for itself).
    ///
    /// Where that call must not be made it is sent from outside, and gets its siginfo back when it arrives.
    pub(super) fn requeue(&mut self, tid: Tid, info: &SigInfo) -> Result<(), TargetError> {
        if self.gentle {
            self.reissued.push((tid, *info));
            return self.target.send(tid, info.signal());
        }
        let (Some(layout), Some((state, _)), Some(shared)) = (&self.layout, self.state_at, &self.shared)
        else {
            return Ok(());
        };
        let offset = layout.scratch().start;
        for (index, word) in info.bytes().chunks_exact(8).enumerate() {
            shared.store(offset + 8 * index, u64::from_ne_bytes(word.try_into().unwrap_or([0; 8])));
        }
        let at = state.0 + offset as u64;
        let number = self.target.isa().abi().numbers.rt_tgsigqueueinfo;
        let group = u64::from(self.target.group().cast_unsigned());
        let signal = u64::from(info.signal().cast_unsigned());
        let arguments = [group, u64::from(tid.0.cast_unsigned()), signal, at, 0, 0];
        let got = self.target.call(tid, &[Call { name: "rt_tgsigqueueinfo", number, arguments }])?;
        answer("rt_tgsigqueueinfo", got.first().copied()).map(drop)
    }
}

impl<T: Target> Engine<T> {
    /// The siginfo that a signal had before it was sent again from outside.
    pub(super) fn former_info(&mut self, tid: Tid, info: SigInfo) -> Result<SigInfo, TargetError> {
        let is_it = |(to, was): &(Tid, SigInfo)| *to == tid && was.signal() == info.signal();
        let is_ours = info.code() == libc::SI_TKILL && info.sender() == self.owner.0;
        let Some(index) = self.reissued.iter().position(is_it).filter(|_| is_ours) else { return Ok(info) };
        let (_, former) = self.reissued.remove(index);
        self.target.set_siginfo(tid, &former)?;
        Ok(former)
    }
}

fn bits() -> u64 {
    LET_THROUGH.iter().fold(0, |set, signal| set | bit(*signal))
}

fn exit_offsets(stub: &Stub) -> BTreeSet<u32> {
    stub.exits.iter().map(|exit| exit.offset).collect()
}
