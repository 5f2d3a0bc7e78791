//! The System V i386 ABI on Linux, as a 64-bit kernel offers it to 32-bit tasks and shows it to a 64-bit tracer.

use crate::isa::{
    Abi, Failure, MAP_ANONYMOUS, Order, RegisterSlot, SignalFrame, SyscallAbi, SyscallNumbers, Trap, Trapping,
};

// `struct user_regs_struct32`, arch/x86/include/asm/user32.h: 17 words of 32 bits.
const EBX: usize = 0;
const ECX: usize = 4;
const EDX: usize = 8;
const ESI: usize = 12;
const EDI: usize = 16;
const EBP: usize = 20;
const EAX: usize = 24;
const ORIG_EAX: usize = 44;
const EIP: usize = 48;
const EFLAGS: usize = 56;
const ESP: usize = 60;

/// Register slots by encoding number (eax 0 ... edi 7).
pub(crate) const GENERAL: [usize; 8] = [EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI];

const fn slot(offset: usize) -> RegisterSlot {
    RegisterSlot(offset)
}

/// No byte raises SIGILL by itself in 32-bit mode. `hlt`, `cli` and `sti` are protected, `int3` is the breakpoint. `in` and
/// `out` are protected too, but run where the program was given ports (ioperm(2)), and `int1` is a processor's debugging
/// means: they are left out. Sorted.
const TRAPPING: [Trapping; 4] = [
    Trapping { opcode: 0xcc, by: Trap::Breakpoint },
    Trapping { opcode: 0xf4, by: Trap::Protected },
    Trapping { opcode: 0xfa, by: Trap::Protected },
    Trapping { opcode: 0xfb, by: Trap::Protected },
];

/// The values of a jump displacement's highest byte in the order in which a new area should use them. Displacements wrap,
/// so each is a window of its own for every address: the far one first, which is out of the way of heap and libraries.
pub(crate) const TOPS: [i8; 4] = [-0x34, -0x0c, -0x05, -0x06];

/// `mov $119,%eax; int $0x80` behind a `pop %eax`, and `mov $173,%eax; int $0x80`: sigreturn and rt_sigreturn, as the vDSO
/// and glibc have them.
const SIGRETURN: &[u8] = &[0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80];
const RT_SIGRETURN: &[u8] = &[0xb8, 0xad, 0, 0, 0, 0xcd, 0x80];

/// A frame whose `struct sigcontext_32` (arch/x86/include/uapi/asm/sigcontext.h) begins at `context`. `get_sigframe` aligns
/// it as the ABI wants a function's arguments (arch/x86/kernel/signal.c).
const fn frame(
    context: usize,
    fixed: &'static [(usize, u64, u64)],
    restorers: &'static [&'static [u8]],
) -> SignalFrame {
    SignalFrame {
        len: context + 88,
        pc: context + 56,
        alignment: (16, 12),
        fixed,
        restorers,
        vector_state: context + 76,
        // `struct _fpstate_32`: 112 bytes of the old format, then FXSAVE's with sw_reserved.magic1, FP_XSTATE_MAGIC1.
        vector_magic: (576, 0x4650_5853),
    }
}

/// The 32-bit user code segment.
const CODE_SEGMENT: u64 = 0x23;
/// Bit 1 is one, bits 3, 5, 15 and those from 22 on are zero.
const FLAGS: (u64, u64) = (0xffc0_802a, 0x2);

/// Where `struct sigframe_ia32` and `struct rt_sigframe_ia32` (arch/x86/include/asm/sigframe.h) have the context: the former is
/// the frame of handlers without `SA_SIGINFO`.
const OLD: usize = 8;
const RT: usize = 164;

/// By the names of GDB's target description.
const REGISTERS: [(&str, RegisterSlot); 11] = [
    ("eax", slot(EAX)),
    ("ebx", slot(EBX)),
    ("ecx", slot(ECX)),
    ("edx", slot(EDX)),
    ("esi", slot(ESI)),
    ("edi", slot(EDI)),
    ("ebp", slot(EBP)),
    ("esp", slot(ESP)),
    ("eip", slot(EIP)),
    ("eflags", slot(EFLAGS)),
    ("orig_eax", slot(ORIG_EAX)),
];

/// See the module header.
pub(crate) static ABI: Abi = Abi {
    name: "i386",
    elf_machine: 3,
    word: 4,
    order: Order::Little,
    registers: &REGISTERS,
    breakpoint: &[0xcc],
    pc_past_breakpoint: 1,
    red_zone: 0,
    regset_len: 68,
    pc: slot(EIP),
    next_pc: None,
    sp: slot(ESP),
    flags: Some(slot(EFLAGS)),
    thread_base: None,
    // `IA32_PAGE_OFFSET`, arch/x86/include/asm/page_64_types.h.
    address_end: 0xffff_e000,
    trapping: &TRAPPING,
    signal_frames: &[
        frame(OLD, &[(OLD + 60, 0xffff, CODE_SEGMENT), (OLD + 64, FLAGS.0, FLAGS.1)], &[SIGRETURN]),
        frame(
            RT,
            &[
                (144, !0x7, 0),            // uc_flags
                (148, u32::MAX as u64, 0), // uc_link
                (RT + 60, 0xffff, CODE_SEGMENT),
                (RT + 64, FLAGS.0, FLAGS.1),
            ],
            &[RT_SIGRETURN],
        ),
    ],
    syscall: SyscallAbi {
        instruction: &[0xcd, 0x80],
        number: slot(EAX),
        arguments: &[slot(EBX), slot(ECX), slot(EDX), slot(ESI), slot(EDI), slot(EBP)],
        stacked_arguments: 0,
        result: slot(EAX),
        failure: Failure::Negative,
        original_number: Some(slot(ORIG_EAX)),
        // ipc (semop, semtimedop), rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents,
        // io_pgetevents_time64, semtimedop_time64, rt_sigtimedwait_time64, epoll_pwait2
        ended_by_stops: &[117, 177, 247, 256, 319, 385, 416, 420, 421, 441],
        leaves_pc: None,
    },
    // arch/x86/entry/syscalls/syscall_32.tbl
    numbers: SyscallNumbers {
        mmap: 192, // mmap2: the offset, which is 0 here, is in pages
        map_anonymous: MAP_ANONYMOUS,
        munmap: 91,
        mprotect: 125,
        madvise: 219,
        memfd_create: 356,
        close: 6,
        rt_sigaction: 174,
        membarrier: 375,
        rt_tgsigqueueinfo: None,
        execve: 11,
        execveat: 358,
    },
};
