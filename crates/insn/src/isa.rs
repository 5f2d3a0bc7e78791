//! Instruction sets as values: what the rest of the house asks of an ISA, as data.
//!
//! The ISA belongs to the traced *task*; nothing here depends on the machine xol was built for.

use serde::{Deserialize, Serialize};

use crate::address::Address;

/// An instruction set and its Linux ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Isa {
    /// x86-64 with the System V ABI, 64-bit Linux system calls.
    X86_64,
    /// i386 (32-bit x86) with the System V ABI, 32-bit Linux system calls: tasks of an x86-64 kernel's compatibility mode.
    I386,
    /// AArch64, little-endian, with the LP64 ABI.
    Arm64,
    /// 32-bit arm, little-endian, EABI: the ISA of a process, whose threads run A32 and T32 in turn, and of a place whose code
    /// is A32.
    Arm,
    /// The ISA of a place in an [`Isa::Arm`] process whose code is T32.
    Thumb,
    /// 32-bit Power, big-endian, System V ABI.
    PowerPc,
    /// 64-bit Power, big-endian, ELFv1 ABI: functions are named by descriptors.
    PowerPc64,
    /// 64-bit Power, little-endian, ELFv2 ABI: functions have a local entry.
    PowerPc64Le,
    /// RV32 with compressed instructions.
    RiscV32,
    /// RV64 with compressed instructions.
    RiscV64,
    /// SuperH of the kind SH-4 (SH-4A, too), little-endian, without FDPIC.
    Sh,
    /// Alpha, little-endian.
    Alpha,
    /// 32-bit MIPS, big-endian, o32 ABI.
    Mips,
    /// 32-bit MIPS, little-endian, o32 ABI.
    MipsLe,
    /// 64-bit MIPS, big-endian, n64 ABI.
    Mips64,
    /// 64-bit MIPS, little-endian, n64 ABI.
    Mips64Le,
    /// 32-bit SPARC, V8; also programs for V9 of that width (v8plus).
    Sparc,
    /// 64-bit SPARC, V9.
    Sparc64,
    /// z/Architecture, in its 64-bit addressing mode.
    S390x,
}

/// `asm-generic/unistd.h` (in the kernel's include/uapi): arm64 and riscv.
pub(crate) const GENERIC_NUMBERS: SyscallNumbers = SyscallNumbers {
    mmap: 222, // mmap2 in 32 bits: the offset, which is 0 here, is in pages
    map_anonymous: MAP_ANONYMOUS,
    munmap: 215,
    mprotect: 226,
    madvise: 233,
    memfd_create: 279,
    close: 57,
    rt_sigaction: 134,
    membarrier: 283,
    rt_tgsigqueueinfo: Some(240),
    execve: 221,
    execveat: 281,
};

/// `MAP_ANONYMOUS`, include/uapi/asm-generic/mman-common.h.
pub(crate) const MAP_ANONYMOUS: u64 = 0x20;

/// The slots of registers that follow one another, words of `word` bytes, from the one with this index on.
pub(crate) const fn consecutive<const COUNT: usize>(word: usize, first: usize) -> [RegisterSlot; COUNT] {
    let mut slots = [RegisterSlot(0); COUNT];
    let mut index = 0;
    while index < COUNT {
        slots[index] = RegisterSlot(word * (first + index));
        index += 1;
    }
    slots
}

/// The order of bytes in a word of data. Code may have another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// How the kernel tells that a system call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The result is `-errno`: between -4095 and -1 (`IS_ERR_VALUE`, include/linux/err.h).
    Negative,
    /// One of these bits is set, and the result is `errno`: Power's CR0.SO, Alpha's a3.
    Flag(RegisterSlot, u64),
}

/// Where a register of the ISA's width ([`Abi::word`]) lies in the kernel's `NT_PRSTATUS` register set, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterSlot(pub usize);

