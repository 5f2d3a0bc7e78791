//! System calls made by a stopped thread of the target on our behalf.
//!
//! Driven by system-call stops, never by single steps: a step's SIGTRAP destroys the program's own SIGTRAP action
//! where the thread blocks or ignores it (kernel/signal.c, `force_sig_info_to_task`).

use std::rc::Rc;
use std::time::{Duration, Instant};

use insn::Address;

use super::{Process, TRANSITION};
use crate::error::TargetError;
use crate::registers::Registers;
use crate::seam::{Call, Event, Resume, Target, Tid, Window};

/// How often a thread that does not stop is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A thread on loan: its registers and mask come back when this is finished.
struct Loan<'a> {
    process: &'a mut Process,
    tid: Tid,
    registers: Registers,
    mask: u64,
}

/// See [`Target::call`].
pub(super) fn run(process: &mut Process, tid: Tid, calls: &[Call]) -> Result<Vec<i64>, TargetError> {
    let gate = process.find_gate()?;
    let tracer = Rc::clone(&process.tracer);
    tracer.windows.mark(Window::ForeignRegisters, true);
    let results = Loan::take(process, tid).and_then(|mut loan| {
        let results: Result<Vec<_>, _> = calls.iter().map(|call| loan.call(gate, call)).collect();
        loan.give_back()?;
        results
    });
    tracer.windows.mark(Window::ForeignRegisters, false);
    results
}

impl<'a> Loan<'a> {
    fn take(process: &'a mut Process, tid: Tid) -> Result<Self, TargetError> {
        let registers = process.registers(tid)?;
        let mask = process.signal_mask(tid)?;
        // No signal may come between: its handler would run with the registers of our call.
        process.set_signal_mask(tid, u64::MAX)?;
        Ok(Self { process, tid, registers, mask })
    }

    fn call(&mut self, gate: Address, call: &Call) -> Result<i64, TargetError> {
        let abi = &self.registers.isa().abi().syscall;
        let mut registers = self.registers.clone();
        registers.set_pc(gate);
        registers.set(abi.number, call.number);
        for (slot, argument) in abi.arguments.iter().zip(call.arguments) {
            registers.set(*slot, argument);
        }
        if let Some(original) = abi.original_number {
            registers.set(original, u64::MAX);
        }
        self.process.set_registers(self.tid, &registers)?;
        self.run_to_syscall_stop()?;
        self.run_to_syscall_stop()?;
        Ok(self.process.registers(self.tid)?.answer())
    }

    /// On to the next entry or exit of a system call.
    fn run_to_syscall_stop(&mut self) -> Result<(), TargetError> {
        let mut signal = 0;
        loop {
            self.process.transition(self.tid, |stopped| stopped.cont_to_syscall(signal))?;
            signal = match self.wait()? {
                Event::Syscall => return Ok(()),
                Event::Exited(_) | Event::Killed(_) => return Err(TargetError::Gone { tid: self.tid }),
                // What is no fault is blocked: the gate itself is not there any more. It would fault for ever.
                Event::Signal(info) if info.code() > 0 => return Err(faulted()),
                other => unblockable(&other),
            };
        }
    }

    fn wait(&mut self) -> Result<Event, TargetError> {
        next_stop(self.process, self.tid)
    }

    /// Restores mask and registers, and brings the thread to an interrupt stop: behind a system-call stop the kernel
    /// would not look at a restored "restart this call" (-516 in rax), behind `get_signal` it does
    /// (arch/x86/kernel/signal.c, `arch_do_signal_or_restart`).
    fn give_back(self) -> Result<(), TargetError> {
        let Self { process, tid, registers, mask } = self;
        process.set_registers(tid, &registers)?;
        process.set_signal_mask(tid, mask)?;
        let mut signal = 0;
        loop {
            process.interrupt(tid)?;
            process.resume(tid, Resume::Run(signal))?;
            match next_stop(process, tid)? {
                Event::Interrupted | Event::GroupStop(_) => return Ok(()),
                Event::Exited(_) | Event::Killed(_) => return Err(TargetError::Gone { tid }),
                // The interrupt trap is served before signals are dequeued, so nothing else is expected here; a stop
                // that is one all the same swallowed the interrupt: ask again.
                other => signal = unblockable(&other),
            }
        }
    }
}

/// Waits for the next stop of a thread. The end of a group's first thread is told only when all others are collected
/// (kernel/exit.c, `delay_group_leader`), which is not done here: it is dead all the same, and never stops again.
fn next_stop(process: &mut Process, tid: Tid) -> Result<Event, TargetError> {
    let deadline = Instant::now() + TRANSITION;
    while Instant::now() < deadline {
        if let Some(event) = process.wait(tid, deadline.min(Instant::now() + LOOK))? {
            return Ok(event);
        }
        if matches!(process.state(tid), 'Z' | 'X') {
            break;
        }
    }
    Err(TargetError::Gone { tid })
}

fn faulted() -> TargetError {
    TargetError::Injected { call: "system call".to_owned(), source: libc::EFAULT.into() }
}

/// The signal that comes whatever the mask says. Delivered meanwhile it stops the process, of which the thread under our hands
/// takes notice when it is let go.
fn unblockable(event: &Event) -> i32 {
    match event {
        Event::Signal(info) if info.signal() == libc::SIGSTOP => libc::SIGSTOP,
        _ => 0,
    }
}

impl Process {
    /// A system-call instruction of the target: the vDSO's, else any in its text.
    fn find_gate(&mut self) -> Result<Address, TargetError> {
        if let Some(gate) = self.gate {
            return Ok(gate);
        }
        let needle = self.isa.abi().syscall.instruction;
        let mut mappings = self.mappings()?;
        mappings.retain(|mapping| mapping.executable && mapping.readable);
        mappings.sort_by_key(|mapping| mapping.path.as_deref() != Some("[vdso]"));
        for mapping in &mappings {
            let len = usize::try_from(mapping.range.end - mapping.range.start).unwrap_or(0).min(64 << 20);
            let mut text = vec![0; len];
            if self.read(mapping.range.start, &mut text).is_err() {
                continue;
            }
            if let Some(at) = text.windows(needle.len()).position(|window| window == needle) {
                let gate = mapping.range.start + at as u64;
                self.gate = Some(gate);
                return Ok(gate);
            }
        }
        Err(TargetError::Unsupported {
            pid: self.pid,
            why: "no system-call instruction was found in its text".to_owned(),
        })
    }
}
