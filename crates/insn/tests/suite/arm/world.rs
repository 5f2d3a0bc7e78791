//! The program that instructions are run in (`world.S`), under qemu-user.

use std::path::{Path, PathBuf};
use std::process::Command;

use insn::xol::{Fault, Memory};
use insn::{Address, Isa};

use super::registers::{CPSR, Registers};
use crate::qemu::Emulated;

/// The signal of breakpoints.
pub(super) const SIGTRAP: u8 = 5;

/// Room for an instruction, the breakpoint behind it, and what it stores at r15.
pub(super) const CELL: usize = 64;

/// Where the stub has CPSR: behind the registers of a floating-point unit that is no more (`arm_cpu_gdb_read_register`,
/// target/arm/gdbstub.c, for a client that reads no description).
const STUB_CPSR: usize = 164;

/// Bytes of data.
pub(super) const DATA: usize = 1024;

/// A stopped program.
pub(super) struct World {
    pub(super) emulated: Emulated,
    /// The registers in which the program says where everything is.
    pub(super) ready: Registers,
}

impl World {
    /// `None`, with a line that says so, where something is not installed.
    pub(super) fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let program = build(directory.path())?;
        let emulated = Emulated::start("qemu-arm", None, &program)?;
        let mut world = Self { emulated, ready: Registers::new() };
        assert_eq!(world.emulated.run(), SIGTRAP);
        world.ready = world.registers();
        Some(world)
    }

    /// Fresh pages for code.
    pub(super) fn code(&self) -> u32 {
        self.ready.get(8)
    }

    /// A page for data.
    pub(super) fn data(&self) -> u32 {
        self.ready.get(9)
    }

    /// What loads the floating-point registers from where r0 points, and saves them there.
    pub(super) fn load_and_save(&self) -> (u32, u32) {
        (self.ready.get(10), self.ready.get(11))
    }

    pub(super) fn registers(&mut self) -> Registers {
        let stub = self.emulated.registers();
        assert_eq!(stub.len(), STUB_CPSR + 4);
        Registers([&stub[..64], &stub[STUB_CPSR..], &[0; 4]].concat())
    }

    /// Runs from these registers on; the signal.
    pub(super) fn go(&mut self, from: &Registers, run: impl Fn(&mut Emulated) -> u8) -> u8 {
        let middle = [0; STUB_CPSR - 64];
        self.emulated.set_registers(&[&from.0[..64], &middle, &from.0[4 * CPSR..4 * CPSR + 4]].concat());
        run(&mut self.emulated)
    }

    fn is_ours(&self, at: Address, len: usize) -> bool {
        let areas = [(self.data(), DATA as u32), (self.code(), 128 << 20)];
        let end = at.0 + len as u64;
        areas.iter().any(|(from, size)| u64::from(*from) <= at.0 && end <= u64::from(from + size))
    }
}

/// Only what the program has mapped for the tests.
impl Memory for World {
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        if !self.is_ours(at, into.len()) {
            return Err(Fault::Memory(at));
        }
        into.copy_from_slice(&self.emulated.read(at.0, into.len()));
        Ok(())
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        if !self.is_ours(at, bytes.len()) {
            return Err(Fault::Memory(at));
        }
        self.emulated.write(at.0, bytes);
        Ok(())
    }
}

fn build(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("world");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/arm/world.S");
    let mut gcc = Command::new("arm-linux-gnueabihf-gcc");
    gcc.args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(&program).arg(source);
    match gcc.output() {
        Ok(run) if run.status.success() => Some(program),
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            println!("skipped: no arm-linux-gnueabihf-gcc (Debian: gcc-arm-linux-gnueabihf): {error}");
            None
        }
    }
}

/// Writes an instruction and the breakpoint for the end of a slot.
pub(super) fn cell(isa: Isa, into: &mut [u8], code: &[u8]) {
    let breakpoint = isa.breakpoint_behind_slot();
    into[..code.len()].copy_from_slice(code);
    into[code.len()..code.len() + breakpoint.len()].copy_from_slice(breakpoint);
}
