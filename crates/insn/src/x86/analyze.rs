//! What an instruction is to a tracer: where control goes, and whether it may run elsewhere (`analyze_insn`).

use iced_x86::{Code, CodeSize, Decoder, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::address::Address;
use crate::code::Code as Stretch;
use crate::decode::{Flow, Insn};
use crate::isa::Isa;
use crate::plan::Reason;
use crate::x86::disassemble::text;
use crate::x86::mode::Mode;

/// Longest instruction (Intel SDM vol. 2, 2.3.11).
pub(crate) const MAX_LEN: usize = 15;

/// The instruction that begins at `at`; `bytes` may go on behind it.
pub(crate) fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Option<Instruction> {
    let bytes = bytes.get(..MAX_LEN).unwrap_or(bytes);
    let insn = Mode::of(isa).decoder(at, bytes).decode();
    (!insn.is_invalid()).then_some(insn)
}

/// What planning asks of one instruction.
pub(crate) fn inspect(isa: Isa, at: Address, bytes: &[u8]) -> Option<Insn> {
    decode(isa, at, bytes).map(|insn| summary(&insn, kind(&insn)))
}

/// Instructions of a stretch of code, anywhere in it. A decoder takes as long to make as an instruction to decode.
pub(crate) struct Reader<'a> {
    decoder: Decoder<'a>,
    insn: Instruction,
    code: Stretch<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(isa: Isa, code: Stretch<'a>) -> Self {
        let decoder = Mode::of(isa).decoder(code.start, code.bytes);
        Self { decoder, insn: Instruction::default(), code }
    }

    /// What planning asks of the instruction at `at`, and whether it may run elsewhere.
    pub(crate) fn look(&mut self, at: Address) -> Option<(Insn, bool)> {
        let bytes = self.code.from(at)?;
        self.decoder.set_position(self.code.bytes.len() - bytes.len()).ok()?;
        self.decoder.set_ip(at.0);
        self.decoder.decode_out(&mut self.insn);
        let bytes = bytes.get(..self.insn.len()).filter(|_| !self.insn.is_invalid())?;
        let kind = kind(&self.insn);
        Some((summary(&self.insn, kind), refusal(&self.insn, kind, bytes).is_none()))
    }
}

/// The same of one that is to be displaced.
pub(crate) fn inspect_displaceable(isa: Isa, at: Address, bytes: &[u8]) -> Result<Insn, Reason> {
    let insn = decode(isa, at, bytes).ok_or(Reason::Undecodable)?;
    let kind = displaceable(&insn, bytes.get(..insn.len()).ok_or(Reason::Undecodable)?)?;
    Ok(summary(&insn, kind))
}

fn summary(insn: &Instruction, kind: Kind) -> Insn {
    let flow = match kind {
        Kind::Plain => Flow::Next,
        Kind::Conditional(_) | Kind::Counted(_) => Flow::Conditional,
        Kind::Call(_) | Kind::IndirectCall => Flow::Call,
        Kind::Syscall => Flow::Syscall,
        Kind::Jump(_) | Kind::IndirectJump | Kind::Return | Kind::Faults => Flow::Leaves,
        // What comes behind a refused one does not matter: nothing that contains it is displaced.
        Kind::Refused(_) => Flow::Next,
    };
    Insn {
        len: insn.len(),
        flow,
        is_landing_pad: matches!(insn.code(), Code::Endbr64 | Code::Endbr32),
        is_return: kind == Kind::Return,
        is_padding: matches!(insn.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) || changes_nothing(insn),
    }
}

/// `lea 0(%reg), %reg`: what assemblers fill gaps with where the long nops need not be known (i386).
fn changes_nothing(insn: &Instruction) -> bool {
    let whole = if insn.code_size() == CodeSize::Code64 { Code::Lea_r64_m } else { Code::Lea_r32_m };
    insn.code() == whole
        && insn.memory_base() == insn.op0_register()
        && insn.memory_index() == Register::None
        && insn.memory_displacement64() == 0
}

