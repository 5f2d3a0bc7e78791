//! The child: it runs cases in its own address space and compares.
//!
//! # Safety
//!
//! Nothing is safe here: the child executes random instructions. What keeps it in hand is that it is a process of its
//! own, forked for this, with a copy of everything but the batch; that it may do harm to itself only, by ending early or
//! not at all, both of which the parent sees; and that wild addresses are improbable, since registers hold addresses of
//! the worlds, small numbers or 64 random bits. Between two cases it calls nothing of libc, for `fs`, by which libc finds
//! its thread, holds an address of the case's: system calls are made by hand, no memory is allocated and nothing panics.
//!
//! The statics below belong to the one thread of the child. The assembler routines keep the registers that the C calling
//! convention asks for; a run ends at `landing` or in the signal handler, both of which come back by the stack pointer that
//! `enter` has kept. The handler's frame is left behind on the signal stack, which holds nothing else.
#![allow(unsafe_code, reason = "executes generated code; see the module's Safety chapter")]

use std::arch::{asm, global_asm};
use std::cell::UnsafeCell;

use crate::compare::{Components, normalise, same, translate};
use crate::world::{Batch, Case, Difference, KEPT, PAGE, VECTOR, World};

/// What the assembler routines and the handler share with the rest.
#[repr(C, align(64))]
struct Shared<T>(UnsafeCell<T>);

// SAFETY: the child that uses them has one thread.
unsafe impl<T> Sync for Shared<T> {}

/// The state to begin with: general registers, flags, address of the vector state, which of its parts, program counter.
type Entry = [u64; 20];

/// XSAVE's area at the end of a run.
static AREA: Shared<[u8; VECTOR]> = Shared(UnsafeCell::new([0; VECTOR]));
/// General registers and flags at the end of a run.
static FINAL: Shared<[u64; 17]> = Shared(UnsafeCell::new([0; 17]));
/// The executor's stack pointer during a run, and 0 outside.
static STACK: Shared<u64> = Shared(UnsafeCell::new(0));
/// Where the run begins.
static START: Shared<u64> = Shared(UnsafeCell::new(0));
/// Which parts of the vector state there are.
static PARTS: Shared<u64> = Shared(UnsafeCell::new(0));
/// The signal that ended a run: number, code, address, program counter, trap, error.
static SIGNAL: Shared<[u64; 6]> = Shared(UnsafeCell::new([0; 6]));
/// MXCSR's default.
static MXCSR: u32 = 0x1f80;

global_asm!(
    "
    .text
    .irp name, enter, landing, leave, handler
    .globl differential_\\name
    .hidden differential_\\name
    .endr
    .balign 16
differential_enter:                 # rdi: Entry; returns 0 if the run fell through
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, {stack}(%rip)
    fninit                          # clears what XRSTOR may leave as it is (AMD64 vol. 5, XRSTOR: error pointers)
    mov 136(%rdi), %rsi
    mov 144(%rdi), %eax
    mov 148(%rdi), %edx
    mov %rax, {parts}(%rip)
    xrstor64 (%rsi)
    mov 152(%rdi), %rax
    mov %rax, {start}(%rip)
    pushq 128(%rdi)
    popfq
    mov 0(%rdi), %rax               # moves only, and aligned: the flags are the case's
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 32(%rdi), %rsp
    mov 40(%rdi), %rbp
    mov 48(%rdi), %rsi
    mov 64(%rdi), %r8
    mov 72(%rdi), %r9
    mov 80(%rdi), %r10
    mov 88(%rdi), %r11
    mov 96(%rdi), %r12
    mov 104(%rdi), %r13
    mov 112(%rdi), %r14
    mov 120(%rdi), %r15
    mov 56(%rdi), %rdi
    jmp *{start}(%rip)

    .balign 16
differential_landing:
    mov %rax, {final}+0(%rip)
    mov %rcx, {final}+8(%rip)
    mov %rdx, {final}+16(%rip)
    mov %rbx, {final}+24(%rip)
    mov %rsp, {final}+32(%rip)
    mov %rbp, {final}+40(%rip)
    mov %rsi, {final}+48(%rip)
    mov %rdi, {final}+56(%rip)
    mov %r8, {final}+64(%rip)
    mov %r9, {final}+72(%rip)
    mov %r10, {final}+80(%rip)
    mov %r11, {final}+88(%rip)
    mov %r12, {final}+96(%rip)
    mov %r13, {final}+104(%rip)
    mov %r14, {final}+112(%rip)
    mov %r15, {final}+120(%rip)
    mov {stack}(%rip), %rsp
    pushfq
    popq {final}+128(%rip)
    pushq $2                        # no alignment check, no direction, no trap
    popfq
    mov {parts}(%rip), %eax
    xor %edx, %edx
    xsave64 {area}(%rip)
    xor %eax, %eax
    jmp 1f

differential_leave:
    mov {stack}(%rip), %rsp
    mov $1, %eax
1:  movq $0, {stack}(%rip)
    fninit
    ldmxcsr {mxcsr}(%rip)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .balign 16
differential_handler:               # the kernel clears neither the alignment check nor the nested-task flag
    pushq $2
    popfq
    jmp {caught}
    ",
    stack = sym STACK,
    start = sym START,
    parts = sym PARTS,
    final = sym FINAL,
    area = sym AREA,
    mxcsr = sym MXCSR,
    caught = sym caught,
    options(att_syntax)
);

