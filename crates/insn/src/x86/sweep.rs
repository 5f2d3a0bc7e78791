//! The linear sweep: every instruction of a stretch of code, once, for what the program may reach.

use iced_x86::{Code, CodeSize, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::address::Address;
use crate::decode::Findings;
use crate::isa::Isa;
use crate::x86::mode::Mode;

pub(crate) fn sweep(isa: Isa, at: Address, bytes: &[u8], findings: &mut dyn Findings) -> Option<Address> {
    let mut decoder = Mode::of(isa).decoder(at, bytes);
    let mut insn = Instruction::default();
    let mut first_bad = None;
    while decoder.can_decode() {
        let start = decoder.position();
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            let bad = at + start as u64;
            first_bad.get_or_insert(bad);
            if decoder.set_position(start + 1).is_err() {
                break;
            }
            decoder.set_ip((bad + 1).0);
            continue;
        }
        note(&insn, findings);
    }
    first_bad
}

pub(crate) fn boundaries(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    from: Address,
    to: Address,
) -> Option<Vec<Address>> {
    let mut decoder = Mode::of(isa).decoder(at, bytes);
    let mut insn = Instruction::default();
    let wanted = usize::try_from(to.0.checked_sub(at.0)?).ok()?;
    let mut starts = Vec::new();
    while decoder.position() <= wanted {
        let start = at + decoder.position() as u64;
        if start >= from {
            starts.push(start);
        }
        if start == to {
            break;
        }
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            return None;
        }
    }
    Some(starts)
}

fn note(insn: &Instruction, findings: &mut dyn Findings) {
    data(insn, findings);
    match insn.flow_control() {
        FlowControl::Next => address_taken(insn, findings),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => branch(insn, findings),
        FlowControl::XbeginXabortXend => {
            branch(insn, findings);
            findings.transaction();
        }
        // `syscall` among them: a sleeping thread's PC is behind it.
        FlowControl::Call | FlowControl::IndirectCall => {
            branch(insn, findings);
            findings.returns(Address(insn.next_ip()));
        }
        FlowControl::Interrupt if insn.code() == Code::Int_imm8 => findings.returns(Address(insn.next_ip())),
        // A breakpoint is padding, and nobody sleeps behind it.
        FlowControl::Interrupt
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Exception => {}
    }
}

/// Constants and variables that lie in code. What a register holds too is not known.
fn data(insn: &Instruction, findings: &mut dyn Findings) {
    let at = match insn.memory_base() {
        Register::RIP => insn.ip_rel_memory_address(),
        // Of an instruction without an operand in memory the size is 0.
        Register::None if insn.memory_displ_size() >= 4 => insn.memory_displacement64(),
        _ => return,
    };
    let is_elsewhere = matches!(insn.memory_segment(), Register::FS | Register::GS);
    if !is_elsewhere && !has_only_address(insn.mnemonic()) {
        findings.data(Address(at), insn.memory_size().size().max(1) as u64);
    }
}

/// Whether an instruction neither reads nor writes its operand in memory.
fn has_only_address(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Lea
            | Mnemonic::Nop
            | Mnemonic::Reservednop
            | Mnemonic::Prefetch
            | Mnemonic::Prefetchw
            | Mnemonic::Prefetchwt1
            | Mnemonic::Prefetchnta
            | Mnemonic::Prefetcht0
            | Mnemonic::Prefetcht1
            | Mnemonic::Prefetcht2
            | Mnemonic::Prefetchit0
            | Mnemonic::Prefetchit1
    )
}

fn branch(insn: &Instruction, findings: &mut dyn Findings) {
    if matches!(insn.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32) {
        findings.target(Address(insn.near_branch_target()));
    }
}

/// Addresses that code computes: callbacks, computed `goto`s, and the tables of `switch`es.
fn address_taken(insn: &Instruction, findings: &mut dyn Findings) {
    match insn.code() {
        // Indirect branches may arrive there: that is what it is for.
        Code::Endbr64 | Code::Endbr32 => findings.target(Address(insn.ip())),
        Code::Lea_r64_m if insn.memory_base() == Register::RIP => {
            let to = Address(insn.ip_rel_memory_address());
            findings.target(to);
            findings.table(to);
        }
        Code::Lea_r32_m if insn.code_size() == CodeSize::Code32 && insn.memory_base() != Register::None => {
            findings.distance_from_got(i64::from(insn.memory_displacement32().cast_signed()));
        }
        Code::Mov_r32_imm32
        | Code::Mov_r64_imm64
        | Code::Mov_rm32_imm32
        | Code::Mov_rm64_imm32
        | Code::Pushd_imm32
        | Code::Pushq_imm32 => {
            let operand = insn.op_count() - 1;
            if let Ok(to) = insn.try_immediate(operand) {
                findings.target(Address(to));
            }
        }
        _ => {}
    }
}
