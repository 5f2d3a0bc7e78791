//! The psABI of RISC-V on Linux.

use crate::isa::{
    Abi, Failure, GENERIC_NUMBERS, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive,
};

/// Names of x1 to x31, as GDB's target descriptions have them: by number, or by use.
const NAMES: [(&str, &str); 31] = [
    ("x1", "ra"),
    ("x2", "sp"),
    ("x3", "gp"),
    ("x4", "tp"),
    ("x5", "t0"),
    ("x6", "t1"),
    ("x7", "t2"),
    ("x8", "fp"),
    ("x9", "s1"),
    ("x10", "a0"),
    ("x11", "a1"),
    ("x12", "a2"),
    ("x13", "a3"),
    ("x14", "a4"),
    ("x15", "a5"),
    ("x16", "a6"),
    ("x17", "a7"),
    ("x18", "s2"),
    ("x19", "s3"),
    ("x20", "s4"),
    ("x21", "s5"),
    ("x22", "s6"),
    ("x23", "s7"),
    ("x24", "s8"),
    ("x25", "s9"),
    ("x26", "s10"),
    ("x27", "s11"),
    ("x28", "t3"),
    ("x29", "t4"),
    ("x30", "t5"),
    ("x31", "t6"),
];
const REGISTERS: usize = 1 + 2 * NAMES.len();

/// `struct user_regs_struct`, arch/riscv/include/uapi/asm/ptrace.h: pc in the place of x0, then x1 to x31.
const fn registers(word: usize) -> [(&'static str, RegisterSlot); REGISTERS] {
    let mut registers = [("pc", RegisterSlot(0)); REGISTERS];
    let mut index = 0;
    while index < NAMES.len() {
        let slot = RegisterSlot(word * (index + 1));
        registers[1 + 2 * index] = (NAMES[index].0, slot);
        registers[2 + 2 * index] = (NAMES[index].1, slot);
        index += 1;
    }
    registers
}

const NARROW: [(&str, RegisterSlot); REGISTERS] = registers(4);
const WIDE: [(&str, RegisterSlot); REGISTERS] = registers(8);

/// RV32.
pub(crate) static RISCV32: Abi = Abi {
    name: "riscv32",
    registers: &NARROW,
    address_end: 0xffff_f000,
    numbers: SyscallNumbers { rt_tgsigqueueinfo: None, ..GENERIC_NUMBERS },
    ..abi(4)
};
/// RV64.
pub(crate) static RISCV64: Abi = Abi { name: "riscv64", ..abi(8) };

const fn abi(word: usize) -> Abi {
    const fn x(word: usize, number: usize) -> RegisterSlot {
        RegisterSlot(word * number)
    }
    Abi {
        name: "",
        elf_machine: 243,
        word,
        order: Order::Little,
        registers: &WIDE,
        // c.ebreak, over instructions of 4 bytes too, as the kernel's uprobes have it (arch/riscv/include/asm/uprobes.h). Where
        // there are compressed instructions those of 4 bytes need not be aligned: a store of `ebreak` may then be seen by
        // halves (the first half with another second one is `ecall`, say) and run into the next page. A store of 2 bytes is
        // atomic, and the length that its low bits tell is its own. A processor without C has another instruction set than
        // this one: a program built for it (no EF_RISCV_RVC in its ELF header) would get SIGILL from it.
        breakpoint: &[0x02, 0x90],
        pc_past_breakpoint: 0,
        red_zone: 0,
        regset_len: 32 * word,
        pc: RegisterSlot(0),
        next_pc: None,
        sp: x(word, 2),
        flags: None,
        thread_base: Some(x(word, 4)),
        // Sv57 (Documentation/arch/riscv/vm-layout.rst).
        address_end: 1 << 56,
        trapping: &[],
        signal_frames: &[],
        syscall: SyscallAbi {
            instruction: &[0x73, 0x00, 0x00, 0x00], // ecall
            number: x(word, 17),
            arguments: if word == 4 {
                const { &consecutive::<6>(4, 10) }
            } else {
                const { &consecutive::<6>(8, 10) }
            },
            stacked_arguments: 0,
            result: x(word, 10),
            failure: Failure::Negative,
            original_number: None,
            // io_getevents, epoll_pwait, rt_sigtimedwait, semtimedop, semop, io_pgetevents, io_pgetevents_time64,
            // semtimedop_time64, rt_sigtimedwait_time64, epoll_pwait2
            ended_by_stops: &[4, 22, 137, 192, 193, 292, 416, 420, 421, 441],
            leaves_pc: None,
        },
        numbers: GENERIC_NUMBERS,
    }
}
