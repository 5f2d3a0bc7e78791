//! The System V x86-64 ABI on Linux.

use crate::isa::{
    Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SignalFrame, SyscallAbi, SyscallNumbers, Trap, Trapping,
};

// `struct user_regs_struct`, arch/x86/include/asm/user_64.h: 27 words.
const R15: usize = 0;
const R14: usize = 8;
const R13: usize = 16;
const R12: usize = 24;
const RBP: usize = 32;
const RBX: usize = 40;
const R11: usize = 48;
const R10: usize = 56;
const R9: usize = 64;
const R8: usize = 72;
const RAX: usize = 80;
const RCX: usize = 88;
const RDX: usize = 96;
const RSI: usize = 104;
const RDI: usize = 112;
const ORIG_RAX: usize = 120;
const RIP: usize = 128;
const EFLAGS: usize = 144;
const RSP: usize = 152;
const FS_BASE: usize = 168;

/// Register slots by encoding number (rax 0 ... r15 15).
pub(crate) const GENERAL: [usize; 16] =
    [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15];

const fn slot(offset: usize) -> RegisterSlot {
    RegisterSlot(offset)
}

/// Opcodes that raise SIGILL at their own address in 64-bit mode, on every processor of today: invalid since AMD64, and
/// without a use by a later extension (0x62, 0xc4, 0xc5, 0xd5 have become prefixes and are left out). Sorted.
const TRAPPING: [Trapping; 19] = {
    let opcodes = [
        0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4,
        0xd6, 0xea,
    ];
    let mut trapping = [Trapping { opcode: 0, by: Trap::Invalid }; 19];
    let mut index = 0;
    while index < opcodes.len() {
        trapping[index].opcode = opcodes[index];
        index += 1;
    }
    trapping
};

/// The values of a jump displacement's highest byte in the order in which a new area should use them. Far above first: what
/// grows (the heap of a non-PIE program, at most 1 GiB above its image) lies near; then nearer; below last, where the
/// kernel places new mappings.
pub(crate) const TOPS: [i8; 19] = [
    0x60, 0x61, 0x3f, 0x37, 0x2f, 0x27, 0x1f, 0x1e, 0x17, 0x16, 0x0e, 0x07, 0x06, -0x2c, -0x2a, -0x16, -0x32,
    -0x66, -0x7e,
];

/// By the names of GDB's target description.
const REGISTERS: [(&str, RegisterSlot); 20] = [
    ("rax", slot(RAX)),
    ("rbx", slot(RBX)),
    ("rcx", slot(RCX)),
    ("rdx", slot(RDX)),
    ("rsi", slot(RSI)),
    ("rdi", slot(RDI)),
    ("rbp", slot(RBP)),
    ("rsp", slot(RSP)),
    ("r8", slot(R8)),
    ("r9", slot(R9)),
    ("r10", slot(R10)),
    ("r11", slot(R11)),
    ("r12", slot(R12)),
    ("r13", slot(R13)),
    ("r14", slot(R14)),
    ("r15", slot(R15)),
    ("rip", slot(RIP)),
    ("eflags", slot(EFLAGS)),
    ("orig_rax", slot(ORIG_RAX)),
    ("fs_base", slot(FS_BASE)),
];

/// See the module header.
pub(crate) static ABI: Abi = Abi {
    name: "x86_64",
    elf_machine: 62,
    word: 8,
    order: Order::Little,
    registers: &REGISTERS,
    breakpoint: &[0xcc],
    pc_past_breakpoint: 1,
    red_zone: 128,
    regset_len: 216,
    pc: slot(RIP),
    next_pc: None,
    sp: slot(RSP),
    flags: Some(slot(EFLAGS)),
    thread_base: Some(slot(FS_BASE)),
    // A 47-bit address space, less the guard page at its end (Documentation/arch/x86/x86_64/mm.rst).
    address_end: 0x7fff_ffff_f000,
    trapping: &TRAPPING,
    // `struct rt_sigframe` (arch/x86/include/asm/sigframe.h): return address, ucontext, of which the sigcontext begins
    // at byte 48 (arch/x86/include/uapi/asm/sigcontext.h). `get_sigframe` aligns it (arch/x86/kernel/signal.c).
    signal_frames: &[SignalFrame {
        len: 240,
        pc: 176,
        alignment: (16, 8),
        fixed: &[
            (8, !0x7, 0),      // uc_flags: UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
            (16, u64::MAX, 0), // uc_link
            (184, 0xffff_ffff_ffc0_802a, 0x2), // flags: bit 1 is one, bits 3, 5, 15 and those from 22 on are zero
            (192, 0xffff, 0x33),               // the 64-bit user code segment
        ],
        // `mov $15,%rax; syscall` in both its encodings: rt_sigreturn.
        restorers: &[&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]],
        vector_state: 232,
        vector_magic: (464, 0x4650_5853), // sw_reserved.magic1, FP_XSTATE_MAGIC1
    }],
    syscall: SyscallAbi {
        instruction: &[0x0f, 0x05],
        number: slot(RAX),
        arguments: &[slot(RDI), slot(RSI), slot(RDX), slot(R10), slot(R8), slot(R9)],
        stacked_arguments: 0,
        result: slot(RAX),
        failure: Failure::Negative,
        original_number: Some(slot(ORIG_RAX)),
        // semop, rt_sigtimedwait, io_getevents, semtimedop, epoll_wait, epoll_pwait, io_pgetevents, epoll_pwait2
        ended_by_stops: &[65, 128, 208, 220, 232, 281, 333, 441],
        leaves_pc: Some(slot(RCX)),
    },
    // arch/x86/entry/syscalls/syscall_64.tbl
    numbers: SyscallNumbers {
        mmap: 9,
        map_anonymous: MAP_ANONYMOUS,
        munmap: 11,
        mprotect: 10,
        madvise: 28,
        memfd_create: 319,
        close: 3,
        rt_sigaction: 13,
        membarrier: 324,
        rt_tgsigqueueinfo: Some(297),
        execve: 59,
        execveat: 322,
    },
};
