//! The few instructions of x86-64 and i386 that stubs and routines are made of, as bytes. Those of 32 bits on the first eight
//! registers are the same in both modes.
//!
//! Encodings: Intel SDM volume 2, chapters 2 (REX, ModRM, SIB) and 3-6. Operands are in Intel's order, destination
//! first; the goldens show the disassembly by an independent decoder. There is no `pushf`, `popf` or vector
//! instruction here, and there must never be one: see the crate's rules for what runs at a hit.

use insn::{Address, Isa};

/// A general register by its encoding number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg(pub(crate) u8);

pub(crate) const RAX: Reg = Reg(0);
pub(crate) const RCX: Reg = Reg(1);
pub(crate) const RDX: Reg = Reg(2);
pub(crate) const RSP: Reg = Reg(4);
pub(crate) const RSI: Reg = Reg(6);
pub(crate) const RDI: Reg = Reg(7);
pub(crate) const EBX: Reg = Reg(3);
pub(crate) const EBP: Reg = Reg(5);
/// The lower halves, and all there is of them on i386.
pub(crate) const EAX: Reg = RAX;
pub(crate) const ECX: Reg = RCX;
pub(crate) const EDX: Reg = RDX;
pub(crate) const ESP: Reg = RSP;
pub(crate) const ESI: Reg = RSI;
pub(crate) const EDI: Reg = RDI;
pub(crate) const R8: Reg = Reg(8);
pub(crate) const R9: Reg = Reg(9);
pub(crate) const R10: Reg = Reg(10);
pub(crate) const R11: Reg = Reg(11);

/// Integer arguments of the C calling convention (System V x86-64 ABI, 3.2.3), first to sixth.
pub(crate) const ARGUMENTS: [Reg; 6] = [RDI, RSI, RDX, RCX, R8, R9];

/// A memory operand: `disp(base, index, 1 << scale)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mem {
    base: Option<Reg>,
    index: Option<(Reg, u8)>,
    disp: i32,
}

/// `disp(base)`. Displacements are offsets of the layout, which is smaller than 1 GiB.
pub(crate) fn mem(base: Reg, disp: usize) -> Mem {
    Mem {
        base: Some(base),
        index: None,
        disp: i32::try_from(disp).expect("the layout is smaller than 1 GiB"),
    }
}

/// `address`; on i386 also what is added to a register.
pub(crate) fn absolute(address: u32) -> Mem {
    Mem { base: None, index: None, disp: address.cast_signed() }
}

impl Mem {
    /// Adds the register's value to an absolute address.
    pub(crate) fn with_base(self, base: Reg) -> Self {
        Self { base: Some(base), ..self }
    }

    /// The place so many bytes behind.
    pub(crate) fn behind(self, bytes: i32) -> Self {
        Self { disp: self.disp.wrapping_add(bytes), ..self }
    }

    /// Adds `index * (1 << scale)`.
    pub(crate) fn plus(self, index: Reg, scale: u8) -> Self {
        Self { index: Some((index, scale)), ..self }
    }
}

/// What a ModRM byte's `rm` refers to.
#[derive(Clone, Copy)]
enum Rm {
    Reg(Reg),
    Mem(Mem),
}

/// `%fs:0` without its prefix.
const ZERO: Mem = Mem { base: None, index: None, disp: 0 };

/// `nop`s by their length (Intel SDM vol. 2, NOP).
const SHORT_NOPS: [&[u8]; 9] = [
    &[],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0],
    &[0x0f, 0x1f, 0x44, 0, 0],
    &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
    &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
    &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];

/// With three prefixes; without the first of them 10 and 9 bytes.
const LONGEST_NOP: [u8; 11] = [0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];

/// Conditions of `jcc`, by their encoding.
#[derive(Clone, Copy)]
pub(crate) enum If {
    Below = 2,
    AboveOrEqual = 3,
    Equal = 4,
    NotEqual = 5,
}

/// A place in the code, known or yet to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label(usize);

