//! Stubs without a target description: GDB knows which registers each machine's `g` packet has then, and so which they are is
//! fixed by the machine; the machine is found by the program's ELF header.
//!
//! (qemu before 8.2 describes no alpha, mips, sh or sparc.)

use insn::isa::{Isa, Order};

use crate::description::{Description, Register};

/// The registers of a `g` packet in order: names and bits. Of each machine those of its `gdb/…-tdep.c`, as far as stubs send
/// them.
type Registers = [(&'static str, u32)];

/// Every machine whose packet is known.
static FIXED: &[(Isa, &Registers)] = &[
    (Isa::Alpha, ALPHA),
    (Isa::Sh, SH),
    (Isa::Mips, &of_bits(32, MIPS)),
    (Isa::MipsLe, &of_bits(32, MIPS)),
    (Isa::Mips64, &of_bits(64, MIPS)),
    (Isa::Mips64Le, &of_bits(64, MIPS)),
    (Isa::Sparc, SPARC),
    (Isa::Sparc64, SPARC64),
];

/// `alpha_register_name`, gdb/alpha-tdep.c; the one without a name is not used.
static ALPHA: &Registers = &of_bits(
    64,
    [
        "v0", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "s0", "s1", "s2", "s3", "s4", "s5", "fp", "a0",
        "a1", "a2", "a3", "a4", "a5", "t8", "t9", "t10", "t11", "ra", "t12", "at", "gp", "sp", "zero", "f0",
        "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15",
        "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29",
        "f30", "fpcr", "pc", "", "unique",
    ],
);

/// `sh_sh4_register_name`, gdb/sh-tdep.c: 59 in all. GDB calls those behind spc r0b0 to r7b0 and r0b1 to r7b1: a program's r0 to r7
/// are those of bank 0 (SH-4 manual 2.2.1, "Privileged mode and banks"). So they come twice, and are set by what comes last.
static SH: &Registers = &of_bits(
    32,
    [
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "pc", "pr", "gbr", "vbr", "mach", "macl", "sr", "fpul", "fpscr", "fr0", "fr1", "fr2", "fr3", "fr4",
        "fr5", "fr6", "fr7", "fr8", "fr9", "fr10", "fr11", "fr12", "fr13", "fr14", "fr15", "ssr", "spc",
        "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r0b1", "r1b1", "r2b1", "r3b1", "r4b1", "r5b1",
        "r6b1", "r7b1",
    ],
);

/// `mips_regnum`, gdb/mips-tdep.h, and what is behind it: all as wide as a general register.
const MIPS: [&str; 72] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", "r29", "r30",
    "r31", "status", "lo", "hi", "badvaddr", "cause", "pc", "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7",
    "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15", "f16", "f17", "f18", "f19", "f20", "f21", "f22",
    "f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31", "fcsr", "fir",
];
/// `SPARC_CORE_REGISTERS`, `SPARC32_FPU_REGISTERS` and `SPARC32_CP0_REGISTERS`, gdb/sparc-tdep.h.
static SPARC: &Registers = &of_bits(
    32,
    [
        "g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "o0", "o1", "o2", "o3", "o4", "o5", "sp", "o7", "l0",
        "l1", "l2", "l3", "l4", "l5", "l6", "l7", "i0", "i1", "i2", "i3", "i4", "i5", "fp", "i7", "f0", "f1",
        "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15", "f16",
        "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30",
        "f31", "y", "psr", "wim", "tbr", "pc", "npc", "fsr", "csr",
    ],
);

/// Of 64 bits, gdb/sparc64-tdep.h: the first 32 registers of floating point have half of them.
static SPARC64: &Registers = &{
    let mut registers = of_bits(
        64,
        [
            "g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "o0", "o1", "o2", "o3", "o4", "o5", "sp", "o7",
            "l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "i0", "i1", "i2", "i3", "i4", "i5", "fp", "i7",
            "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14",
            "f15", "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28",
            "f29", "f30", "f31", "f32", "f34", "f36", "f38", "f40", "f42", "f44", "f46", "f48", "f50", "f52",
            "f54", "f56", "f58", "f60", "f62", "pc", "npc", "state", "fsr", "fprs", "y",
        ],
    );
    let mut index = 32;
    while index < 64 {
        registers[index].1 = 32;
        index += 1;
    }
    registers
};

const fn of_bits<const COUNT: usize>(
    bits: u32,
    names: [&'static str; COUNT],
) -> [(&'static str, u32); COUNT] {
    let mut registers = [("", bits); COUNT];
    let mut index = 0;
    while index < COUNT {
        registers[index].0 = names[index];
        index += 1;
    }
    registers
}

/// What GDB assumes of a program of this ISA.
pub(crate) fn description(isa: Isa) -> Option<Description> {
    let (_, registers) = FIXED.iter().find(|(known, _)| *known == isa)?;
    let register = |(number, (name, bits)): (u32, &(&str, u32))| Register {
        name: (*name).to_owned(),
        number,
        bits: *bits,
        feature: String::new(),
    };
    let registers = (0..).zip(*registers).map(register).collect();
    Some(Description { registers, ..Description::default() })
}

/// Where the program's headers are in memory, by an auxiliary vector of words of either width and order; `None` where it makes
/// sense in none or in several.
pub(crate) fn program_headers(auxv: &[u8]) -> Option<u64> {
    const PROGRAM_HEADERS: u64 = 3; // AT_PHDR, linux/auxvec.h
    let found = [4, 8].into_iter().filter_map(|word| {
        let order = crate::description::order(auxv, word)?;
        let words: Vec<u64> = auxv.chunks_exact(word).map(|word| order.number(word)).collect();
        let entry = words.as_chunks::<2>().0.iter().find(|entry| entry[0] == PROGRAM_HEADERS)?;
        Some(entry[1])
    });
    let mut found: Vec<u64> = found.collect();
    found.pop().filter(|_| found.is_empty())
}

/// The ISA of a program with this ELF header.
pub(crate) fn isa(header: &[u8; 20]) -> Option<Isa> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let word = match rest[0] {
        1 => 4, // ELFCLASS32
        2 => 8,
        _ => return None,
    };
    let order = match rest[1] {
        1 => Order::Little, // ELFDATA2LSB
        2 => Order::Big,
        _ => return None,
    };
    let machine = u16::try_from(order.number(&header[18..])).ok()?;
    if magic == b"\x7fELF" { Isa::of_elf(machine, word, order) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::RegisterFile;

    #[test]
    fn the_programs_headers_are_found_in_words_of_either_kind() {
        let entries = [6, 4096, 3, 0x40_0040, 0, 0_u32];
        let wide: Vec<u8> = entries.iter().flat_map(|word| u64::from(*word).to_be_bytes()).collect();
        let narrow: Vec<u8> = entries.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(program_headers(&wide), Some(0x40_0040));
        assert_eq!(program_headers(&narrow), Some(0x40_0040));
        assert_eq!(program_headers(&wide[..16]), None);
        assert_eq!(program_headers(b""), None);
    }

    /// A layout has a place for each register of the set.
    #[test]
    fn every_register_of_the_set_is_in_the_packet() {
        for (isa, registers) in FIXED {
            for (name, _) in isa.abi().registers {
                assert!(registers.iter().any(|(known, _)| known == name), "{isa:?}: {name}");
            }
            let layout = description(*isa).unwrap().layout(*isa).unwrap();
            assert!(isa.abi().registers.iter().all(|(_, slot)| layout.has(*slot)), "{isa:?}");
        }
    }

    /// What comes twice in the packet is set twice.
    #[test]
    fn registers_of_sh_are_set_in_their_bank_too() {
        let layout = description(Isa::Sh).unwrap().layout(Isa::Sh).unwrap();
        let mut file = RegisterFile::parse(&vec![b'0'; 2 * 4 * SH.len()]).unwrap();
        let mut set = layout.prstatus(&file).unwrap();
        let abi = Isa::Sh.abi();
        abi.set(&mut set, abi.syscall.number, 0x1234);
        let changed = layout.update(&mut file, &set);
        let value = vec![0x34, 0x12, 0, 0];
        assert_eq!(changed, [(3, value.clone()), (46, value)]);
        assert_eq!(layout.prstatus(&file).unwrap(), set);
    }

    /// A register of floating point may be wider than what the packet has of it.
    #[test]
    fn a_packet_of_all_registers_ends_with_the_set() {
        for (isa, word) in [(Isa::Mips, 4), (Isa::Mips64Le, 8)] {
            let description = description(isa).unwrap();
            let len = description.registers.len() * word;
            let digits: String = (0..len).map(|index| format!("{:02x}", index % 251)).collect();
            let file = RegisterFile::parse(digits.as_bytes()).unwrap();
            let layout = description.layout(isa).unwrap();
            assert_eq!(layout.whole(&file).len(), len);
            assert_eq!(layout.assumed().whole(&file), &file.bytes()[..38 * word], "{isa:?}: up to the PC");
        }
    }

    #[test]
    fn a_header_names_its_isa() {
        let mut header = *b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x15";
        assert_eq!(isa(&header), Some(Isa::PowerPc64));
        header[5] = 1;
        assert_eq!(isa(&header), None);
        header[18..].copy_from_slice(&[0x15, 0]);
        assert_eq!(isa(&header), Some(Isa::PowerPc64Le));
        header[0] = 0;
        assert_eq!(isa(&header), None);
    }
}
