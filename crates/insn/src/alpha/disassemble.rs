//! Text of instructions, for people: Capstone has no Alpha. Nothing is decided by it.
//!
//! Mnemonics are those of the Alpha Architecture Handbook (appendix C), operands as GNU's assembler writes them, without its
//! aliases but for those of nothing to do. Without a name here are VAX floating point, square roots, moves between the
//! two sets of registers, multimedia, and what is no instruction: they are shown as numbers.

use crate::address::Address;
use crate::alpha::abi::NAMES;
use crate::alpha::analyze::{reference, word};
use crate::field::{field, signed};

/// The text of the instruction that `bytes` begin with; `None` where they are too few.
pub(crate) fn text(at: Address, bytes: &[u8]) -> Option<String> {
    let word = word(bytes)?;
    let opcode = word >> 26;
    let found = match opcode {
        _ if named(NOTHING, word).is_some() => named(NOTHING, word).map(str::to_owned),
        0x00 => Some(palcode(field(word, 0, 26))),
        0x08..=0x0f | 0x20..=0x2f => Some(memory(word)),
        0x10..=0x13 | 0x1c => integer(word),
        0x16 | 0x17 => floating(word),
        0x18 => miscellaneous(word),
        0x1a => Some(jump(word)),
        0x30..=0x3f => reference(at, bytes).map(|to| branch(word, to)),
        _ => None,
    };
    Some(found.unwrap_or_else(|| format!(".long {word:#010x}  # opcode {opcode:#04x}")))
}