/// Code in the making.
#[derive(Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
    labels: Vec<Option<usize>>,
    /// `(offset of a rel32 at the end of an instruction, its label)`.
    branches: Vec<(usize, Label)>,
    /// Offsets of lock prefixes.
    locks: Vec<u32>,
}

impl Assembler {
    /// The offset of the next instruction.
    pub(crate) fn here(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// Appends bytes made elsewhere.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A label to be bound later.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    /// A label that is here.
    pub(crate) fn mark(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// Whether anything refers to a label.
    pub(crate) fn is_wanted(&self, label: Label) -> bool {
        self.branches.iter().any(|(_, to)| to.0 == label.0)
    }

    /// The offset of a bound label.
    pub(crate) fn offset_of(&self, label: Label) -> u32 {
        let offset = self.labels[label.0].expect("every label is bound before it is asked for");
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    /// What to write over the lock prefixes from `start` on where nobody else is there: `(offset, bytes)`. A prefix for the
    /// segment that is meant anyway (DS; Intel SDM vol. 1, 3.4.2.1) means nothing.
    pub(crate) fn unlocked_since(&self, start: u32) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        const DS: u8 = 0x3e;
        self.locks.iter().filter(move |offset| **offset >= start).map(|offset| (*offset, vec![DS]))
    }

    /// The code, with all branches to labels filled in.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        for (at, label) in std::mem::take(&mut self.branches) {
            let distance = i64::from(self.offset_of(label)) - (at as i64 + 4);
            let rel32 = i32::try_from(distance).expect("code of a few hundred bytes");
            self.bytes[at..at + 4].copy_from_slice(&rel32.to_le_bytes());
        }
        self.bytes
    }

    // Branches.

    pub(crate) fn jcc(&mut self, condition: If, to: Label) {
        self.raw(&[0x0f, 0x80 | condition as u8]);
        self.rel32_to(to);
    }

    pub(crate) fn jmp(&mut self, to: Label) {
        self.raw(&[0xe9]);
        self.rel32_to(to);
    }

    /// `mov from(%rip), %dst` of 64-bit code.
    pub(crate) fn load_from(&mut self, dst: Reg, from: Label) {
        self.by_rip(0x8b, dst, from);
    }

    /// `add from(%rip), %dst` of 64-bit code.
    pub(crate) fn add_from(&mut self, dst: Reg, from: Label) {
        self.by_rip(0x03, dst, from);
    }

    fn by_rip(&mut self, opcode: u8, reg: Reg, from: Label) {
        self.raw(&[0x48 | (reg.0 >> 3) << 2, opcode, (reg.0 & 7) << 3 | 0b101]);
        self.rel32_to(from);
    }

    fn rel32_to(&mut self, label: Label) {
        self.branches.push((self.bytes.len(), label));
        self.raw(&[0; 4]);
    }

    /// `jmp rel32` to an address outside, for code that will be at `start`. `None` out of reach.
    pub(crate) fn jmp_out(&mut self, isa: Isa, start: Address, to: Address) -> Option<()> {
        self.raw(&[0xe9]);
        self.rel32_out(isa, start, to)
    }

    /// `call rel32` to an address outside, for code that will be at `start`. `None` out of reach.
    pub(crate) fn call_out(&mut self, isa: Isa, start: Address, to: Address) -> Option<()> {
        self.raw(&[0xe8]);
        self.rel32_out(isa, start, to)
    }

    /// The offset of what is appended next, and a `call rel32` of 64-bit code that may stand there.
    pub(crate) fn call_from_here(&self, start: Address, to: Address) -> Option<(u32, Vec<u8>)> {
        let displacement = Isa::X86_64.displacement(start + self.bytes.len() as u64 + 5, to)?;
        Some((self.here(), [&[0xe8][..], &displacement].concat()))
    }

    fn rel32_out(&mut self, isa: Isa, start: Address, to: Address) -> Option<()> {
        let next = start + self.bytes.len() as u64 + 4;
        self.raw(&isa.displacement(next, to)?);
        Some(())
    }