/// How an instruction is displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes on behind itself.
    Plain,
    /// `jmp rel`.
    Jump(Address),
    /// `jcc rel`.
    Conditional(Address),
    /// `loop`, `loope`, `loopne`, `jrcxz`, `jecxz`: short only.
    Counted(Address),
    /// `call rel`.
    Call(Address),
    /// `call r/m`.
    IndirectCall,
    /// `jmp r/m`.
    IndirectJump,
    /// Near `ret`.
    Return,
    /// `syscall`, `int $0x80`.
    Syscall,
    /// `ud2` and its like: never goes on.
    Faults,
    /// Cannot run elsewhere.
    Refused(&'static str),
}

/// `xbegin`, `xend`, `xabort`: whoever displaced them would answer for what runs between them.
const TRANSACTION: &str = "it begins or ends a hardware transaction";

const BREAKPOINT: &str = "it is a breakpoint, which belongs to a debugger";

/// `int n`. Linux opens three gates to programs: the breakpoint's, the overflow's and that of 32-bit system calls, which
/// programs of 64 bits may use too. Any other raises a general protection fault where it stands (`def_idts` and
/// `ia32_idt`, arch/x86/kernel/idt.c; Intel SDM vol. 3, 6.12.1.2).
fn interrupt(vector: u8) -> Kind {
    match vector {
        0x80 => Kind::Syscall,
        3 => Kind::Refused(BREAKPOINT),
        4 => Kind::Refused("it raises a signal that is reported behind it"),
        _ => Kind::Faults,
    }
}

/// The kind by the decoded form alone; [`displaceable`] looks at the prefixes too.
pub(crate) fn kind(insn: &Instruction) -> Kind {
    let target = Address(insn.near_branch_target());
    match insn.code() {
        _ if is_cut(insn) => Kind::Refused("it cuts the program counter to 16 bits"),
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Jmp_rel8_32 | Code::Jmp_rel32_32 => Kind::Jump(target),
        Code::Call_rel32_64 | Code::Call_rel32_32 => Kind::Call(target),
        Code::Call_rm64 | Code::Call_rm32 => Kind::IndirectCall,
        Code::Jmp_rm64 | Code::Jmp_rm32 => Kind::IndirectJump,
        Code::Retnq | Code::Retnq_imm16 | Code::Retnd | Code::Retnd_imm16 => Kind::Return,
        Code::Syscall if insn.code_size() == CodeSize::Code64 => Kind::Syscall,
        Code::Int_imm8 => interrupt(insn.immediate8()),
        Code::Int3 | Code::Int1 => Kind::Refused(BREAKPOINT),
        Code::Sysenter | Code::Syscall => Kind::Refused("the kernel returns from it to a fixed address"),
        Code::Xend | Code::Xabort_imm8 => Kind::Refused(TRANSACTION),
        Code::Enclu => Kind::Refused("it stores its own address"),
        Code::Vmcall | Code::Vmmcall | Code::Vmgexit | Code::Vmgexit_F2 | Code::Tdcall | Code::Seamcall => {
            Kind::Refused("it calls the hypervisor")
        }
        _ if insn.is_jcc_short_or_near() => Kind::Conditional(target),
        _ if insn.is_loop() || insn.is_loopcc() || insn.is_jcx_short() => Kind::Counted(target),
        code => match code.flow_control() {
            FlowControl::Next => Kind::Plain,
            FlowControl::Exception => Kind::Faults,
            FlowControl::XbeginXabortXend => Kind::Refused(TRANSACTION),
            _ => Kind::Refused("it changes the code segment or the privilege level"),
        },
    }
}

/// A near branch of 32-bit mode with an operand-size prefix.
fn is_cut(insn: &Instruction) -> bool {
    insn.op0_kind() == OpKind::NearBranch16
        || matches!(insn.code(), Code::Call_rm16 | Code::Jmp_rm16 | Code::Retnw | Code::Retnw_imm16)
}

