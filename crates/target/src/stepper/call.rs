//! What a stopped thread of the tracee does for us: system calls, and code of ours.
//!
//! An instruction that calls the kernel is never stepped over: some tracees execute the next one too then, whatever that is. A
//! breakpoint stands behind it.

use std::time::Instant;

use insn::isa::RegisterSlot;
use insn::{Address, Isa};

use super::site::Breakpoint;
use super::{End, PATIENCE, Stepper};
use crate::error::{Errno, TargetError};
use crate::registers::Registers;
use crate::seam::{Call, Tid};
use crate::tracee::{Event, Go, Stop, Tracee};

/// Most gates that are worth remembering: each is looked at before it is used.
const MOST_GATES: usize = 8;

/// A place in the tracee's code with the instruction that calls the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The ISA of the code there.
    pub isa: Isa,
    /// Where it is.
    pub at: Address,
}

/// Where code that begins at `at`, of a process of this ISA, calls the kernel.
#[must_use]
pub fn gates(isa: Isa, at: Address, code: &[u8]) -> Vec<Gate> {
    let kinds: &[Isa] = if isa == Isa::Arm { &[Isa::Arm, Isa::Thumb] } else { &[isa] };
    kinds.iter().flat_map(|isa| gates_of(*isa, at, code)).collect()
}

fn gates_of(isa: Isa, at: Address, code: &[u8]) -> impl Iterator<Item = Gate> {
    let len = isa.abi().syscall.instruction.len();
    let step = if isa.has_stubs() { 1 } else { len };
    let found = code.windows(len).enumerate().step_by(step);
    let found = found.filter(move |(_, bytes)| isa.calls_the_kernel(bytes));
    found.map(move |(offset, _)| Gate { isa, at: at + offset as u64 }).take(MOST_GATES)
}

impl<T: Tracee> Stepper<T> {
    /// Has the current thread call the kernel; it stands afterwards as before.
    pub(super) fn call(&mut self, call: &Call) -> Result<u64, TargetError> {
        let gate = self.gate()?;
        let abi = &gate.isa.abi().syscall;
        let end = gate.at + abi.instruction.len() as u64;
        let mut set = vec![(abi.number, call.number)];
        if gate.isa.passes_block(call.number) {
            let stack = self.stack_arguments(&call.arguments)?;
            set.extend(stack.zip(abi.arguments.first()).map(|((_, block), first)| (*first, block)));
            set.extend(stack);
        } else {
            set.extend(abi.arguments.iter().copied().zip(call.arguments));
            let others = call.arguments.get(abi.arguments.len()..).unwrap_or_default();
            set.extend(self.stack_arguments(others)?);
        }
        // No call of its own is to be begun again now.
        set.extend(abi.original_number.map(|slot| (slot, gate.isa.no_call())));
        let answer = self.run_code(gate, end, &set)?.answer();
        if (-4095..0).contains(&answer) {
            let number = i32::try_from(-answer).unwrap_or_default();
            return Err(TargetError::Injected { call: call.name.to_owned(), source: Errno(number) });
        }
        Ok(answer.cast_unsigned())
    }

    /// Writes the arguments that have no register where a call with its stack pointer moved there finds them: below what the
    /// program uses.
    fn stack_arguments(&mut self, words: &[u64]) -> Result<Option<(RegisterSlot, u64)>, TargetError> {
        if words.is_empty() {
            return Ok(None);
        }
        let abi = self.isa.abi();
        let size = abi.syscall.stacked_arguments + (words.len() * abi.word) as u64;
        let sp = self.tracee.registers(self.current)?.sp();
        let moved = sp.0.wrapping_sub(abi.red_zone + size) & !15; // as aligned as any ABI wants it
        let mut bytes = vec![0; words.len() * abi.word];
        for (word, into) in words.iter().zip(bytes.chunks_exact_mut(abi.word)) {
            abi.order.write(*word, into);
        }
        self.tracee.write(self.isa.wrap(Address(moved) + abi.syscall.stacked_arguments), &bytes)?;
        Ok(Some((abi.sp, moved)))
    }

