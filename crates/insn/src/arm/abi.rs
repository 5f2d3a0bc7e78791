//! The EABI of 32-bit arm on Linux.

use crate::isa::{Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive};

/// `struct user_regs`, arch/arm/include/asm/user.h: r0 to r15, cpsr, the first argument of the last system call.
pub(crate) const fn slot(register: usize) -> RegisterSlot {
    RegisterSlot(4 * register)
}

/// The stack pointer.
pub(crate) const SP: RegisterSlot = slot(13);
/// The program counter, bit 0 clear.
pub(crate) const PC: RegisterSlot = slot(15);
/// CPSR: N, Z, C, V are bits 31 to 28, T is bit 5, ITSTATE is in bits 15 to 10 and 26 to 25.
pub(crate) const CPSR: RegisterSlot = slot(16);

const REGISTERS: [(&str, RegisterSlot); 17] = [
    ("r0", slot(0)),
    ("r1", slot(1)),
    ("r2", slot(2)),
    ("r3", slot(3)),
    ("r4", slot(4)),
    ("r5", slot(5)),
    ("r6", slot(6)),
    ("r7", slot(7)),
    ("r8", slot(8)),
    ("r9", slot(9)),
    ("r10", slot(10)),
    ("r11", slot(11)),
    ("r12", slot(12)),
    ("sp", SP),
    ("lr", slot(14)),
    ("pc", PC),
    ("cpsr", CPSR),
];

/// A32: permanently undefined, and a breakpoint to the kernel (`arm_break_hook`, arch/arm/kernel/ptrace.c).
pub(crate) static ARM: Abi = abi("arm", &[0xf0, 0x01, 0xf0, 0xe7], &[0x00, 0x00, 0x00, 0xef]);
/// T32: `udf #1` (`thumb_break_hook`).
pub(crate) static THUMB: Abi = abi("thumb", &[0x01, 0xde], &[0x00, 0xdf]);

/// T32, for an instruction of 4 bytes: `udf.w #0` (`thumb2_break_hook`).
pub(crate) static LONG_BREAKPOINT: [u8; 4] = [0xf0, 0xf7, 0x00, 0xa0];
/// T32: `bkpt #0`, which no IT block makes conditional.
pub(crate) static ALWAYS_BREAKPOINT: [u8; 2] = [0x00, 0xbe];

const fn abi(name: &'static str, breakpoint: &'static [u8], syscall: &'static [u8]) -> Abi {
    Abi {
        name,
        elf_machine: 40,
        word: 4,
        order: Order::Little,
        registers: &REGISTERS,
        breakpoint,
        pc_past_breakpoint: 0,
        red_zone: 0,
        regset_len: 72,
        pc: PC,
        next_pc: None,
        sp: SP,
        flags: Some(CPSR),
        thread_base: None,
        // The page of vectors (arch/arm/kernel/entry-armv.S).
        address_end: 0xffff_0000,
        trapping: &[],
        signal_frames: &[],
        syscall: SyscallAbi {
            instruction: syscall, // svc #0
            number: slot(7),
            arguments: const { &consecutive::<6>(4, 0) },
            stacked_arguments: 0,
            result: slot(0),
            failure: Failure::Negative,
            original_number: None,
            // rt_sigtimedwait, io_getevents, epoll_wait, semop, semtimedop, epoll_pwait, io_pgetevents,
            // io_pgetevents_time64, semtimedop_time64, rt_sigtimedwait_time64, epoll_pwait2
            ended_by_stops: &[177, 245, 252, 298, 312, 346, 399, 416, 420, 421, 441],
            leaves_pc: None,
        },
        // arch/arm/tools/syscall.tbl
        numbers: SyscallNumbers {
            mmap: 192, // mmap2: the offset, which is 0 here, is in pages
            map_anonymous: MAP_ANONYMOUS,
            munmap: 91,
            mprotect: 125,
            madvise: 220,
            memfd_create: 385,
            close: 6,
            rt_sigaction: 174,
            membarrier: 389,
            rt_tgsigqueueinfo: None,
            execve: 11,
            execveat: 387,
        },
    }
}
