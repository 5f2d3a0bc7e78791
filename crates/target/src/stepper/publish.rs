//! The coherence procedure behind written code, as `coherence` has it, carried out by a thread of the tracee.
//!
//! Who writes for us, and through which mapping, is not known: a stub may use the kernel's way for debuggers, another its own.
//! So the procedure is that for a store through another mapping, which leaves nothing to the kernel. Its instructions are run
//! from the area; that these themselves are seen is the one thing taken from the stub, whose breakpoints would not work either.

use coherence::{Action, Architecture, Means, Situation, Step, SystemCall, Writer};
use insn::isa::Order;
use insn::{Address, Isa};

use super::Stepper;
use super::call::Gate;
use crate::error::TargetError;
use crate::seam::Call;
use crate::tracee::Tracee;

/// Lines of instruction and data caches are at least that long: CTR_EL0 and the POWER user manuals have none shorter in use.
const LINE: u64 = 16;

/// `__ARM_NR_cacheflush`, arch/arm/include/uapi/asm/unistd.h.
const CACHEFLUSH: u64 = 0x0f_0002;
/// `__NR_cacheflush` of o32 and n64, arch/mips/include/uapi/asm/unistd_o32.h, unistd_n64.h; BCACHE, asm/cachectl.h.
const MIPS_CACHEFLUSH: u64 = 4147;
const MIPS64_CACHEFLUSH: u64 = 5197;
const MIPS_BOTH_CACHES: u64 = 3;
/// `__NR_riscv_flush_icache`, arch/riscv/include/uapi/asm/unistd.h.
const RISCV_FLUSH_ICACHE: u64 = 259;

fn architecture(isa: Isa) -> Architecture {
    match isa {
        Isa::Arm64 => Architecture::Arm64,
        Isa::Arm | Isa::Thumb => Architecture::Arm,
        Isa::PowerPc | Isa::PowerPc64 | Isa::PowerPc64Le => Architecture::Powerpc,
        Isa::RiscV32 | Isa::RiscV64 => Architecture::Riscv,
        Isa::Sh => Architecture::Sh,
        Isa::Sparc | Isa::Sparc64 => Architecture::Sparc,
        Isa::Alpha => Architecture::Alpha,
        Isa::Mips | Isa::MipsLe | Isa::Mips64 | Isa::Mips64Le => Architecture::Mips,
        Isa::S390x => Architecture::S390,
        _ => Architecture::X86,
    }
}

/// The steps behind a write that nobody can reach yet, on the caches that ask for most of those that a program itself can see to:
/// on the others (arm's before version 7; all of sh's) only the kernel can, and a stub's write is left to it.
#[must_use]
pub fn steps(isa: Isa) -> &'static [Step] {
    let variants = coherence::description(architecture(isa)).variants;
    let steps_behind = |writer| {
        let mut procedures =
            variants.iter().filter_map(move |variant| variant.procedure(writer, Situation::FreshCode).ok());
        procedures.find_map(|procedure| procedure.way(|_| false)).map(|way| way.steps)
    };
    steps_behind(Writer::StoreThroughAlias)
        .or_else(|| steps_behind(Writer::DebuggerWrite))
        .unwrap_or_default()
}

impl<T: Tracee> Stepper<T> {
    /// Makes written code what every CPU will execute. All threads stand still; they go on by the kernel, which is the rest of it.
    pub(super) fn publish(&mut self, at: Address, len: usize) -> Result<(), TargetError> {
        let range = at..at + len as u64;
        let mut has_instructions = false;
        for step in steps(self.isa) {
            match step.action {
                Action::Perform(Means::Instruction(_)) => has_instructions = true,
                Action::Perform(Means::SystemCall(call)) => self.flush(call, range.start, range.end)?,
                Action::Perform(means) => return Err(unknown(means.name())),
                // Written it is, and it will be published when a breakpoint leads there.
                _ => {}
            }
        }
        if has_instructions { self.maintain(range.start, range.end) } else { Ok(()) }
    }