/// How the kernel is called: register slots and the instruction.
#[derive(Debug)]
pub struct SyscallAbi {
    /// The instruction that enters the kernel.
    pub instruction: &'static [u8],
    /// Holds the number at entry.
    pub number: RegisterSlot,
    /// Hold the arguments at entry, the first of up to six.
    pub arguments: &'static [RegisterSlot],
    /// Where those that have no register lie: so many bytes above the stack pointer, word by word (mips o32).
    pub stacked_arguments: u64,
    /// Holds the result (or `-errno`) at exit.
    pub result: RegisterSlot,
    /// What tells a failure.
    pub failure: Failure,
    /// The kernel's copy of the number, by which it decides on restarting an interrupted call;
    /// [`Isa::no_call`] means "not in a system call".
    pub original_number: Option<RegisterSlot>,
    /// Calls that the kernel ends with `EINTR` at any stop, though no signal is delivered (signal(7), "Interruption of system
    /// calls by stop signals"), and that can be begun again: nothing has happened yet when they are interrupted.
    pub ended_by_stops: &'static [u64],
    /// The register in which the instruction leaves the address behind itself (rcx of x86-64's `syscall`). Where a
    /// thread stands directly behind a moved system call ([`crate::relocate::Point::behind_syscall`]), the original
    /// address belongs there.
    pub leaves_pc: Option<RegisterSlot>,
}

/// The system-call numbers that an injected call may use, or that are looked for.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is the system call of that name")]
pub struct SyscallNumbers {
    pub mmap: u64,
    /// Not a number of a call, but of a flag of `mmap`: `MAP_ANONYMOUS`, which a few ISAs have elsewhere.
    pub map_anonymous: u64,
    pub munmap: u64,
    pub mprotect: u64,
    pub madvise: u64,
    pub memfd_create: u64,
    pub close: u64,
    pub rt_sigaction: u64,
    pub membarrier: u64,
    /// `None` where its `siginfo_t` has another layout than the one that ptrace(2) gives.
    pub rt_tgsigqueueinfo: Option<u64>,
    pub execve: u64,
    pub execveat: u64,
}

/// How an opcode that no program may run is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// SIGILL at the opcode's own address, which is in the siginfo too.
    Invalid,
    /// SIGSEGV at the opcode's own address, `SI_KERNEL`, no address in the siginfo: a general protection fault.
    Protected,
    /// SIGTRAP as of a breakpoint: the PC is [`Abi::pc_past_breakpoint`] behind.
    Breakpoint,
}

/// An opcode that traps wherever it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trapping {
    /// Its only byte.
    pub opcode: u8,
    /// What comes of it.
    pub by: Trap,
}

/// The frame that the kernel puts on the stack for a signal handler: where it keeps the interrupted PC, and what tells a
/// frame from other words. Offsets are in bytes from the frame's start.
#[derive(Debug)]
pub struct SignalFrame {
    /// Bytes of the frame that are looked at: all offsets below lie in them.
    pub len: usize,
    /// The interrupted program counter.
    pub pc: usize,
    /// Every frame starts at `alignment.1` modulo `alignment.0`.
    pub alignment: (u64, u64),
    /// Masked words (of [`Abi::word`] bytes) that have one value in every frame: offset, mask, value.
    pub fixed: &'static [(usize, u64, u64)],
    /// The word at the frame's start points to one of these: the system call that ends the handler.
    pub restorers: &'static [&'static [u8]],
    /// Holds the address of the saved vector state, above the frame.
    pub vector_state: usize,
    /// Where in the vector state a 32-bit magic number stands, and which.
    pub vector_magic: (u64, u32),
}

/// What is fixed for an ISA and its Linux ABI.
#[derive(Debug)]
pub struct Abi {
    /// The name used in output and file names.
    pub name: &'static str,
    /// `e_machine` of its programs (elf.h).
    pub elf_machine: u16,
    /// Bytes of a pointer.
    pub word: usize,
    /// Of words in memory and in the register set.
    pub order: Order,
    /// The registers of the `NT_PRSTATUS` set, by the names that GDB's target descriptions have for them (GDB manual, appendix
    /// "Standard Target Features"); each as wide as [`Self::word`] in the set, though a description may say less.
    pub registers: &'static [(&'static str, RegisterSlot)],
    /// The breakpoint instruction (the shortest: see [`Isa::breakpoint`]).
    pub breakpoint: &'static [u8],
    /// How far behind the breakpoint instruction's first byte the kernel reports the PC.
    pub pc_past_breakpoint: u64,
    /// Bytes below the stack pointer that belong to the running function (System V x86-64 ABI, 3.2.2).
    pub red_zone: u64,
    /// Size of the `NT_PRSTATUS` register set: what tells a task's ISA.
    pub regset_len: usize,
    /// Program counter.
    pub pc: RegisterSlot,
    /// Where the instruction behind the next one is, where the ISA has a register for that (sparc's nPC): elsewhere than
    /// behind the next one in a delay slot only.
    pub next_pc: Option<RegisterSlot>,
    /// Stack pointer.
    pub sp: RegisterSlot,
    /// Flags; `None` where the ISA has none (riscv).
    pub flags: Option<RegisterSlot>,
    /// The thread pointer's base (`fs_base` on x86-64); `None` where the register set has none (i386 keeps it in a
    /// descriptor table, and the set has the selector only).
    pub thread_base: Option<RegisterSlot>,
    /// The first address that a program can never map.
    pub address_end: u64,
    /// One-byte opcodes that trap whatever follows them: what the boundaries inside a jump hold.
    pub trapping: &'static [Trapping],
    /// What a handler may find on its stack.
    pub signal_frames: &'static [SignalFrame],
    /// How the kernel is called.
    pub syscall: SyscallAbi,
    /// Numbers of the calls that xol injects.
    pub numbers: SyscallNumbers,
}