    pub(crate) fn ret(&mut self) {
        self.raw(&[0xc3]);
    }

    pub(crate) fn int3(&mut self) {
        self.raw(&[0xcc]);
    }

    // Length.

    /// Prefixes that make the next instruction up to `by` bytes longer and mean nothing: in 64-bit mode the segment CS is
    /// ignored (Intel SDM vol. 1, 3.4.2.1). As many as assemblers use to align branches. Gives how many.
    pub(crate) fn stretch(&mut self, by: usize) -> usize {
        const MOST: usize = 5;
        let count = by.min(MOST);
        self.raw(&[0x2e; MOST][..count]);
        count
    }

    /// `len` bytes that do nothing: one or two `nop`s, or a jump to the end of them.
    pub(crate) fn skip(&mut self, len: usize) {
        let rest = len.saturating_sub(2);
        match u8::try_from(rest) {
            Ok(rest) if len > 2 * LONGEST_NOP.len() => {
                self.raw(&[0xeb, rest]);
                self.raw(&vec![0xcc; usize::from(rest)]);
            }
            _ => self.nops(len),
        }
    }

    fn nops(&mut self, mut len: usize) {
        while len > 0 {
            let nop = match SHORT_NOPS.get(len) {
                Some(nop) => nop,
                None => &LONGEST_NOP[LONGEST_NOP.len().saturating_sub(len)..],
            };
            self.raw(nop);
            len -= nop.len();
        }
    }

    // Stack.

    pub(crate) fn push(&mut self, reg: Reg) {
        self.short(0x50, reg);
    }

    pub(crate) fn pop(&mut self, reg: Reg) {
        self.short(0x58, reg);
    }

    /// `pusha`: eax, ecx, edx, ebx, esp, ebp, esi, edi. i386 only.
    pub(crate) fn push_all(&mut self) {
        self.raw(&[0x60]);
    }

    /// `popa`.
    pub(crate) fn pop_all(&mut self) {
        self.raw(&[0x61]);
    }

    // Moves; none of them touches a flag.

    /// `mov %src, -8(%rsp)`: over what was last pushed and is popped.
    pub(crate) fn store_below_stack(&mut self, src: Reg) {
        self.store(Mem { base: Some(RSP), index: None, disp: -8 }, src);
    }

    /// The same of i386.
    pub(crate) fn store32_below_stack(&mut self, src: Reg) {
        self.store32(Mem { base: Some(ESP), index: None, disp: -4 }, src);
    }

    pub(crate) fn lea32(&mut self, dst: Reg, src: Mem) {
        self.op(&[], false, &[0x8d], dst.0, Rm::Mem(src));
    }

    pub(crate) fn lea(&mut self, dst: Reg, src: Mem) {
        self.op(&[], true, &[0x8d], dst.0, Rm::Mem(src));
    }

    /// `lea by(%rsp), %rsp`: moves the stack pointer and leaves the flags alone.
    pub(crate) fn move_stack(&mut self, by: i32) {
        self.op(&[], true, &[0x8d], RSP.0, Rm::Mem(Mem { base: Some(RSP), index: None, disp: by }));
    }

    pub(crate) fn mov(&mut self, dst: Reg, src: Reg) {
        self.op(&[], true, &[0x89], src.0, Rm::Reg(dst));
    }

    /// The upper half of `dst` becomes 0.
    pub(crate) fn mov32(&mut self, dst: Reg, src: Reg) {
        self.op(&[], false, &[0x89], src.0, Rm::Reg(dst));
    }

    pub(crate) fn load(&mut self, dst: Reg, src: Mem) {
        self.op(&[], true, &[0x8b], dst.0, Rm::Mem(src));
    }

    pub(crate) fn store(&mut self, dst: Mem, src: Reg) {
        self.op(&[], true, &[0x89], src.0, Rm::Mem(dst));
    }

    /// The upper half of `dst` becomes 0.
    pub(crate) fn load32(&mut self, dst: Reg, src: Mem) {
        self.op(&[], false, &[0x8b], dst.0, Rm::Mem(src));
    }

