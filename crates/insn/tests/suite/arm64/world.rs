//! The program that instructions are run in (`world.S`, `work.c`), under qemu-user.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::registers::{PC, PSTATE, Registers};
use crate::qemu::Emulated;

/// The signal of breakpoints.
pub(super) const SIGTRAP: u8 = 5;

/// Room for an instruction and the breakpoint behind it.
pub(super) const CELL: usize = 8;

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
        let mut emulated = Emulated::start("qemu-aarch64", None, &program)?;
        assert_eq!(emulated.run(), SIGTRAP);
        let ready = registers(&mut emulated);
        Some(Self { emulated, ready })
    }

    /// Fresh pages for code.
    pub(super) fn code(&self) -> u64 {
        self.ready.get(19)
    }

    /// A page for data; around it lies nothing.
    pub(super) fn data(&self) -> u64 {
        self.ready.get(20)
    }

    /// What loads the vector registers from where x0 points, and saves them there.
    pub(super) fn load_and_save(&self) -> (u64, u64) {
        (self.ready.get(21), self.ready.get(22))
    }

    /// Where `work` and what it calls begin and end.
    pub(super) fn probed(&self) -> (u64, u64) {
        (self.ready.get(23), self.ready.get(24))
    }

    /// `work`, and where it is to return to.
    pub(super) fn work(&self) -> (u64, u64) {
        (self.ready.get(25), self.ready.get(26))
    }

    pub(super) fn registers(&mut self) -> Registers {
        registers(&mut self.emulated)
    }

    /// Runs from these registers on; the signal.
    pub(super) fn go(&mut self, from: &Registers, run: impl Fn(&mut Emulated) -> u8) -> u8 {
        self.emulated.set_registers(&from.0[..8 * PSTATE + 4]);
        run(&mut self.emulated)
    }
}

/// x0 to x30, SP, PC, and PSTATE in 32 bits (gdb-xml/aarch64-core.xml).
fn registers(emulated: &mut Emulated) -> Registers {
    let stub = emulated.registers();
    assert_eq!(stub.len(), 8 * PSTATE + 4);
    Registers([stub, vec![0; 4]].concat())
}

fn build(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("world");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/arm64");
    let mut gcc = Command::new("aarch64-linux-gnu-gcc");
    gcc.args(["-march=armv8.3-a", "-mbranch-protection=standard", "-O1", "-ffreestanding", "-nostdlib"]);
    gcc.args(["-static", "-no-pie", "-o"]).arg(&program);
    gcc.args(["world.S", "work.c"].map(|name| sources.join(name)));
    match gcc.output() {
        Ok(run) if run.status.success() => Some(program),
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            println!("skipped: no aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu): {error}");
            None
        }
    }
}

/// Writes an instruction and a breakpoint.
pub(super) fn cell(into: &mut [u8], code: &[u8]) {
    into[..4].copy_from_slice(code);
    into[4..CELL].copy_from_slice(insn::Isa::Arm64.abi().breakpoint);
}

impl Registers {
    pub(super) fn pc(&self) -> u64 {
        self.get(PC)
    }

    pub(super) fn set_pc(&mut self, to: u64) {
        self.set(PC, to);
    }
}