unsafe extern "C" {
    fn differential_enter(entry: *const Entry) -> u32;
    fn differential_landing();
    fn differential_leave() -> !;
    fn differential_handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void);
}

/// Where code that falls through has to go.
pub(crate) fn landing() -> u64 {
    (differential_landing as *const ()).expose_provenance() as u64
}

/// The handler of every signal that a run may end by.
pub(crate) fn handler() -> usize {
    (differential_handler as *const ()).expose_provenance()
}

/// Where the kernel's registers of a context are, by encoding numbers (`enum` of sys/ucontext.h).
const CONTEXT: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Keeps what the signal's frame says and ends the run.
unsafe extern "C" fn caught(
    number: libc::c_int,
    info: *const libc::siginfo_t,
    context: *const libc::ucontext_t,
) -> ! {
    // SAFETY: the statics are this thread's; the kernel's frame is complete and lies on the signal stack. See above.
    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "one argument holds for all of them")]
    unsafe {
        if *STACK.0.get() == 0 {
            exit(i32::from(number.to_le_bytes()[0]) + 64); // not within a run: a bug, or a wild write
        }
        let machine = &(*context).uc_mcontext;
        let register =
            |number: libc::c_int| machine.gregs[usize::try_from(number).unwrap_or(0)].cast_unsigned();
        let last = &mut *FINAL.0.get();
        for (value, number) in last.iter_mut().zip(CONTEXT) {
            *value = register(number);
        }
        last[16] = register(libc::REG_EFL);
        *SIGNAL.0.get() = [
            i64::from(number).cast_unsigned(),
            i64::from((*info).si_code).cast_unsigned(),
            (*info).si_addr().expose_provenance() as u64,
            register(libc::REG_RIP),
            register(libc::REG_TRAPNO),
            register(libc::REG_ERR),
        ];
        // The frame ends with XSAVE's area and a magic number (arch/x86/include/uapi/asm/sigcontext.h).
        let saved = machine.fpregs.cast::<u8>();
        let size = saved.add(480).cast::<u32>().read_unaligned() as usize;
        let area = &mut *AREA.0.get();
        let size = size.min(VECTOR);
        area[..size].copy_from_slice(std::slice::from_raw_parts(saved, size));
        differential_leave()
    }
}

/// What the processor and the kernel offer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Bits of XCR0 that are compared: x87, SSE, AVX, AVX-512.
    pub(crate) parts: u32,
    /// Where they are in XSAVE's area.
    pub(crate) components: Components,
    /// Where the last of them ends.
    pub(crate) len: usize,
    /// Whether user space reads and writes the bases of `fs` and `gs` itself.
    pub(crate) has_bases: bool,
}

