//! The program that instructions are run in (each ISA's `world.S`, and `work.c`), under qemu-user.

use std::path::{Path, PathBuf};

use insn::plan::hex;
use insn::xol::{Fault, How, Memory, OutOfLine, Slot, annuls, emulate};
use insn::{Address, Isa};
use remote::Signal;
use remote::client::Action;

use crate::qemu::Emulated;
use crate::registers::Registers;
use crate::toolchain;

pub(crate) const PAGE: usize = 4096;

/// Bytes of the pages for code (`CODE` of `world.S`).
const CODE: u64 = 128 << 20;

/// What makes and runs the program of an ISA.
pub(crate) struct Machine {
    /// Where its `world.S` is.
    pub(crate) folder: &'static str,
    /// The compiler's name, and what it needs besides.
    pub(crate) target: &'static str,
    pub(crate) flags: &'static [&'static str],
    /// The emulator, and its processor where that is not the usual one.
    pub(crate) qemu: &'static str,
    pub(crate) processor: Option<&'static str>,
    /// Room for an instruction, its delay slot and the breakpoint behind it, and for what it stores near itself.
    pub(crate) cell: usize,
    /// Bytes of the shortest instruction: all begin at multiples of them.
    pub(crate) unit: usize,
    /// The first of the registers in which the program says where everything is.
    pub(crate) first: usize,
    /// The register that a function returns by, and the one that has its own address where it asks for that.
    pub(crate) link: &'static str,
    pub(crate) own: Option<&'static str>,
}

fn machine(isa: Isa) -> Machine {
    match isa {
        Isa::Arm | Isa::Thumb => crate::arm::machine(isa),
        Isa::Arm64 => crate::arm64::machine(),
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => crate::powerpc::machine(isa),
        Isa::RiscV32 | Isa::RiscV64 => crate::riscv::machine(isa),
        Isa::Sh => crate::sh::machine(),
        Isa::Alpha => crate::alpha::machine(),
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => crate::mips::machine(isa),
        Isa::Sparc | Isa::Sparc64 => crate::sparc::machine(isa),
        Isa::S390x => crate::s390x::machine(),
        other => panic!("{other:?} is run by the processor"),
    }
}

/// A stopped program.
pub(crate) struct World {
    pub(crate) isa: Isa,
    pub(crate) machine: Machine,
    pub(crate) emulated: Emulated,
    /// The registers in which the program says where everything is.
    pub(crate) ready: Registers,
}

/// What has become of an instruction.
pub(crate) struct Outcome {
    /// `TRAP` where nothing is wrong.
    pub(crate) signal: Signal,
    pub(crate) registers: Registers,
    /// Whether it is done; where not, the thread is back at it.
    pub(crate) has_ended: bool,
}

