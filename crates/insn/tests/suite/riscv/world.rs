//! The program that instructions are run in (`world.S`, `work.c`), under qemu-user.

use std::path::{Path, PathBuf};
use std::process::Command;

use insn::Isa;

use super::registers::Registers;
use crate::qemu::Emulated;

/// The signal of breakpoints.
pub(super) const SIGTRAP: u8 = 5;

/// Room for an instruction and the breakpoint behind it.
pub(super) const CELL: usize = 8;

/// A stopped program.
pub(super) struct World {
    pub(super) isa: Isa,
    pub(super) emulated: Emulated,
    /// The registers in which the program says where everything is.
    pub(super) ready: Registers,
}

impl World {
    /// `None`, with a line that says so, where something is not installed.
    pub(super) fn new(isa: Isa) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let program = build(isa, directory.path())?;
        let qemu = if isa == Isa::RiscV32 { "qemu-riscv32" } else { "qemu-riscv64" };
        let emulated = Emulated::start(qemu, None, &program)?;
        let mut world = Self { isa, emulated, ready: Registers::new(isa) };
        assert_eq!(world.emulated.run(), SIGTRAP);
        world.ready = world.registers();
        Some(world)
    }

    /// Fresh pages for code.
    pub(super) fn code(&self) -> u64 {
        self.ready.get(8)
    }

    /// A page for data.
    pub(super) fn data(&self) -> u64 {
        self.ready.get(9)
    }

    /// What loads the floating-point registers from where t6 points, and saves them there.
    pub(super) fn load_and_save(&self) -> (u64, u64) {
        (self.ready.get(18), self.ready.get(19))
    }

    /// Where `work` and what it calls begin and end.
    pub(super) fn probed(&self) -> (u64, u64) {
        (self.ready.get(20), self.ready.get(21))
    }

    /// `work`, and where it is to return to.
    pub(super) fn work(&self) -> (u64, u64) {
        (self.ready.get(22), self.ready.get(23))
    }

    pub(super) fn registers(&mut self) -> Registers {
        let word = self.isa.abi().word;
        let stub = self.emulated.registers();
        // x0 to x31 and then the PC (gdb-xml/riscv-64bit-cpu.xml).
        assert_eq!(stub.len(), 33 * word);
        let (x0_to_x31, pc) = stub.split_at(32 * word);
        Registers { isa: self.isa, bytes: [pc, &x0_to_x31[word..]].concat() }
    }

    /// Runs from these registers on; the signal.
    pub(super) fn go(&mut self, from: &Registers, run: impl Fn(&mut Emulated) -> u8) -> u8 {
        let word = self.isa.abi().word;
        let (pc, x1_to_x31) = from.bytes.split_at(word);
        self.emulated.set_registers(&[&vec![0; word], x1_to_x31, pc].concat());
        run(&mut self.emulated)
    }
}

fn build(isa: Isa, directory: &Path) -> Option<PathBuf> {
    let program = directory.join("world");
    let flags = match isa {
        Isa::RiscV32 => ["-march=rv32gc", "-mabi=ilp32", "-Wl,-melf32lriscv"],
        _ => ["-march=rv64gc", "-mabi=lp64", "-Wl,-melf64lriscv"],
    };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/riscv");
    let mut gcc = Command::new("riscv64-linux-gnu-gcc");
    gcc.args(flags).args(["-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-o"]).arg(&program);
    gcc.args(["world.S", "work.c"].map(|name| sources.join(name)));
    match gcc.output() {
        Ok(run) if run.status.success() => Some(program),
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            println!("skipped: no riscv64-linux-gnu-gcc (Debian: gcc-riscv64-linux-gnu): {error}");
            None
        }
    }
}

/// Writes an instruction and a breakpoint.
pub(super) fn cell(isa: Isa, into: &mut [u8], code: &[u8]) {
    let breakpoint = isa.abi().breakpoint;
    into[..code.len()].copy_from_slice(code);
    into[code.len()..code.len() + breakpoint.len()].copy_from_slice(breakpoint);
}