impl Abi {
    /// One register of an `NT_PRSTATUS` set; 0 where the set is too short.
    #[must_use]
    pub fn get(&self, registers: &[u8], slot: RegisterSlot) -> u64 {
        registers.get(slot.0..slot.0 + self.word).map_or(0, |bytes| self.order.number(bytes))
    }

    /// Sets one register of an `NT_PRSTATUS` set, as much of the value as it has room for.
    pub fn set(&self, registers: &mut [u8], slot: RegisterSlot, value: u64) {
        if let Some(bytes) = registers.get_mut(slot.0..slot.0 + self.word) {
            self.order.write(value, bytes);
        }
    }

    /// Has the thread go on at `to`, in the mode that it is in.
    pub fn set_pc(&self, registers: &mut [u8], to: u64) {
        self.set(registers, self.pc, to);
        if let Some(next) = self.next_pc {
            self.set(registers, next, to.wrapping_add(4)); // the ISAs that have it have no other length
        }
    }
}

impl Order {
    /// The number that `bytes`, 8 at most, stand for.
    #[must_use]
    pub fn number(self, bytes: &[u8]) -> u64 {
        let add = |value, byte: &u8| value << 8 | u64::from(*byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, add),
            Self::Big => bytes.iter().fold(0, add),
        }
    }

    /// Writes the low bytes of `value`, as many as there is room for, 8 at most.
    pub fn write(self, value: u64, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().rev().enumerate().take(8) {
            *byte = value.to_be_bytes()[7 - index];
        }
        if self == Self::Little {
            bytes.reverse();
        }
    }
}

impl Isa {
    /// The ISA of a program by its ELF header: `e_machine`, bytes of a word by its class, and the order of bytes.
    #[must_use]
    pub fn of_elf(machine: u16, word: usize, order: Order) -> Option<Self> {
        // EM_SPARC32PLUS: 32 bits, for processors of V9.
        let machine = if machine == 18 { Self::Sparc.abi().elf_machine } else { machine };
        let is_it = |abi: &Abi| (abi.elf_machine, abi.word, abi.order) == (machine, word, order);
        Self::ALL.into_iter().find(|isa| is_it(isa.abi()))
    }

    /// Every instruction set; that of a process before those of places in it.
    pub const ALL: [Self; 19] = [
        Self::X86_64,
        Self::I386,
        Self::Arm64,
        Self::Arm,
        Self::Thumb,
        Self::PowerPc,
        Self::PowerPc64,
        Self::PowerPc64Le,
        Self::RiscV32,
        Self::RiscV64,
        Self::Sh,
        Self::Alpha,
        Self::Mips,
        Self::MipsLe,
        Self::Mips64,
        Self::Mips64Le,
        Self::Sparc,
        Self::Sparc64,
        Self::S390x,
    ];

    /// Whether there are stubs for it: what is neither x86-64 nor i386 is probed by breakpoints and slots only.
    #[must_use]
    pub fn has_stubs(self) -> bool {
        matches!(self, Self::X86_64 | Self::I386)
    }