    pub(crate) fn store32(&mut self, dst: Mem, src: Reg) {
        self.op(&[], false, &[0x89], src.0, Rm::Mem(dst));
    }

    /// `mov $value, %dst`, 32 bits, zero-extended.
    pub(crate) fn set32(&mut self, dst: Reg, value: u32) {
        self.short(0xb8, dst);
        self.raw(&value.to_le_bytes());
    }

    /// `movabs $value, %dst`.
    pub(crate) fn set64(&mut self, dst: Reg, value: u64) {
        self.raw(&[0x48 | (dst.0 >> 3), 0xb8 | (dst.0 & 7)]);
        self.raw(&value.to_le_bytes());
    }

    /// `mov %fs:0, %dst`: the word at the thread pointer. Faults where the thread has none.
    pub(crate) fn load_thread_pointer(&mut self, dst: Reg) {
        self.op(&[0x64], true, &[0x8b], dst.0, Rm::Mem(ZERO));
    }

    /// `mov %gs:0, %dst`: the same on i386.
    pub(crate) fn load_thread_pointer_of_gs(&mut self, dst: Reg) {
        self.op(&[0x65], false, &[0x8b], dst.0, Rm::Mem(ZERO));
    }

    /// `rdfsbase %dst`.
    pub(crate) fn rdfsbase(&mut self, dst: Reg) {
        self.op(&[0xf3], true, &[0x0f, 0xae], 0, Rm::Reg(dst));
    }

    /// `rdpid %dst`: the CPU in bits 0-11, its node above (arch/x86/include/asm/segment.h, `VDSO_CPUNODE_BITS`).
    pub(crate) fn rdpid(&mut self, dst: Reg) {
        self.op(&[0xf3], false, &[0x0f, 0xc7], 7, Rm::Reg(dst));
    }

    /// `prefetchw place`: never faults.
    pub(crate) fn prefetchw(&mut self, place: Mem) {
        self.op(&[], false, &[0x0f, 0x0d], 1, Rm::Mem(place));
    }

    /// `rdtsc`: `edx:eax`.
    pub(crate) fn rdtsc(&mut self) {
        self.raw(&[0x0f, 0x31]);
    }

    // Flags to and from rax: SF ZF AF PF CF through ah, OF through al.

    /// `lahf; seto %al`.
    pub(crate) fn flags_to_rax(&mut self) {
        self.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
    }

    /// `add $127, %al; sahf`: the addition overflows exactly if al is 1; `sahf` leaves OF alone.
    pub(crate) fn flags_from_rax(&mut self) {
        self.raw(&[0x04, 0x7f, 0x9e]);
    }

    // Arithmetic; all of it changes flags. A `32` clears the upper half of its destination.

    pub(crate) fn imul32(&mut self, dst: Reg, src: Reg, by: u32) {
        self.op(&[], false, &[0x69], dst.0, Rm::Reg(src));
        self.raw(&by.to_le_bytes());
    }

    pub(crate) fn shl32(&mut self, reg: Reg, by: u8) {
        self.op(&[], false, &[0xc1], 4, Rm::Reg(reg));
        self.raw(&[by]);
    }

    pub(crate) fn shl64(&mut self, reg: Reg, by: u8) {
        self.op(&[], true, &[0xc1], 4, Rm::Reg(reg));
        self.raw(&[by]);
    }

    pub(crate) fn shr64(&mut self, reg: Reg, by: u8) {
        self.op(&[], true, &[0xc1], 5, Rm::Reg(reg));
        self.raw(&[by]);
    }

    pub(crate) fn shr32(&mut self, reg: Reg, by: u8) {
        self.op(&[], false, &[0xc1], 5, Rm::Reg(reg));
        self.raw(&[by]);
    }

    /// `shld $by, %from, %dst`: the upper half of a shift of both.
    pub(crate) fn shld32(&mut self, dst: Reg, from: Reg, by: u8) {
        self.op(&[], false, &[0x0f, 0xa4], from.0, Rm::Reg(dst));
        self.raw(&[by]);
    }