    fn flush(&mut self, call: SystemCall, start: Address, end: Address) -> Result<(), TargetError> {
        let range = [start.0, end.0, 0];
        // mips takes a length, and says which caches.
        let len = [start.0, end - start, MIPS_BOTH_CACHES];
        if call == SystemCall::MprotectTwice {
            return self.renumber();
        }
        let (name, number, [first, second, third]) = match (call, self.isa) {
            (SystemCall::Cacheflush, Isa::Mips | Isa::MipsLe) => ("cacheflush", MIPS_CACHEFLUSH, len),
            (SystemCall::Cacheflush, Isa::Mips64 | Isa::Mips64Le) => ("cacheflush", MIPS64_CACHEFLUSH, len),
            (SystemCall::Cacheflush, _) => ("cacheflush", CACHEFLUSH, range),
            (SystemCall::RiscvFlushIcache, _) => ("riscv_flush_icache", RISCV_FLUSH_ICACHE, range),
            _ => return Err(unknown("another system call")),
        };
        let arguments = [first, second, third, 0, 0, 0];
        self.call(&Call { name, number, arguments }).map(|_| ())
    }

    /// Gives the address space new numbers: any flush of its TLBs does, so that of the area's own pages, of which one must be there
    /// to be flushed (`change_protection`, mm/mprotect.c).
    fn renumber(&mut self) -> Result<(), TargetError> {
        let breakpoint = self.isa.abi().breakpoint;
        let place = match self.area.routine {
            Some(place) => place,
            None => {
                let place = self.reserve(breakpoint.len() as u64)?;
                self.put(place, breakpoint)?;
                self.area.routine = Some(place);
                place
            }
        };
        self.protect_twice(place)
    }

    /// Runs the instructions for each line of the range: a loop, placed in the area the first time.
    fn maintain(&mut self, start: Address, end: Address) -> Result<(), TargetError> {
        let code = routine(self.isa).ok_or_else(|| unknown("an instruction"))?;
        let abi = self.isa.abi();
        let len = code.len() as u64;
        let place = match self.area.routine {
            Some(place) => place,
            None => {
                let place = self.reserve(len + abi.breakpoint.len() as u64)?;
                self.put(place, &[&code[..], abi.breakpoint].concat())?;
                self.area.routine = Some(place);
                place
            }
        };
        let [from, to, ..] = abi.syscall.arguments else { return Err(unknown("a loop")) };
        let first = start.0 & !(LINE - 1);
        self.run_code(Gate { isa: self.isa, at: place }, place + len, &[(*from, first), (*to, end.0)])
            .map(|_| ())
    }
}

fn unknown(what: &str) -> TargetError {
    TargetError::Remote(format!(
        "`{what}`, which written code needs to become visible, cannot be done remotely"
    ))
}

/// The instructions of the procedure as code that does them for each line of a range: its start and end are in the registers of
/// the first two arguments, and control falls off the code's end. `None` where an instruction is not known, or there is none.
#[must_use]
pub fn routine(isa: Isa) -> Option<Vec<u8>> {
    let instruction = |step: &Step| match step.action {
        Action::Perform(Means::Instruction(name)) => Some(encoded(isa, name)),
        _ => None,
    };
    let instructions: Option<Vec<u32>> = steps(isa).iter().filter_map(instruction).collect();
    looped(isa, &instructions?)
}

/// An instruction of a procedure, on the address in the first argument's register (x0, r3).
fn encoded(isa: Isa, name: &str) -> Option<u32> {
    Some(match (architecture(isa), name) {
        // Arm ARM C6: SYS and barriers.
        (Architecture::Arm64, "dc cvau") => 0xd50b_7b20,
        (Architecture::Arm64, "ic ivau") => 0xd50b_7520,
        (Architecture::Arm64, "dsb ish") => 0xd503_3b9f,
        (Architecture::Arm64, "isb") => 0xd503_3fdf,
        // Power ISA Book II 4.3, Book I: RA is 0, RB is r3.
        (Architecture::Powerpc, "dcbst") => 0x7c00_186c,
        (Architecture::Powerpc, "icbi") => 0x7c00_1fac,
        (Architecture::Powerpc, "sync") => 0x7c00_04ac,
        (Architecture::Powerpc, "isync") => 0x4c00_012c,
        (Architecture::Sparc, "flush") => 0x81da_0000, // V9 A.20: of eight bytes, at %o0
        _ => return None,
    })
}