fn named(table: &[(u32, &'static str)], key: u32) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == key).map(|(_, name)| *name)
}

/// The integer register of the five bits from `low` on.
fn integer_register(word: u32, low: u32) -> &'static str {
    NAMES.get(field(word, low, 5) as usize).copied().unwrap_or("zero")
}

fn floating_register(word: u32, low: u32) -> String {
    format!("$f{}", field(word, low, 5))
}

fn palcode(function: u32) -> String {
    match named(PALCODE, function) {
        Some(name) => format!("call_pal {name}"),
        None => format!("call_pal {function:#x}"),
    }
}

fn memory(word: u32) -> String {
    let opcode = word >> 26;
    let name = MEMORY[(if opcode < 0x10 { opcode - 0x08 } else { opcode - 0x18 }) as usize];
    let data = match opcode {
        0x20..=0x27 => floating_register(word, 21),
        _ => integer_register(word, 21).to_owned(),
    };
    format!("{name} {data},{}({})", signed(u64::from(word), 16), integer_register(word, 16))
}

fn integer(word: u32) -> Option<String> {
    let name = named(INTEGER, (word >> 26) << 8 | field(word, 5, 7))?;
    let second = match field(word, 12, 1) {
        0 => integer_register(word, 16).to_owned(),
        _ => format!("{:#x}", field(word, 13, 8)),
    };
    Some(format!("{name} {},{second},{}", integer_register(word, 21), integer_register(word, 0)))
}

/// In IEEE operations the function's upper bits are the trapping mode and the rounding mode (4.7.9).
fn floating(word: u32) -> Option<String> {
    let function = field(word, 5, 11);
    let name = match word >> 26 {
        0x17 => named(COPIES, function)?.to_owned(),
        _ => {
            let name = named(IEEE, function & 0x3f)?;
            let overflow = if name == "cvttq" { "v" } else { "u" };
            let trapping = match function >> 8 {
                0 => String::new(),
                1 => overflow.to_owned(),
                5 => format!("s{overflow}"),
                7 => format!("s{overflow}i"),
                _ => return None,
            };
            let rounding = ["c", "m", "", "d"][(function >> 6 & 3) as usize];
            let slash = if trapping.is_empty() && rounding.is_empty() { "" } else { "/" };
            format!("{name}{slash}{trapping}{rounding}")
        }
    };
    let [a, b, c] = [21, 16, 0].map(|low| floating_register(word, low));
    Some(format!("{name} {a},{b},{c}"))
}

fn miscellaneous(word: u32) -> Option<String> {
    let name = named(MISCELLANEOUS, field(word, 0, 16))?;
    Some(match name {
        "rpcc" => format!("{name} {},{}", integer_register(word, 21), integer_register(word, 16)),
        "rc" | "rs" => format!("{name} {}", integer_register(word, 21)),
        "fetch" | "fetch_m" | "ecb" | "wh64" | "wh64en" => format!("{name} ({})", integer_register(word, 16)),
        _ => name.to_owned(),
    })
}

fn jump(word: u32) -> String {
    let name = ["jmp", "jsr", "ret", "jsr_coroutine"][field(word, 14, 2) as usize];
    format!(
        "{name} {},({}),{:#x}",
        integer_register(word, 21),
        integer_register(word, 16),
        field(word, 0, 14)
    )
}

fn branch(word: u32, to: Address) -> String {
    let name = BRANCHES[(word >> 26 & 0xf) as usize];
    let tested = match name.starts_with('f') {
        true => floating_register(word, 21),
        false => integer_register(word, 21).to_owned(),
    };
    format!("{name} {tested},{to}")
}

/// Whole words (A.4.6).
const NOTHING: &[(u32, &str)] = &[(0x47ff_041f, "nop"), (0x5fff_041f, "fnop"), (0x2ffe_0000, "unop")];

/// arch/alpha/include/uapi/asm/pal.h, and the breakpoint's name in the handbook.
const PALCODE: &[(u32, &str)] = &[
    (0x00, "halt"),
    (0x80, "bpt"),
    (0x81, "bugchk"),
    (0x83, "callsys"),
    (0x86, "imb"),
    (0x92, "urti"),
    (0x9e, "rdunique"),
    (0x9f, "wrunique"),
    (0xaa, "gentrap"),
    (0xae, "clrfen"),
];

/// Opcodes 08 to 0F, then 20 to 2F.
const MEMORY: [&str; 24] = [
    "lda", "ldah", "ldbu", "ldq_u", "ldwu", "stw", "stb", "stq_u", "ldf", "ldg", "lds", "ldt", "stf", "stg",
    "sts", "stt", "ldl", "ldq", "ldl_l", "ldq_l", "stl", "stq", "stl_c", "stq_c",
];

/// Opcodes 30 to 3F.
const BRANCHES: [&str; 16] = [
    "br", "fbeq", "fblt", "fble", "bsr", "fbne", "fbge", "fbgt", "blbc", "beq", "blt", "ble", "blbs", "bne",
    "bge", "bgt",
];

/// Opcode and function.
const INTEGER: &[(u32, &str)] = &[
    (0x1000, "addl"),
    (0x1002, "s4addl"),
    (0x1009, "subl"),
    (0x100b, "s4subl"),
    (0x100f, "cmpbge"),
    (0x1012, "s8addl"),
    (0x101b, "s8subl"),
    (0x101d, "cmpult"),
    (0x1020, "addq"),
    (0x1022, "s4addq"),
    (0x1029, "subq"),
    (0x102b, "s4subq"),
    (0x102d, "cmpeq"),
    (0x1032, "s8addq"),
    (0x103b, "s8subq"),
    (0x103d, "cmpule"),
    (0x1040, "addl/v"),
    (0x1049, "subl/v"),
    (0x104d, "cmplt"),
    (0x1060, "addq/v"),
    (0x1069, "subq/v"),
    (0x106d, "cmple"),
    (0x1100, "and"),
    (0x1108, "bic"),
    (0x1114, "cmovlbs"),
    (0x1116, "cmovlbc"),
    (0x1120, "bis"),
    (0x1124, "cmoveq"),
    (0x1126, "cmovne"),
    (0x1128, "ornot"),
    (0x1140, "xor"),
    (0x1144, "cmovlt"),
    (0x1146, "cmovge"),
    (0x1148, "eqv"),
    (0x1161, "amask"),
    (0x1164, "cmovle"),
    (0x1166, "cmovgt"),
    (0x116c, "implver"),
    (0x1202, "mskbl"),
    (0x1206, "extbl"),
    (0x120b, "insbl"),
    (0x1212, "mskwl"),
    (0x1216, "extwl"),
    (0x121b, "inswl"),
    (0x1222, "mskll"),
    (0x1226, "extll"),
    (0x122b, "insll"),
    (0x1230, "zap"),
    (0x1231, "zapnot"),
    (0x1232, "mskql"),
    (0x1234, "srl"),
    (0x1236, "extql"),
    (0x1239, "sll"),
    (0x123b, "insql"),
    (0x123c, "sra"),
    (0x1252, "mskwh"),
    (0x1257, "inswh"),
    (0x125a, "extwh"),
    (0x1262, "msklh"),
    (0x1267, "inslh"),
    (0x126a, "extlh"),
    (0x1272, "mskqh"),
    (0x1277, "insqh"),
    (0x127a, "extqh"),
    (0x1300, "mull"),
    (0x1320, "mulq"),
    (0x1330, "umulh"),
    (0x1340, "mull/v"),
    (0x1360, "mulq/v"),
    (0x1c00, "sextb"),
    (0x1c01, "sextw"),
    (0x1c30, "ctpop"),
    (0x1c32, "ctlz"),
    (0x1c33, "cttz"),
];

/// By the function's low six bits.
const IEEE: &[(u32, &str)] = &[
    (0x00, "adds"),
    (0x01, "subs"),
    (0x02, "muls"),
    (0x03, "divs"),
    (0x20, "addt"),
    (0x21, "subt"),
    (0x22, "mult"),
    (0x23, "divt"),
    (0x24, "cmptun"),
    (0x25, "cmpteq"),
    (0x26, "cmptlt"),
    (0x27, "cmptle"),
    (0x2c, "cvtts"),
    (0x2f, "cvttq"),
    (0x3c, "cvtqs"),
    (0x3e, "cvtqt"),
];

const COPIES: &[(u32, &str)] = &[
    (0x010, "cvtlq"),
    (0x020, "cpys"),
    (0x021, "cpysn"),
    (0x022, "cpyse"),
    (0x024, "mt_fpcr"),
    (0x025, "mf_fpcr"),
    (0x02a, "fcmoveq"),
    (0x02b, "fcmovne"),
    (0x02c, "fcmovlt"),
    (0x02d, "fcmovge"),
    (0x02e, "fcmovle"),
    (0x02f, "fcmovgt"),
    (0x030, "cvtql"),
    (0x130, "cvtql/v"),
    (0x530, "cvtql/sv"),
];

const MISCELLANEOUS: &[(u32, &str)] = &[
    (0x0000, "trapb"),
    (0x0400, "excb"),
    (0x4000, "mb"),
    (0x4400, "wmb"),
    (0x8000, "fetch"),
    (0xa000, "fetch_m"),
    (0xc000, "rpcc"),
    (0xe000, "rc"),
    (0xe800, "ecb"),
    (0xf000, "rs"),
    (0xf800, "wh64"),
    (0xfc00, "wh64en"),
];
