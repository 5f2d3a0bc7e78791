//! The ABIs of MIPS on Linux: o32 (32 bits) and n64 (64 bits).

use crate::isa::{Abi, Failure, Order, RegisterSlot, SyscallAbi, SyscallNumbers, consecutive};

/// Registers of the set that have names: r1 to r31 and six more. r0 is in it too, and always 0.
const REGISTERS: usize = 37;

/// Where r0 lies, in words: `MIPS32_EF_R0` and `MIPS64_EF_R0`, arch/mips/include/uapi/asm/reg.h. Both sets have ELF_NGREG (45)
/// words, and behind r31 the same six.
const fn first(word: usize) -> usize {
    if word == 4 { 6 } else { 0 }
}

/// Where a general register lies.
pub(crate) const fn general(word: usize, number: usize) -> RegisterSlot {
    RegisterSlot(word * (first(word) + number))
}

/// `EF_CP0_EPC`, counted from r0 as the others are: lo, hi, pc, badvaddr, status, cause.
const PC: usize = 34;

/// GDB's names (features org.gnu.gdb.mips.cpu and .cp0). The kernel gives 0 for r26 and r27, which are its own, and takes
/// none for them (`mips_dump_regs32`, `gpr32_set`, arch/mips/kernel/ptrace.c). The control register of floating point, whose bits
/// `bc1t` asks for, is not in the set.
const fn registers(word: usize) -> [(&'static str, RegisterSlot); REGISTERS] {
    let names = [
        "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", "r29",
        "r30", "r31", "lo", "hi", "pc", "badvaddr", "status", "cause",
    ];
    let mut registers = [("", RegisterSlot(0)); REGISTERS];
    let mut index = 0;
    while index < REGISTERS {
        registers[index] = (names[index], general(word, index + 1));
        index += 1;
    }
    registers
}

const NARROW: [(&str, RegisterSlot); REGISTERS] = registers(4);
const WIDE: [(&str, RegisterSlot); REGISTERS] = registers(8);

/// 32 bits, big-endian.
pub(crate) static MIPS: Abi = Abi { name: "mips", ..o32(Order::Big) };
/// 32 bits, little-endian.
pub(crate) static MIPSEL: Abi = Abi { name: "mipsel", ..little(o32(Order::Little)) };
/// 64 bits, big-endian.
pub(crate) static MIPS64: Abi = Abi { name: "mips64", ..n64(Order::Big) };
/// 64 bits, little-endian.
pub(crate) static MIPS64EL: Abi = Abi { name: "mips64el", ..little(n64(Order::Little)) };

const fn little(abi: Abi) -> Abi {
    Abi {
        breakpoint: &[0x0d, 0x00, 0x05, 0x00],
        syscall: SyscallAbi { instruction: &[0x0c, 0x00, 0x00, 0x00], ..abi.syscall },
        ..abi
    }
}

const fn o32(order: Order) -> Abi {
    Abi {
        registers: &NARROW,
        // kseg0 begins there (`TASK_SIZE32`, arch/mips/include/asm/processor.h, leaves out the last pages besides).
        address_end: 0x8000_0000,
        syscall: SyscallAbi {
            arguments: const { &consecutive::<4>(4, first(4) + 4) },
            // `load_a4`, arch/mips/kernel/scall32-o32.S.
            stacked_arguments: 16,
            // ipc, rt_sigtimedwait, io_getevents, epoll_wait, epoll_pwait, io_pgetevents, io_pgetevents_time64,
            // semtimedop_time64, rt_sigtimedwait_time64, epoll_pwait2
            ended_by_stops: &[4117, 4197, 4243, 4250, 4313, 4368, 4416, 4420, 4421, 4441],
            ..syscall(4)
        },
        // arch/mips/kernel/syscalls/syscall_o32.tbl
        numbers: SyscallNumbers {
            mmap: 4090,
            map_anonymous: MAP_ANONYMOUS,
            munmap: 4091,
            mprotect: 4125,
            madvise: 4218,
            memfd_create: 4354,
            close: 4006,
            rt_sigaction: 4194,
            membarrier: 4358,
            rt_tgsigqueueinfo: None,
            execve: 4011,
            execveat: 4356,
        },
        ..abi(4, order)
    }
}

const fn n64(order: Order) -> Abi {
    abi(8, order)
}

/// arch/mips/include/uapi/asm/mman.h
const MAP_ANONYMOUS: u64 = 0x800;

const fn abi(word: usize, order: Order) -> Abi {
    Abi {
        name: "",
        elf_machine: 8,
        word,
        order,
        registers: &WIDE,
        // `break 5`, as GDB and gdbserver have it (gdb/mips-tdep.c, `mips_breakpoint_kind_from_pc`). Every code raises SIGTRAP in
        // a program but for 6 and 7 (`do_trap_or_bp`, arch/mips/kernel/traps.c).
        breakpoint: &[0x00, 0x05, 0x00, 0x0d],
        pc_past_breakpoint: 0,
        red_zone: 0,
        regset_len: 45 * word,
        pc: general(word, PC),
        next_pc: None,
        sp: general(word, 29),
        flags: None,
        // UserLocal is not in the set.
        thread_base: None,
        // `TASK_SIZE64` with CONFIG_MIPS_VA_BITS_48, arch/mips/include/asm/processor.h.
        address_end: 1 << 48,
        trapping: &[],
        signal_frames: &[],
        syscall: syscall(word),
        // arch/mips/kernel/syscalls/syscall_n64.tbl
        numbers: SyscallNumbers {
            mmap: 5009,
            map_anonymous: MAP_ANONYMOUS,
            munmap: 5011,
            mprotect: 5010,
            madvise: 5027,
            memfd_create: 5314,
            close: 5003,
            rt_sigaction: 5013,
            membarrier: 5318,
            rt_tgsigqueueinfo: Some(5291),
            execve: 5057,
            execveat: 5316,
        },
    }
}

const fn syscall(word: usize) -> SyscallAbi {
    SyscallAbi {
        instruction: &[0x00, 0x00, 0x00, 0x0c],
        number: general(word, 2),
        arguments: const { &consecutive::<6>(8, first(8) + 4) },
        stacked_arguments: 0,
        result: general(word, 2),
        // a3: 0 or 1 (`handle_sys`, arch/mips/kernel/scall64-n64.S).
        failure: Failure::Flag(general(word, 7), 1),
        // It is in the place of r0, which the set does not have (`mips_dump_regs64`).
        original_number: None,
        // semop, rt_sigtimedwait, io_getevents, epoll_wait, semtimedop, epoll_pwait, io_pgetevents, epoll_pwait2
        ended_by_stops: &[5063, 5126, 5202, 5209, 5214, 5272, 5328, 5441],
        leaves_pc: None,
    }
}