/// `routine` for each line from the first argument's register on, below the second's.
fn looped(isa: Isa, routine: &[u32]) -> Option<Vec<u8>> {
    let mut code = routine.to_vec();
    let back = u32::try_from(routine.len() + 2).ok()?;
    match architecture(isa) {
        Architecture::Arm64 => code.extend([
            0x9100_4000,                                             // add x0, x0, #16
            0xeb01_001f,                                             // cmp x0, x1
            0x5400_0003 | (0u32.wrapping_sub(back) & 0x7_ffff) << 5, // b.lo back
        ]),
        Architecture::Powerpc => code.extend([
            0x3863_0010,                                                 // addi r3, r3, 16
            if isa.abi().word == 8 { 0x7c23_2040 } else { 0x7c03_2040 }, // cmpld / cmplw r3, r4
            0x4180_0000 | (0u32.wrapping_sub(4 * back) & 0xfffc),        // blt back
        ]),
        Architecture::Sparc => code.extend([
            0x9002_2008, // add %o0, 8, %o0
            0x80a2_0009, // cmp %o0, %o1
            if isa.abi().word == 8 { 0x0a68_0000 } else { 0x0a80_0000 } // bcs %xcc, back
                | (0u32.wrapping_sub(back) & if isa.abi().word == 8 { 0x7_ffff } else { 0x3f_ffff }),
            0x0100_0000, // nop
        ]),
        _ => return None,
    }
    // Code is little-endian on arm64, and as data are on Power.
    let is_big = isa.abi().order == Order::Big;
    let bytes = |word: &u32| if is_big { word.to_be_bytes() } else { word.to_le_bytes() };
    Some(code.iter().flat_map(bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(isa: Isa) -> Vec<String> {
        let code = routine(isa).unwrap();
        insn::disassemble(isa, Address(0x1000), &code).into_iter().map(|line| line.2).collect()
    }

    #[test]
    fn routines_say_what_the_procedures_ask_for() {
        let arm64 = [
            "dc cvau, x0",
            "dsb ish",
            "ic ivau, x0",
            "dsb ish",
            "add x0, x0, #0x10",
            "cmp x0, x1",
            "b.lo #0x1000",
        ];
        assert_eq!(text(Isa::Arm64), arm64);
        for (isa, compare) in [
            (Isa::PowerPc, "cmplw r3, r4"),
            (Isa::PowerPc64, "cmpld r3, r4"),
            (Isa::PowerPc64Le, "cmpld r3, r4"),
        ] {
            let power =
                ["dcbst 0, r3", "sync", "icbi 0, r3", "sync", "addi r3, r3, 0x10", compare, "blt 0x1000"];
            assert_eq!(text(isa), power, "{isa:?}");
        }
        for (isa, branch) in [(Isa::Sparc, "bcs 0x1000"), (Isa::Sparc64, "bcs %xcc, 0x1000")] {
            // The first is `flush %o0`, which Capstone does not know.
            let sparc = [".word 0x81da0000", "add %o0, 8, %o0", "cmp %o0, %o1", branch, "nop"];
            assert_eq!(text(isa), sparc, "{isa:?}");
        }
    }

    #[test]
    fn every_isa_has_a_procedure_that_can_be_carried_out() {
        for isa in Isa::ALL {
            assert!(!steps(isa).is_empty());
            for step in steps(isa) {
                if let Action::Perform(Means::Instruction(name)) = step.action {
                    assert!(encoded(isa, name).is_some(), "{isa:?}: {name}");
                }
            }
        }
    }
}