    pub(crate) fn and32(&mut self, reg: Reg, mask: u32) {
        self.op(&[], false, &[0x81], 4, Rm::Reg(reg));
        self.raw(&mask.to_le_bytes());
    }

    pub(crate) fn add32(&mut self, reg: Reg, by: u32) {
        self.op(&[], false, &[0x81], 0, Rm::Reg(reg));
        self.raw(&by.to_le_bytes());
    }

    pub(crate) fn sub32(&mut self, reg: Reg, by: u32) {
        self.op(&[], false, &[0x81], 5, Rm::Reg(reg));
        self.raw(&by.to_le_bytes());
    }

    /// `subl $by, place`.
    pub(crate) fn sub32_mem(&mut self, place: Mem, by: u32) {
        self.op(&[], false, &[0x81], 5, Rm::Mem(place));
        self.raw(&by.to_le_bytes());
    }

    /// `movl $value, place`.
    pub(crate) fn set32_mem(&mut self, place: Mem, value: u32) {
        self.op(&[], false, &[0xc7], 0, Rm::Mem(place));
        self.raw(&value.to_le_bytes());
    }

    /// `xor %reg, %reg`, 32 bits.
    pub(crate) fn zero(&mut self, reg: Reg) {
        self.op(&[], false, &[0x31], reg.0, Rm::Reg(reg));
    }

    pub(crate) fn inc32(&mut self, reg: Reg) {
        self.op(&[], false, &[0xff], 0, Rm::Reg(reg));
    }

    /// `incq place`.
    pub(crate) fn inc(&mut self, place: Mem) {
        self.op(&[], true, &[0xff], 0, Rm::Mem(place));
    }

    pub(crate) fn inc64(&mut self, reg: Reg) {
        self.op(&[], true, &[0xff], 0, Rm::Reg(reg));
    }

    /// `adc $0, %reg`.
    pub(crate) fn add_carry32(&mut self, reg: Reg) {
        self.op(&[], false, &[0x83], 2, Rm::Reg(reg));
        self.raw(&[0]);
    }

    /// `sub place, %dst`, 32 bits.
    pub(crate) fn sub_from_mem32(&mut self, dst: Reg, place: Mem) {
        self.op(&[], false, &[0x2b], dst.0, Rm::Mem(place));
    }

    /// `sub place, %dst`.
    pub(crate) fn sub_mem(&mut self, dst: Reg, place: Mem) {
        self.op(&[], true, &[0x2b], dst.0, Rm::Mem(place));
    }

    // Comparisons.

    /// Compares the word in memory with a register.
    pub(crate) fn cmp_mem(&mut self, place: Mem, with: Reg) {
        self.op(&[], true, &[0x39], with.0, Rm::Mem(place));
    }

    /// Compares the word in memory with 0.
    pub(crate) fn cmp_mem_zero(&mut self, place: Mem) {
        self.op(&[], true, &[0x83], 7, Rm::Mem(place));
        self.raw(&[0]);
    }

    /// Compares 32 bits in memory with a register.
    pub(crate) fn cmp32_mem(&mut self, place: Mem, with: Reg) {
        self.op(&[], false, &[0x39], with.0, Rm::Mem(place));
    }

    /// Compares 32 bits in memory with 0.
    pub(crate) fn cmp32_mem_zero(&mut self, place: Mem) {
        self.op(&[], false, &[0x83], 7, Rm::Mem(place));
        self.raw(&[0]);
    }

    pub(crate) fn test32(&mut self, reg: Reg) {
        self.op(&[], false, &[0x85], reg.0, Rm::Reg(reg));
    }

    /// Compares 64 bits with a number below 2^31.
    pub(crate) fn cmp64(&mut self, reg: Reg, with: u32) {
        self.op(&[], true, &[0x81], 7, Rm::Reg(reg));
        self.raw(&with.to_le_bytes());
    }

