//! The LP64 ABI of AArch64 on Linux.

use crate::isa::{Abi, Failure, GENERIC_NUMBERS, Order, RegisterSlot, SyscallAbi};

/// `struct user_pt_regs`, arch/arm64/include/uapi/asm/ptrace.h: x0 to x30, sp, pc, pstate.
pub(crate) const fn slot(register: usize) -> RegisterSlot {
    RegisterSlot(8 * register)
}

/// A general register by its number in an instruction; `None` for 31, which is the zero register there.
pub(crate) fn general(number: u32) -> Option<RegisterSlot> {
    (number < 31).then(|| slot(number as usize))
}

/// The stack pointer.
pub(crate) const SP: RegisterSlot = slot(31);
/// The program counter.
pub(crate) const PC: RegisterSlot = slot(32);
/// PSTATE as SPSR_EL1 has it: N, Z, C, V are bits 31 to 28.
pub(crate) const PSTATE: RegisterSlot = slot(33);

const REGISTERS: [(&str, RegisterSlot); 34] = {
    let names = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
        "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29",
        "x30", "sp", "pc", "cpsr",
    ];
    let mut registers = [("", slot(0)); 34];
    let mut index = 0;
    while index < names.len() {
        registers[index] = (names[index], slot(index));
        index += 1;
    }
    registers
};

/// See the module header.
pub(crate) static ABI: Abi = Abi {
    name: "arm64",
    elf_machine: 183,
    word: 8,
    order: Order::Little,
    registers: &REGISTERS,
    breakpoint: &[0x00, 0x00, 0x20, 0xd4], // brk #0
    pc_past_breakpoint: 0,
    red_zone: 0,
    regset_len: 272,
    pc: PC,
    next_pc: None,
    sp: SP,
    flags: Some(PSTATE),
    thread_base: None,
    // 48 bits (Documentation/arch/arm64/memory.rst); 52 are given only to who asks.
    address_end: 1 << 48,
    trapping: &[],
    signal_frames: &[],
    syscall: SyscallAbi {
        instruction: &[0x01, 0x00, 0x00, 0xd4], // svc #0
        number: slot(8),
        arguments: &[slot(0), slot(1), slot(2), slot(3), slot(4), slot(5)],
        stacked_arguments: 0,
        result: slot(0),
        failure: Failure::Negative,
        original_number: None,
        // io_getevents, epoll_pwait, rt_sigtimedwait, semtimedop, semop, io_pgetevents, epoll_pwait2
        ended_by_stops: &[4, 22, 137, 192, 193, 292, 441],
        leaves_pc: None,
    },
    numbers: GENERIC_NUMBERS,
};