impl Machine {
    /// `None` without XSAVE.
    pub(crate) fn new() -> Option<Self> {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const OSXSAVE: u32 = 1 << 27;
        if __cpuid(1).ecx & OSXSAVE == 0 {
            return None;
        }
        let (low, _high): (u32, u32);
        // SAFETY: reads XCR0 into two registers; the kernel has enabled the instruction.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack)) };
        let mut parts = low & 0b111;
        if low & 0b1110_0000 == 0b1110_0000 {
            parts |= 0b1110_0000;
        }
        let components = [2, 5, 6, 7].map(|bit| {
            if parts & (1 << bit) == 0 {
                return (bit, 0, 0);
            }
            let place = __cpuid_count(0xd, bit);
            (bit, place.ebx as usize, place.eax as usize)
        });
        // SAFETY: getauxval only reads what the kernel has put there.
        let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        let ends = components.iter().map(|(_, offset, len)| offset + len);
        let len = ends.fold(576, usize::max).min(VECTOR);
        Some(Self { parts, components, len, has_bases: hwcap2 & 2 != 0 }) // HWCAP2_FSGSBASE
    }
}

/// A system call made by hand.
///
/// # Safety
/// As the system call.
unsafe fn call(number: libc::c_long, one: u64, two: u64, three: u64) -> i64 {
    let result: i64;
    // SAFETY: the caller's; the kernel changes rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") one, in("rsi") two, in("rdx") three,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

fn exit(status: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { call(libc::SYS_exit_group, i64::from(status).cast_unsigned(), 0, 0) };
    std::process::abort()
}

/// Runs a batch for each byte that arrives on `questions`, and answers with one on `answers`; ends with the parent.
///
/// # Safety
/// `batch` is shared with a parent that does not touch it between a question and its answer; the child has mapped the
/// worlds, its handlers are installed, and it has no other thread.
pub(crate) unsafe fn serve(machine: Machine, batch: *mut Batch, questions: i32, answers: i32) -> ! {
    let mut byte = 0_u8;
    let byte = (&raw mut byte).expose_provenance() as u64;
    loop {
        // SAFETY: reads one byte into a variable of ours.
        let got = unsafe { call(libc::SYS_read, i64::from(questions).cast_unsigned(), byte, 1) };
        if got != 1 {
            exit(0);
        }
        // Code was written through another address: that asks for a serialising instruction (Intel SDM vol. 3, 9.1.3).
        let _ = std::arch::x86_64::__cpuid(0);
        // SAFETY: by the caller's promise the batch is ours now.
        let batch = unsafe { &mut *batch };
        // SAFETY: as above.
        unsafe { run_batch(machine, batch) };
        // SAFETY: writes one byte of ours.
        unsafe { call(libc::SYS_write, i64::from(answers).cast_unsigned(), byte, 1) };
    }
}

/// # Safety
/// As [`serve`].
unsafe fn run_batch(machine: Machine, batch: &mut Batch) {
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_SET_GS: u64 = 0x1001;
    let world = World(batch.world);
    let bases = [world.data() + 0x800, world.data() + 0x400];
    // SAFETY: from here on nothing of libc's is called.
    unsafe { call(libc::SYS_arch_prctl, ARCH_SET_FS, bases[0], 0) };
    // SAFETY: as above.
    unsafe { call(libc::SYS_arch_prctl, ARCH_SET_GS, bases[1], 0) };
    (batch.found, batch.unsteady) = (0, 0);
    for index in 0..batch.count {
        batch.progress = index;
        let case = batch.cases[index as usize];
        // SAFETY: by the caller's promise.
        let mut again = || unsafe { pair(machine, batch, world, bases, &case) };
        // What differs by chance (another processor, an interrupt) does not differ three times.
        let at_once = again();
        let same = at_once || again() || again();
        batch.unsteady += u32::from(same && !at_once);
        let [original, displaced] = &batch.runs;
        batch.outcomes[index as usize] = original.signal.to_le_bytes()[0];
        if !same {
            if (batch.found as usize) < KEPT {
                let kept = &mut batch.differences[batch.found as usize];
                *kept = Difference { index, original: *original, displaced: *displaced };
            }
            batch.found += 1;
        }
    }
}

/// Runs a case in place and displaced; whether the two agree.
///
/// # Safety
/// As [`serve`].
unsafe fn pair(machine: Machine, batch: &mut Batch, world: World, bases: [u64; 2], case: &Case) -> bool {
    let mut entry: Entry = [0; 20];
    entry[..16].copy_from_slice(&case.general);
    entry[16] = case.flags;
    let vector = &batch.vectors[case.vector as usize];
    entry[17] = (&raw const *vector).expose_provenance() as u64;
    entry[18] = u64::from(machine.parts);
    entry[19] = case.original;
    // SAFETY: by the caller's promise.
    unsafe { run(machine, batch, world, bases, case, &entry, 0) };
    for (register, value) in entry[..16].iter_mut().enumerate() {
        if case.dead & (1 << register) != 0 {
            *value = !value.rotate_left(11);
        }
    }
    entry[16] ^= case.dead_flags;
    entry[19] = case.copy;
    // SAFETY: as above.
    unsafe { run(machine, batch, world, bases, case, &entry, 1) };
    let [original, displaced] = &mut batch.runs;
    translate(case, world, original, displaced) && same(original, displaced)
}

/// # Safety
/// As [`serve`].
unsafe fn run(
    machine: Machine,
    batch: &mut Batch,
    world: World,
    bases: [u64; 2],
    case: &Case,
    entry: &Entry,
    which: usize,
) {
    batch.memory.copy_from_slice(&batch.memories[case.memory as usize]);
    // SAFETY: this is what the process is for; see above.
    let is_caught = unsafe { differential_enter(entry) } != 0;
    let snapshot = &mut batch.runs[which];
    // SAFETY: reads and writes registers; the values written are those from before the run.
    (snapshot.selectors, snapshot.bases) = unsafe { segments(machine, bases) };
    // SAFETY: the statics are this thread's, and no run is under way.
    let last = unsafe { &*FINAL.0.get() };
    snapshot.general.copy_from_slice(&last[..16]);
    snapshot.flags = last[16];
    let [signal, code, address, pc, trap, error] = if is_caught {
        // SAFETY: as above.
        unsafe { *SIGNAL.0.get() }
    } else {
        [0, 0, 0, world.landing(), 0, 0]
    };
    (snapshot.signal, snapshot.code, snapshot.address) = (signal, code.cast_signed(), address);
    (snapshot.pc, snapshot.trap, snapshot.error) = (pc, trap, error);
    // SAFETY: as above.
    let area = unsafe { &*AREA.0.get() };
    snapshot.vector[..machine.len].copy_from_slice(&area[..machine.len]);
    normalise(&mut snapshot.vector, &machine.components);
    snapshot.memory = batch.memory;
}

/// Reads what a run has made of the segment registers, and undoes it.
///
/// # Safety
/// Nothing of libc's may be called before `fs` is what libc has set.
unsafe fn segments(machine: Machine, bases: [u64; 2]) -> ([u16; 4], [u64; 2]) {
    let (ds, es, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reads four registers.
    unsafe {
        asm!("mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack));
    }
    let selectors = [ds, es, fs, gs];
    if selectors != [0; 4] {
        // SAFETY: 64-bit code does not use these selectors; the bases are set below, or by the next batch.
        unsafe {
            asm!("mov ds, {0:x}", "mov es, {0:x}", "mov fs, {0:x}", "mov gs, {0:x}", in(reg) 0_u32,
                options(nomem, nostack));
        }
    }
    if !machine.has_bases {
        return (selectors, [0; 2]);
    }
    let (fs, gs): (u64, u64);
    // SAFETY: the kernel has enabled these instructions.
    unsafe { asm!("rdfsbase {0}", "rdgsbase {1}", out(reg) fs, out(reg) gs, options(nomem, nostack)) };
    if [fs, gs] != bases || selectors != [0; 4] {
        // SAFETY: as above; the values are those from before the run.
        unsafe {
            asm!("wrfsbase {0}", "wrgsbase {1}", in(reg) bases[0], in(reg) bases[1], options(nomem, nostack));
        }
    }
    (selectors, [fs, gs])
}

const _: () = assert!(PAGE >= 2816, "the kernel's frame holds AVX-512");