    /// The breakpoint for an instruction of `len` bytes: as long as it, where the ISA has breakpoints of several lengths.
    /// RISC-V has two as well, but the short one is for all (`riscv/abi.rs` says why).
    ///
    /// T32 has `udf #1` for 2 bytes and `udf.w #0` for 4 (`thumb_break_hook`, `thumb2_break_hook`, arch/arm/kernel/ptrace.c;
    /// GDB has the same two, gdb/arm-linux-tdep.c). In an IT block a breakpoint is conditional like any instruction. Where it is
    /// passed over control goes on behind it: that must be behind the instruction.
    #[must_use]
    pub fn breakpoint(self, len: usize) -> &'static [u8] {
        match (self, len) {
            (Self::Thumb, 4) => &crate::arm::abi::LONG_BREAKPOINT,
            _ => self.abi().breakpoint,
        }
    }

    /// The breakpoint for the end of a slot, which stops whatever comes there. In T32 it is `bkpt #0`: behind an instruction out
    /// of an IT block the others would be conditional (F5.1.25; a kernel with support of hardware breakpoints makes SIGTRAP of
    /// it, `hw_breakpoint_pending`, arch/arm/kernel/hw_breakpoint.c).
    #[must_use]
    pub fn breakpoint_behind_slot(self) -> &'static [u8] {
        match self {
            Self::Thumb => &crate::arm::abi::ALWAYS_BREAKPOINT,
            _ => self.abi().breakpoint,
        }
    }

    /// Whether a system call takes one argument, the address of a block of words that hold the others: s390x's `mmap`, which is
    /// `old_mmap` (arch/s390/kernel/syscalls/syscall.tbl).
    #[must_use]
    pub fn passes_block(self, number: u64) -> bool {
        self == Self::S390x && number == self.abi().numbers.mmap
    }

    /// What [`SyscallAbi::original_number`] holds where a thread is in no system call: -1, but on s390x.
    #[must_use]
    pub fn no_call(self) -> u64 {
        if self == Self::S390x { 0 } else { u64::MAX }
    }

    /// Whether code begins with an instruction that calls the kernel as [`SyscallAbi::instruction`] does: it, or on sh one that tells
    /// another number of arguments.
    #[must_use]
    pub fn calls_the_kernel(self, code: &[u8]) -> bool {
        match self {
            Self::Sh => crate::sh::analyze::calls_the_kernel(code),
            Self::Sparc | Self::Sparc64 => crate::sparc::analyze::calls_the_kernel(self, code),
            _ => code.starts_with(self.abi().syscall.instruction),
        }
    }

    /// The fixed facts of this ISA.
    #[must_use]
    pub fn abi(self) -> &'static Abi {
        match self {
            Self::X86_64 => &crate::x86::x86_64::ABI,
            Self::I386 => &crate::x86::i386::ABI,
            Self::Arm64 => &crate::arm64::abi::ABI,
            Self::Arm => &crate::arm::abi::ARM,
            Self::Thumb => &crate::arm::abi::THUMB,
            Self::PowerPc => &crate::powerpc::abi::POWERPC,
            Self::PowerPc64 => &crate::powerpc::abi::POWERPC64,
            Self::PowerPc64Le => &crate::powerpc::abi::POWERPC64LE,
            Self::RiscV32 => &crate::riscv::abi::RISCV32,
            Self::RiscV64 => &crate::riscv::abi::RISCV64,
            Self::Sh => &crate::sh::abi::ABI,
            Self::Alpha => &crate::alpha::abi::ABI,
            Self::Mips => &crate::mips::abi::MIPS,
            Self::MipsLe => &crate::mips::abi::MIPSEL,
            Self::Mips64 => &crate::mips::abi::MIPS64,
            Self::Mips64Le => &crate::mips::abi::MIPS64EL,
            Self::Sparc => &crate::sparc::abi::SPARC,
            Self::Sparc64 => &crate::sparc::abi::SPARC64,
            Self::S390x => &crate::s390x::abi::ABI,
        }
    }

    /// An address as the ISA computes it: those of i386 wrap at 4 GiB.
    #[must_use]
    pub fn wrap(self, at: Address) -> Address {
        match self.abi().word {
            4 => Address(at.0 & u64::from(u32::MAX)),
            _ => at,
        }
    }

    /// The 32-bit displacement of a relative branch that ends at `end`, to `to`; `None` where that is out of reach.
    #[must_use]
    pub fn displacement(self, end: Address, to: Address) -> Option<[u8; 4]> {
        match self {
            Self::X86_64 | Self::I386 => crate::x86::mode::Mode::of(self).displacement(self.wrap(end), to),
            _ => None,
        }
    }

    /// The ISA of a task from the size of the `NT_PRSTATUS` set the kernel returned for it.
    #[must_use]
    pub fn of_regset(len: usize) -> Option<Self> {
        [Self::X86_64, Self::I386].into_iter().find(|isa| isa.abi().regset_len == len)
    }
}
