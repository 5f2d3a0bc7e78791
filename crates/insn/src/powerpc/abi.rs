//! The ABIs of Power on Linux: System V (32 bits), ELFv1 (64, big-endian), ELFv2 (64, little-endian).

use crate::isa::{Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive};

// `struct pt_regs`, arch/powerpc/include/uapi/asm/ptrace.h, in words: r0 to r31, then these. ELF_NGREG is 48.
const NIP: usize = 32;
const MSR: usize = 33;
pub(crate) const CTR: usize = 35;
pub(crate) const LR: usize = 36;
const XER: usize = 37;
pub(crate) const CR: usize = 38;
const REGISTERS: usize = 38;

const fn registers(word: usize) -> [(&'static str, RegisterSlot); REGISTERS] {
    let names = [
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", "r29",
        "r30", "r31", "pc", "msr", "cr", "lr", "ctr", "xer",
    ];
    let mut registers = [("", RegisterSlot(0)); REGISTERS];
    let mut index = 0;
    while index < 32 {
        registers[index] = (names[index], RegisterSlot(word * index));
        index += 1;
    }
    let special = [NIP, MSR, CR, LR, CTR, XER];
    let mut nth = 0;
    while nth < special.len() {
        registers[index] = (names[index], RegisterSlot(word * special[nth]));
        index += 1;
        nth += 1;
    }
    registers
}

const WIDE: [(&str, RegisterSlot); REGISTERS] = registers(8);
const NARROW: [(&str, RegisterSlot); REGISTERS] = registers(4);

/// 32 bits, big-endian.
pub(crate) static POWERPC: Abi = Abi {
    name: "powerpc",
    registers: &NARROW,
    red_zone: 0,
    // `TASK_SIZE_USER32`, arch/powerpc/include/asm/task_size_64.h.
    address_end: 0xffff_f000,
    ..abi(4, Order::Big)
};
/// 64 bits, big-endian.
pub(crate) static POWERPC64: Abi = Abi { name: "powerpc64", ..abi(8, Order::Big) };
/// 64 bits, little-endian.
pub(crate) static POWERPC64LE: Abi = Abi {
    name: "powerpc64le",
    breakpoint: &[0x08, 0x00, 0xe0, 0x7f],
    syscall: SyscallAbi { instruction: &[0x02, 0x00, 0x00, 0x44], ..syscall(8) },
    ..abi(8, Order::Little)
};

const fn abi(word: usize, order: Order) -> Abi {
    Abi {
        name: "",
        elf_machine: if word == 8 { 21 } else { 20 },
        word,
        order,
        registers: &WIDE,
        breakpoint: &[0x7f, 0xe0, 0x00, 0x08], // trap
        pc_past_breakpoint: 0,
        // Both 64-bit ABIs, "The Stack Frame".
        red_zone: 288,
        regset_len: 48 * word,
        pc: RegisterSlot(NIP * word),
        next_pc: None,
        sp: RegisterSlot(word),
        flags: Some(RegisterSlot(CR * word)),
        thread_base: None,
        // `DEFAULT_MAP_WINDOW_USER64`, arch/powerpc/include/asm/task_size_64.h.
        address_end: 0x8000_0000_0000,
        trapping: &[],
        signal_frames: &[],
        syscall: syscall(word),
        // arch/powerpc/kernel/syscalls/syscall.tbl
        numbers: SyscallNumbers {
            mmap: 90,
            map_anonymous: MAP_ANONYMOUS,
            munmap: 91,
            mprotect: 125,
            madvise: 205,
            memfd_create: 360,
            close: 6,
            rt_sigaction: 173,
            membarrier: 365,
            rt_tgsigqueueinfo: if word == 8 { Some(322) } else { None },
            execve: 11,
            execveat: 362,
        },
    }
}

const fn syscall(word: usize) -> SyscallAbi {
    const fn general(word: usize, number: usize) -> RegisterSlot {
        RegisterSlot(word * number)
    }
    SyscallAbi {
        instruction: &[0x44, 0x00, 0x00, 0x02], // sc
        number: general(word, 0),
        arguments: if word == 4 {
            const { &consecutive::<6>(4, 3) }
        } else {
            const { &consecutive::<6>(8, 3) }
        },
        stacked_arguments: 0,
        result: general(word, 3),
        // CR0.SO (Documentation/arch/powerpc/syscall64-abi.rst).
        failure: Failure::Flag(RegisterSlot(CR * word), 1 << 28),
        original_number: None,
        // ipc, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents, semtimedop, epoll_pwait2
        ended_by_stops: &[117, 176, 229, 238, 303, 388, 392, 441],
        leaves_pc: None,
    }
}
