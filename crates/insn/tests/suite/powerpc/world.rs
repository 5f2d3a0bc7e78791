//! The program that instructions are run in (`world.S`), under qemu-user.

use std::path::{Path, PathBuf};
use std::process::Command;

use insn::Isa;
use insn::isa::Order;

use super::registers::Registers;
use crate::qemu::Emulated;

/// The signal of breakpoints.
pub(super) const SIGTRAP: u8 = 5;

/// Room for an instruction and the breakpoint behind it; no prefixed instruction in it crosses a boundary of 64 bytes.
pub(super) const CELL: usize = 16;

/// A stopped program.
pub(super) struct World {
    pub(super) isa: Isa,
    pub(super) emulated: Emulated,
    /// The registers in which the program says where everything is.
    ready: Registers,
}

/// Registers as the stub has them one behind the other (gdb-xml/power-core.xml): general ones, then these; of so many bytes if
/// not of the ISA's width.
const SPECIAL: [(&str, usize); 6] = [("pc", 0), ("msr", 0), ("cr", 4), ("lr", 0), ("ctr", 0), ("xer", 4)];

impl World {
    /// `None`, with a line that says so, where something is not installed.
    pub(super) fn new(isa: Isa) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let program = build(isa, directory.path())?;
        let (qemu, processor) = match isa {
            Isa::PowerPc => ("qemu-ppc", "7447a"),
            Isa::PowerPc64 => ("qemu-ppc64", "power10"),
            _ => ("qemu-ppc64le", "power10"),
        };
        let emulated = Emulated::start(qemu, Some(processor), &program)?;
        let mut world = Self { isa, emulated, ready: Registers::new(isa) };
        world.emulated.describe();
        assert_eq!(world.emulated.run(), SIGTRAP);
        world.ready = world.registers();
        Some(world)
    }

    /// Fresh pages for code.
    pub(super) fn code(&self) -> u64 {
        self.ready.get("r14")
    }

    /// Pages for data.
    pub(super) fn data(&self) -> u64 {
        self.ready.get("r15")
    }

    /// What loads the other registers from where r31 points, and saves them there.
    pub(super) fn load_and_save(&self) -> (u64, u64) {
        (self.ready.get("r16"), self.ready.get("r17"))
    }

    /// Each register's name, and where the stub has it.
    fn layout(&self) -> impl Iterator<Item = (String, std::ops::Range<usize>)> + use<> {
        let word = self.isa.abi().word;
        let general = (0..32).map(move |number| (format!("r{number}"), number * word..(number + 1) * word));
        let mut at = 32 * word;
        let special = SPECIAL.map(|(name, len)| {
            let len = if len == 0 { word } else { len };
            at += len;
            (name.to_owned(), at - len..at)
        });
        general.chain(special)
    }

    fn order(&self) -> Order {
        self.isa.abi().order
    }

    pub(super) fn registers(&mut self) -> Registers {
        let stub = self.emulated.registers();
        assert_eq!(stub.len(), 36 * self.isa.abi().word + 8);
        let mut registers = Registers::new(self.isa);
        for (name, range) in self.layout() {
            registers.set(&name, self.order().number(&stub[range]));
        }
        // The register set's state of the machine is the kernel's.
        registers.set("msr", 0);
        registers
    }

    /// Runs from these registers on; the signal.
    pub(super) fn go(&mut self, from: &Registers, run: impl Fn(&mut Emulated) -> u8) -> u8 {
        let mut stub = self.emulated.registers();
        for (name, range) in self.layout().filter(|register| register.0 != "msr") {
            let order = self.order();
            order.write(from.get(&name), &mut stub[range]);
        }
        self.emulated.set_registers(&stub);
        run(&mut self.emulated)
    }
}

fn build(isa: Isa, directory: &Path) -> Option<PathBuf> {
    let program = directory.join("world");
    let (compiler, processor) = match isa {
        Isa::PowerPc => ("powerpc-linux-gnu-gcc", "-mcpu=7450"),
        Isa::PowerPc64 => ("powerpc64-linux-gnu-gcc", "-mcpu=power10"),
        _ => ("powerpc64le-linux-gnu-gcc", "-mcpu=power10"),
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/powerpc/world.S");
    let mut gcc = Command::new(compiler);
    gcc.args([processor, "-nostdlib", "-static", "-no-pie", "-o"]).arg(&program).arg(source);
    match gcc.output() {
        Ok(run) if run.status.success() => Some(program),
        Ok(run) => panic!("{}", String::from_utf8_lossy(&run.stderr)),
        Err(error) => {
            println!("skipped: no {compiler} (Debian: gcc-{}): {error}", compiler.trim_end_matches("-gcc"));
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