impl World {
    /// `None`, with a line that says so, where something is not installed.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let machine = machine(isa);
        let program = build(&machine, directory.path())?;
        let mut emulated = Emulated::start(machine.qemu, machine.processor, isa, &program)?;
        let (signal, ready) = emulated.go_on(Action::Continue);
        assert_eq!(signal, Signal::TRAP);
        let mut world = Self { isa, machine, emulated, ready };
        world.set_ends();
        if world.has_windows() {
            let windows = world.place(8);
            world.emulated.windows = Some(windows);
            for instruction in [windows, windows + 4] {
                let mut registers = world.ready.clone();
                registers.set_pc(instruction);
                world.emulated.go(&registers, Action::Step);
            }
            let ready = world.ready.clone();
            world.emulated.enter_window(&ready);
        }
        Some(world)
    }

    fn place(&self, index: usize) -> u64 {
        self.ready.get(self.machine.first + index)
    }

    /// Fresh pages for code.
    pub(crate) fn code(&self) -> u64 {
        self.place(0)
    }

    /// Pages for data.
    pub(crate) fn data(&self) -> u64 {
        self.place(1)
    }

    /// What loads the other registers from where the first argument points, and saves them there.
    pub(crate) fn load_and_save(&self) -> (u64, u64) {
        (self.place(2), self.place(3))
    }

    /// Where `work` and what it calls begin and end.
    pub(crate) fn probed(&self) -> (u64, u64) {
        (self.place(4), self.place(5))
    }

    /// `work`, and where it is to return to.
    pub(crate) fn work(&self) -> (u64, u64) {
        (self.place(6), self.place(7))
    }

    /// What a function finds in the link register that is to return to `back`: on SPARC the address of the call.
    pub(crate) fn link_to(&self, back: u64) -> u64 {
        if self.has_windows() { back - 8 } else { back }
    }

    /// Where the other registers are kept: the last page for code, which no code comes to.
    pub(crate) fn others(&self) -> u64 {
        self.code() + CODE - PAGE as u64
    }

    /// Carries out, as a tracer does, the instruction that `bytes` begin with, from the registers at it. The code of its slot is at
    /// `slot_at`.
    pub(crate) fn carry_out(
        &mut self,
        bytes: &[u8],
        found: &OutOfLine,
        before: &Registers,
        slot_at: u64,
    ) -> Outcome {
        match &found.how {
            How::Emulated => self.emulate(bytes, before),
            How::Slot(slot) => self.run_slot(slot, before, slot_at, found.len),
            How::Delayed(slot) => {
                let branched = self.emulate(bytes, before);
                let at = Address(before.pc());
                if !branched.has_ended || annuls(self.isa, at, bytes, &before.bytes) {
                    return branched;
                }
                let mut outcome = self.run_slot(slot, &branched.registers, slot_at, found.len);
                let to = if outcome.has_ended { &branched.registers } else { before };
                outcome.registers.set_pc(to.pc());
                if let Some(next) = self.isa.abi().next_pc.filter(|_| !outcome.has_ended) {
                    // The branch is done, and what is in its delay slot is not.
                    outcome.registers.set_pc(to.pc().wrapping_add(found.len as u64));
                    outcome.registers.set(next, branched.registers.pc());
                }
                outcome
            }
        }
    }

    /// Whether the emulator stops at breakpoint instructions. That of SuperH makes a system call of each, that of SPARC ends.
    fn has_traps(&self) -> bool {
        !matches!(self.isa, Isa::Sh | Isa::Sparc | Isa::Sparc64)
    }

    fn has_windows(&self) -> bool {
        matches!(self.isa, Isa::Sparc | Isa::Sparc64)
    }

    /// Where it does not, the routines end one instruction before what is behind them.
    fn set_ends(&mut self) {
        if !self.has_traps() {
            let (_, save) = self.load_and_save();
            let (_, done) = self.work();
            let unit = self.machine.unit;
            for end in [save - unit as u64, done - unit as u64, done] {
                self.emulated.set_breakpoint(end, unit);
            }
        }
    }

    /// Runs from these registers to the breakpoint at `end`.
    pub(crate) fn run_to(&mut self, end: u64, from: &Registers) -> (Signal, Registers) {
        if self.has_traps() {
            return self.emulated.go(from, Action::Continue);
        }
        self.emulated.set_breakpoint(end, self.machine.unit);
        let stopped = self.emulated.go(from, Action::Continue);
        self.emulated.take_breakpoint(end, self.machine.unit);
        stopped
    }

    /// The emulator of MIPS does not forget a branch whose delay slot has faulted, wherever its PC is set: it takes it behind the next
    /// instruction that it runs.
    pub(crate) fn forget_branch(&mut self) {
        let mut registers = self.ready.clone();
        registers.set(self.isa.abi().syscall.arguments[0], self.others());
        registers.set_pc(self.load_and_save().0);
        self.emulated.go(&registers, Action::Step);
    }

    fn run_slot(&mut self, slot: &Slot, before: &Registers, at: u64, len: usize) -> Outcome {
        let end = at + slot.code.len() as u64;
        let (signal, mut registers) = self.run_to(end, &before.in_front_of(slot, at));
        let has_ended = registers.go_on_behind(before, slot, at, len);
        // What traps by itself stands at its beginning, but on alpha and s390x, where it stands behind itself.
        let is_behind = matches!(self.isa, Isa::Alpha | Isa::S390x);
        assert!(signal == Signal::TRAP || !has_ended || is_behind, "{signal:?} behind {slot:?}");
        Outcome { signal, registers, has_ended }
    }

    fn emulate(&mut self, bytes: &[u8], before: &Registers) -> Outcome {
        let mut registers = before.clone();
        let done = emulate(self.isa, Address(before.pc()), bytes, &mut registers.bytes, self);
        let signal = match done {
            Ok(()) => Signal::TRAP,
            Err(Fault::Memory(_)) => Signal::SEGV,
            Err(Fault::NotEmulated) => panic!("{} is not emulated", hex(bytes)),
        };
        Outcome { signal, registers, has_ended: done.is_ok() }
    }

    /// Writes an instruction and a breakpoint.
    pub(crate) fn fill_cell(&self, into: &mut [u8], code: &[u8]) {
        let breakpoint = self.isa.breakpoint_behind_slot();
        into[..code.len()].copy_from_slice(code);
        into[code.len()..code.len() + breakpoint.len()].copy_from_slice(breakpoint);
    }

    /// What is emulated of the others touches no memory.
    fn check_access(&self, what: &str, at: Address) {
        assert!(matches!(self.isa, Isa::Arm | Isa::Thumb | Isa::Sh | Isa::S390x), "{what} {at}");
    }
}

impl Memory for World {
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.check_access("reads", at);
        Memory::read(&mut self.emulated, at, into)
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        self.check_access("writes", at);
        Memory::write(&mut self.emulated, at, bytes)
    }
}

fn build(machine: &Machine, directory: &Path) -> Option<PathBuf> {
    let program = directory.join("world");
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let common = ["-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie"];
    let files = [suite.join(machine.folder).join("world.S"), suite.join("work.c")];
    toolchain::compile(machine.target, &[machine.flags, &common].concat(), &files, &program)?;
    Some(program)
}