    /// Has the current thread run from `start` (of any code) to a breakpoint of ours at `end`, with these registers, the others as they are.
    /// Gives the registers that it has then; it stands afterwards as before.
    pub(super) fn run_code(
        &mut self,
        start: Gate,
        end: Address,
        set: &[(RegisterSlot, u64)],
    ) -> Result<Registers, TargetError> {
        let tid = self.current;
        let own = self.tracee.registers(tid)?;
        let mut lent = own.clone();
        let to = start.at.0 | u64::from(start.isa == Isa::Thumb);
        insn::xol::branch(self.isa, lent.bytes_mut(), to);
        for (slot, value) in set {
            lent.set(*slot, *value);
        }
        let under = self.set_trap(start.isa, end)?;
        let reached = self.tracee.set_registers(tid, &lent).and_then(|()| self.run_to(tid, end));
        let taken_out = self.take_trap(start.isa, end, &under);
        let result = reached.and_then(|()| self.tracee.registers(tid));
        if self.end.is_none() {
            self.tracee.set_registers(tid, &own)?;
        }
        taken_out.and(result)
    }

    /// Lets a thread run, the others standing still, until it is at the breakpoint at `end`.
    fn run_to(&mut self, tid: Tid, end: Address) -> Result<(), TargetError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.tracee.go(if self.tracee.abilities().threads { Go::Only(tid) } else { Go::All(&[]) })?;
            let Some(stop) = self.tracee.wait(deadline)? else {
                self.runs = true;
                let milliseconds = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
                return Err(TargetError::DidNotStop { tid, state: '?', milliseconds });
            };
            match stop {
                Stop { tid: of, event: Event::Breakpoint | Event::Signal(libc::SIGTRAP) } if of == tid => {
                    let past = self.isa.abi().pc_past_breakpoint;
                    let pc = self.tracee.registers(tid)?.pc();
                    if pc == end || pc == end + past {
                        return Ok(());
                    }
                    return Err(TargetError::Remote(format!(
                        "thread {tid} stopped at {pc} instead of {end}"
                    )));
                }
                // What cannot wait is the fault of the code itself, which would be run for ever.
                Stop { tid: of, event: Event::Signal(signal) } if of == tid && is_fault(signal) => {
                    return Err(TargetError::Remote(format!(
                        "thread {tid} got signal {signal} in code of ours"
                    )));
                }
                Stop { tid: of, event: Event::Signal(signal) } => self.signals.push((of, signal)),
                Stop { event: Event::Interrupted, .. } => self.is_asked_to_stop = false,
                Stop { event: Event::Exited(status), .. } => return Err(self.died(End::Exited(status))),
                Stop { event: Event::Killed(signal), .. } => return Err(self.died(End::Killed(signal))),
                _ => {}
            }
        }
    }

    fn died(&mut self, end: End) -> TargetError {
        self.end = Some(end);
        TargetError::Gone { tid: self.current }
    }

    /// A breakpoint for a moment; what is needed to take it out again.
    fn set_trap(&mut self, isa: Isa, at: Address) -> Result<(Breakpoint, Vec<u8>), TargetError> {
        let trap = isa.abi().breakpoint;
        let mut under = vec![0; trap.len()];
        self.tracee.read(at, &mut under)?;
        if under == trap && self.tracee.abilities().traps {
            // Ours already, behind code in the area.
            return Ok((Breakpoint::Out, under));
        }
        if self.insert(isa, at, &under)? {
            return Ok((Breakpoint::Inserted, under));
        }
        self.tracee.write(at, trap)?;
        Ok((Breakpoint::Written, under))
    }

    fn take_trap(
        &mut self,
        isa: Isa,
        at: Address,
        (set, under): &(Breakpoint, Vec<u8>),
    ) -> Result<(), TargetError> {
        match set {
            _ if self.end.is_some() => Ok(()),
            Breakpoint::Out => Ok(()),
            Breakpoint::Inserted => self.tracee.remove_breakpoint(isa, at, under),
            Breakpoint::Written => self.tracee.write(at, under),
        }
    }

    /// A place in the program's code with the instruction that calls the kernel, and no site behind it.
    fn gate(&mut self) -> Result<Gate, TargetError> {
        for gate in self.gates.clone() {
            let mut found = vec![0; gate.isa.abi().syscall.instruction.len()];
            let end = gate.at + found.len() as u64;
            let is_probed =
                self.sites.range(gate.at..end + 1).any(|(_, site)| site.breakpoint != Breakpoint::Out);
            if !is_probed
                && self.tracee.read(gate.at, &mut found).is_ok()
                && gate.isa.calls_the_kernel(&found)
            {
                return Ok(gate);
            }
        }
        let looked = match self.gates.len() {
            0 => "its files have none".to_owned(),
            known => format!("{known} places are probed or not what the files say"),
        };
        Err(TargetError::NoGate { pid: self.tracee.process(), looked })
    }
}

/// Whether a signal is what comes of an instruction, rather than from elsewhere.
pub(super) fn is_fault(signal: i32) -> bool {
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE].contains(&signal)
}
