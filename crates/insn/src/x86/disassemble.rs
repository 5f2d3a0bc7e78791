//! Text of instructions, in AT&T syntax as `objdump` and `gdb` print it.

use iced_x86::{Formatter, GasFormatter, Instruction};

use crate::address::Address;
use crate::isa::Isa;
use crate::x86::analyze::decode;

fn formatter() -> GasFormatter {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_rip_relative_addresses(true);
    options.set_space_after_operand_separator(true);
    formatter
}

fn format(formatter: &mut GasFormatter, insn: &Instruction) -> String {
    let mut text = String::new();
    formatter.format(insn, &mut text);
    if insn.is_ip_rel_memory_operand() {
        text.push_str(&format!("  # {:#x}", insn.ip_rel_memory_address()));
    }
    text
}

/// One instruction.
pub(crate) fn text(insn: &Instruction) -> String {
    format(&mut formatter(), insn)
}

pub(crate) fn disassemble(isa: Isa, at: Address, bytes: &[u8]) -> Vec<(Address, Vec<u8>, String)> {
    let mut formatter = formatter();
    let mut lines = Vec::new();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let here = at + offset as u64;
        let (len, text) = match decode(isa, here, rest) {
            Some(insn) => (insn.len(), format(&mut formatter, &insn)),
            None => (1, format!(".byte {:#04x}", rest[0])),
        };
        lines.push((here, rest[..len].to_vec(), text));
        offset += len;
    }
    lines
}
