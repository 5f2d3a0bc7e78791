//! What is dead before an instruction, by looking a few instructions ahead on its straight run.

use iced_x86::{
    Code, CpuidFeature, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, RflagsBits,
};

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::{Dead, Registers};
use crate::x86::analyze::decode;

/// How many instructions are looked at. What is not overwritten by then counts as alive.
const LOOK_AHEAD: usize = 16;

/// The arithmetic flags.
const ARITHMETIC: u32 =
    RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF;

/// rsp, by its encoding number.
const STACK_POINTER: u32 = 1 << 4;

/// What one instruction reads and what it overwrites whatever the state is.
#[derive(Clone, Copy, Default)]
struct Effect {
    reads: u32,
    kills: u32,
    flags_read: u32,
    flags_killed: u32,
    /// A handler of its fault, or a core file, shows every register as it is before.
    may_fault: bool,
}

pub(crate) fn dead(isa: Isa, at: Address, bytes: &[u8], count: usize) -> Vec<Dead> {
    let mut factory = InstructionInfoFactory::new();
    let mut effects = Vec::with_capacity(LOOK_AHEAD);
    let mut offset = 0;
    while effects.len() < LOOK_AHEAD.max(count) {
        let Some(insn) = bytes.get(offset..).and_then(|rest| decode(isa, at + offset as u64, rest)) else {
            break;
        };
        // Whoever is reached by a branch, a call or the kernel may read anything.
        if insn.flow_control() != FlowControl::Next {
            break;
        }
        effects.push(effect(&mut factory, &insn));
        offset += insn.len();
    }
    let mut answers = backwards(&effects);
    answers.resize(count, Dead::default());
    answers
}

/// From the end, where all is alive, to the front.
fn backwards(effects: &[Effect]) -> Vec<Dead> {
    let (mut registers, mut flags) = (0, 0);
    let mut answers = vec![Dead::default(); effects.len()];
    for (answer, effect) in answers.iter_mut().zip(effects).rev() {
        registers = (registers | effect.kills) & !effect.reads & !STACK_POINTER;
        flags = (flags | effect.flags_killed) & !effect.flags_read;
        if effect.may_fault {
            (registers, flags) = (0, 0);
        }
        *answer = Dead { registers: Registers(registers), flags: flags == ARITHMETIC };
    }
    answers
}

fn effect(factory: &mut InstructionInfoFactory, insn: &Instruction) -> Effect {
    let mut effect = Effect { flags_read: insn.rflags_read() & ARITHMETIC, ..Effect::default() };
    if always_writes_flags(insn) {
        effect.flags_killed = insn.rflags_modified() & ARITHMETIC;
    }
    let info = factory.info(insn);
    effect.may_fault = may_fault(insn, info);
    for used in info.used_registers() {
        let register = used.register();
        if !register.is_gpr() {
            continue;
        }
        let bit = 1 << register.full_register().number();
        match used.access() {
            // Writing the lower half clears the upper one; 8 and 16 bits leave the rest as it is.
            OpAccess::Write if may_leave_target(insn) => effect.reads |= bit,
            OpAccess::Write if register.is_gpr64() || register.is_gpr32() => effect.kills |= bit,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess | OpAccess::None => {}
            _ => effect.reads |= bit,
        }
    }
    effect
}

/// Whether the instruction may fault, or do nothing at all, which is how some instructions begin on processors that do
/// not know them yet. A push or pop faults where the stack ends, and nobody goes on from there: most functions begin with
/// one, so that is not counted.
fn may_fault(insn: &Instruction, info: &InstructionInfo) -> bool {
    let names_memory = (0..insn.op_count()).any(|operand| insn.op_kind(operand) == OpKind::Memory);
    let touches_memory = if insn.is_stack_instruction() {
        names_memory
    } else {
        info.used_memory().iter().any(|used| used.access() != OpAccess::NoMemAccess)
    };
    // SIGFPE by an unmasked exception.
    let calculates = info.used_registers().iter().any(|used| {
        let register = used.register();
        register.is_vector_register() || register.is_st() || register.is_mm()
    });
    let loads_selector = info.used_registers().iter().any(|used| {
        used.register().is_segment_register() && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
    });
    touches_memory
        || calculates
        || loads_selector
        || insn.is_privileged()
        || matches!(insn.mnemonic(), Mnemonic::Div | Mnemonic::Idiv)
        || !is_everywhere(insn)
}

/// Whether every x86-64 processor carries it out by itself.
fn is_everywhere(insn: &Instruction) -> bool {
    match insn.mnemonic() {
        // Not in the first processors.
        Mnemonic::Lahf | Mnemonic::Sahf => false,
        // The kernel emulates these in its own way (User-Mode Instruction Prevention, arch/x86/kernel/umip.c).
        Mnemonic::Smsw | Mnemonic::Sldt | Mnemonic::Str => false,
        // The long nops are; the same opcodes' neighbours are reserved, and fault on some processors.
        Mnemonic::Nop if matches!(insn.code(), Code::Nop_rm16 | Code::Nop_rm32 | Code::Nop_rm64) => true,
        _ => insn.cpuid_features().iter().all(|feature| EVERYWHERE.contains(feature)),
    }
}

/// Features that every x86-64 processor has.
const EVERYWHERE: [CpuidFeature; 6] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
];

/// Whether a register that the instruction names as its target may be as before behind it. `rdssp` does nothing where there are
/// no shadow stacks (Intel SDM vol. 2); `bsf` and `bsr` leave it where the source is 0 (AMD64 vol. 3), and `tzcnt` and
/// `lzcnt` are these on older processors; `lar` and `lsl` where the selector is none.
fn may_leave_target(insn: &Instruction) -> bool {
    matches!(
        insn.mnemonic(),
        Mnemonic::Rdsspd
            | Mnemonic::Rdsspq
            | Mnemonic::Bsf
            | Mnemonic::Bsr
            | Mnemonic::Tzcnt
            | Mnemonic::Lzcnt
            | Mnemonic::Lar
            | Mnemonic::Lsl
    )
}

/// Whether the flags behind the instruction depend on its operands alone. Shifts by a count of 0 and repeated string
/// instructions with a count of 0 leave the flags as they are, so only these kill them.
fn always_writes_flags(insn: &Instruction) -> bool {
    match insn.mnemonic() {
        Mnemonic::Add
        | Mnemonic::Adc
        | Mnemonic::Sub
        | Mnemonic::Sbb
        | Mnemonic::Cmp
        | Mnemonic::Test
        | Mnemonic::And
        | Mnemonic::Or
        | Mnemonic::Xor
        | Mnemonic::Neg
        | Mnemonic::Inc
        | Mnemonic::Dec
        | Mnemonic::Xadd
        | Mnemonic::Cmpxchg
        | Mnemonic::Popcnt
        | Mnemonic::Ucomiss
        | Mnemonic::Ucomisd
        | Mnemonic::Comiss
        | Mnemonic::Comisd => true,
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar => {
            insn.op1_kind() == OpKind::Immediate8 && insn.immediate8() & 0x1f != 0
        }
        _ => false,
    }
}