/// Whether it is a branch within the code segment.
fn is_near_branch(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Jump(_)
            | Kind::Conditional(_)
            | Kind::Counted(_)
            | Kind::Call(_)
            | Kind::IndirectCall
            | Kind::IndirectJump
            | Kind::Return
    )
}

/// The kind of an instruction that may be displaced; `bytes` are exactly its own.
pub(crate) fn displaceable(insn: &Instruction, bytes: &[u8]) -> Result<Kind, Reason> {
    let kind = kind(insn);
    match refusal(insn, kind, bytes) {
        Some(why) => Err(refused(insn, why)),
        None => Ok(kind),
    }
}

/// Why an instruction of this kind cannot be displaced.
fn refusal(insn: &Instruction, kind: Kind, bytes: &[u8]) -> Option<&'static str> {
    match kind {
        Kind::Refused(why) => Some(why),
        _ if is_near_branch(kind) && has_operand_size_prefix(bytes) => {
            Some("processors disagree on a near branch with an operand-size prefix")
        }
        Kind::IndirectCall => reads_what_it_pushes(insn),
        _ => None,
    }
}

/// The reason that `insn` cannot be displaced.
pub(crate) fn refused(insn: &Instruction, why: &str) -> Reason {
    Reason::NotDisplaceable { instruction: text(insn), why: why.to_owned() }
}

/// 0x66 without REX.W: 64-bit operand size on Intel, 16-bit on AMD (AMD64 vol. 3, "Near Branches in 64-Bit Mode").
/// With REX.W, as in the padded `__tls_get_addr` calls of the ELF TLS ABI, both agree. A REX that is not the last prefix is
/// ignored (Intel SDM vol. 2, 2.2.1).
fn has_operand_size_prefix(bytes: &[u8]) -> bool {
    let (mut is_there, mut rex_w) = (false, false);
    for byte in bytes {
        match byte {
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf0 => {
                is_there |= *byte == 0x66;
                rex_w = false;
            }
            0x40..=0x4f => rex_w = byte & 8 != 0,
            _ => break,
        }
    }
    is_there && !rex_w
}

/// A moved call pushes before it reads its operand, the original one reads first. The difference shows where the
/// operand lies in the word below the stack pointer, or is the stack pointer itself.
fn reads_what_it_pushes(insn: &Instruction) -> Option<&'static str> {
    let word = if insn.code_size() == CodeSize::Code64 { 8 } else { 4 };
    if matches!(insn.op0_register(), Register::RSP | Register::ESP) {
        return Some("it calls the address of its own stack");
    }
    match insn.memory_base() {
        Register::ESP if word == 8 => Some("its operand is relative to the lower half of the stack pointer"),
        Register::RSP | Register::ESP if insn.memory_index() == Register::None => {
            // Displacements of 32 bits are not sign-extended there.
            let offset = match word {
                8 => insn.memory_displacement64().cast_signed(),
                _ => i64::from(insn.memory_displacement32().cast_signed()),
            };
            (1 - 2 * word..0).contains(&offset).then_some("its operand lies where the return address goes")
        }
        _ => None,
    }
}

/// The address that the instruction refers to relative to its own: what a copy of it must be able to reach.
pub(crate) fn reference(isa: Isa, at: Address, bytes: &[u8]) -> Option<Address> {
    let insn = decode(isa, at, bytes)?;
    match kind(&insn) {
        Kind::Jump(to) | Kind::Conditional(to) | Kind::Counted(to) | Kind::Call(to) => Some(to),
        // Relative to the lower half of the program counter everything is within reach.
        _ if insn.memory_base() == Register::EIP => None,
        _ => insn.is_ip_rel_memory_operand().then(|| Address(insn.ip_rel_memory_address())),
    }
}
