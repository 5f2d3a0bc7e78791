//! The integer arguments of a function at its entry, where the calling convention puts them.

use insn::{Address, Isa};

use crate::error::TargetError;
use crate::registers::Registers;
use crate::tracee::Tracee;

/// The first six words of the arguments; 0 for those that cannot be read.
pub(super) fn arguments<T: Tracee>(tracee: &mut T, registers: &Registers) -> Result<[u64; 6], TargetError> {
    let isa = registers.isa();
    let abi = isa.abi();
    let mut found = [0; 6];
    for (argument, slot) in found.iter_mut().zip(abi.syscall.arguments) {
        *argument = registers.get(*slot);
    }
    // Functions get them where system calls do (AAPCS64, Power's ABIs, RISC-V psABI), but for these.
    let (in_registers, behind) = match isa {
        Isa::X86_64 => {
            // psABI 3.2.3: rcx, which the kernel takes r10 for.
            let rcx = abi.registers.iter().find(|(name, _)| *name == "rcx");
            found[3] = rcx.map_or(0, |(_, slot)| registers.get(*slot));
            return Ok(found);
        }
        // psABI 2.2.3: on the stack, behind the return address.
        Isa::I386 => (0, 4),
        // AAPCS 6.4: r0 to r3, then the stack.
        Isa::Arm | Isa::Thumb => (4, 0),
        // "Renesas SH ABI": r4 to r7, then the stack; the return address is in PR.
        Isa::Sh => (4, 0),
        // o32: a0 to a3, which have room on the stack too ("MIPS RISC Processor ABI Supplement", 3-18).
        Isa::Mips | Isa::MipsLe => (4, 16),
        // s390x ELF ABI, "Parameter Passing": r2 to r6, then the stack, above the register save area.
        Isa::S390x => (5, 160),
        _ => return Ok(found),
    };
    let mut stack = vec![0; (6 - in_registers) * abi.word];
    let at: Address = registers.sp() + behind;
    match tracee.read(at, &mut stack) {
        Ok(()) | Err(TargetError::Memory { .. }) => {}
        Err(error) => return Err(error),
    }
    for (argument, word) in found[in_registers..].iter_mut().zip(stack.chunks_exact(abi.word)) {
        *argument = abi.order.number(word);
    }
    Ok(found)
}