    pub(crate) fn cmp32(&mut self, reg: Reg, with: u32) {
        self.op(&[], false, &[0x81], 7, Rm::Reg(reg));
        self.raw(&with.to_le_bytes());
    }

    /// Compares the lower halves of two registers.
    pub(crate) fn cmp32_with(&mut self, reg: Reg, with: Reg) {
        self.op(&[], false, &[0x39], with.0, Rm::Reg(reg));
    }

    pub(crate) fn test64(&mut self, reg: Reg) {
        self.op(&[], true, &[0x85], reg.0, Rm::Reg(reg));
    }

    // Locked.

    /// `lock incq place`.
    pub(crate) fn lock_inc(&mut self, place: Mem) {
        self.locked(true, &[0xff], 0, Rm::Mem(place));
    }

    /// `lock cmpxchgq %new, place`: compares with rax.
    pub(crate) fn lock_cmpxchg(&mut self, place: Mem, new: Reg) {
        self.locked(true, &[0x0f, 0xb1], new.0, Rm::Mem(place));
    }

    /// `lock incl place`.
    pub(crate) fn lock_inc32(&mut self, place: Mem) {
        self.locked(false, &[0xff], 0, Rm::Mem(place));
    }

    /// `lock cmpxchg8b place`: compares with edx:eax, stores ecx:ebx.
    pub(crate) fn lock_cmpxchg8b(&mut self, place: Mem) {
        self.locked(false, &[0x0f, 0xc7], 1, Rm::Mem(place));
    }

    fn locked(&mut self, wide: bool, opcode: &[u8], reg: u8, rm: Rm) {
        self.locks.push(self.here());
        self.op(&[0xf0], wide, opcode, reg, rm);
    }

    // Encoding.

    /// An opcode with the register in its low three bits.
    fn short(&mut self, opcode: u8, reg: Reg) {
        if reg.0 >= 8 {
            self.raw(&[0x41]);
        }
        self.raw(&[opcode | (reg.0 & 7)]);
    }

    /// Prefixes, REX, opcode, ModRM and what follows it. `reg` is a register or an opcode extension.
    fn op(&mut self, prefixes: &[u8], wide: bool, opcode: &[u8], reg: u8, rm: Rm) {
        let (index, base) = match rm {
            Rm::Reg(reg) => (0, reg.0),
            Rm::Mem(mem) => (mem.index.map_or(0, |(index, _)| index.0), mem.base.map_or(0, |base| base.0)),
        };
        let rex = (u8::from(wide) << 3) | (reg >> 3 << 2) | (index >> 3 << 1) | (base >> 3);
        self.raw(prefixes);
        if rex != 0 {
            self.raw(&[0x40 | rex]);
        }
        self.raw(opcode);
        let field = (reg & 7) << 3;
        match rm {
            Rm::Reg(reg) => self.raw(&[0xc0 | field | (reg.0 & 7)]),
            Rm::Mem(mem) => self.memory(field, mem),
        }
    }

    fn memory(&mut self, field: u8, mem: Mem) {
        let Some(base) = mem.base else {
            debug_assert!(mem.index.is_none(), "an index wants a base");
            // SIB without base and index: an absolute disp32 (SDM 2.2.1.6).
            self.raw(&[field | 4, 0x25]);
            return self.raw(&mem.disp.to_le_bytes());
        };
        let short = i8::try_from(mem.disp).ok();
        let mode = if short.is_some() { 0x40 } else { 0x80 };
        let base = base.0 & 7;
        match mem.index {
            Some((index, scale)) => {
                debug_assert!(index != RSP, "rsp cannot be an index");
                self.raw(&[mode | field | 4, scale << 6 | (index.0 & 7) << 3 | base]);
            }
            // rsp and r12 as a base need a SIB byte.
            None if base == 4 => self.raw(&[mode | field | 4, 0x24]),
            None => self.raw(&[mode | field | base]),
        }
        match short {
            Some(disp) => self.raw(&disp.to_le_bytes()),
            None => self.raw(&mem.disp.to_le_bytes()),
        }
    }
}
