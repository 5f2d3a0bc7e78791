//! Properties of all code that is generated, checked by an independent decoder.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpAccess, Register};
use insn::plan::{Dead, Displaced, Mechanism, Patch, Registers};
use insn::{Address, Isa};
use program::layout::{Layout, Sizing};
use program::stub::{Action, Environment, Routines, ShardBy, Stub, ThreadBy};
use proptest::prelude::*;

const SITE: u64 = 0x5555_0000_0000;

fn environments() -> impl Strategy<Value = Environment> {
    let shard_by = prop_oneof![Just(ShardBy::ThreadPointer), Just(ShardBy::Cpu), Just(ShardBy::Shared)];
    let thread_by = prop_oneof![Just(ThreadBy::ThreadPointer), Just(ThreadBy::Base)];
    let sizing = (1_u32..20_000, 0_u32..8, 0_u32..10, 0_u32..40, 0_u32..14);
    (shard_by, thread_by, sizing, any::<u64>()).prop_map(|(shard_by, thread_by, sizing, state)| {
        let (probes, shards, threads, rings, records) = sizing;
        let sizing =
            Sizing { probes, shards: 1 << shards, threads: 1 << threads, rings, records: 1 << records };
        let layout = Layout::new(sizing);
        Environment { isa: Isa::X86_64, layout, state: Address(state & !0xfff), shard_by, thread_by }
    })
}

fn actions() -> impl Strategy<Value = Vec<(bool, u32)>> {
    prop::collection::vec((any::<bool>(), any::<u32>()), 0..5)
}

/// `push %rbp; mov %rsp, %rbp; xor %eax, %eax`.
fn patch(dead: Dead) -> Patch {
    let codes: [&[u8]; 3] = [&[0x55], &[0x48, 0x89, 0xe5], &[0x31, 0xc0]];
    let mut address = Address(SITE);
    let displaced = codes
        .into_iter()
        .map(|bytes| {
            let insn = Displaced { address, bytes: bytes.to_vec(), dead, is_site: true };
            address += bytes.len() as u64;
            insn
        })
        .collect();
    Patch {
        start: Address(SITE),
        mechanism: Mechanism::Jump,
        overwritten: vec![0; 5],
        displaced,
        island: None,
    }
}

fn decode(at: Address, bytes: &[u8]) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE);
    let mut code = Vec::new();
    while decoder.can_decode() {
        code.push(decoder.decode());
    }
    code
}

fn forbidden(insn: &Instruction) -> bool {
    let costly = [
        Mnemonic::Pushf,
        Mnemonic::Pushfq,
        Mnemonic::Popf,
        Mnemonic::Popfq,
        Mnemonic::Rdtscp,
        Mnemonic::Syscall,
        Mnemonic::INVALID,
    ];
    let vector = (0..insn.op_count()).any(|n| insn.op_register(n).is_vector_register());
    costly.contains(&insn.mnemonic()) || vector
}

proptest! {
    #[test]
    fn stubs_keep_the_rules(
        environment in environments(), actions in actions(), registers: u16, flags: bool, distance in -0x7000_0000_i64..0x7000_0000,
    ) {
        let dead = Dead { registers: Registers(u32::from(registers)), flags };
        let patch = patch(dead);
        let probes = environment.layout.sizing.probes;
        let at_site = |_| -> Vec<Action> {
            let probe = |number: u32| number % probes;
            actions.iter().map(|&(event, n)| if event { Action::Event { probe: probe(n) } } else { Action::Count { probe: probe(n) } }).collect()
        };
        let at = Address(SITE).offset(distance);
        let routines = Routines::assemble(&environment, at + 0x100_0000);
        let stub = Stub::assemble(&environment, &routines, &patch, &at_site, at).unwrap();

        let near = Address(SITE + 0x10_0000);
        let near_routines = Routines::assemble(&environment, near + 0x1000);
        let other = Stub::assemble(&environment, &near_routines, &patch, &at_site, near).unwrap();
        prop_assert_eq!(other.bytes.len(), stub.bytes.len(), "the length depends on the address");

        let code = decode(at, &stub.bytes);
        let starts: BTreeSet<u64> = code.iter().map(Instruction::ip).collect();
        for insn in &code {
            prop_assert!(!forbidden(insn), "{insn}");
        }
        for exit in &stub.exits {
            let branch = code.iter().find(|insn| insn.ip() == at.0 + u64::from(exit.offset)).unwrap();
            prop_assert_eq!(branch.flow_control(), FlowControl::UnconditionalBranch);
            prop_assert!(stub.exit_at(Address(branch.ip())).is_some());
        }
        for insn in &patch.displaced {
            let entry = stub.entry_of(insn.address).unwrap();
            prop_assert!(starts.contains(&entry.0));
            prop_assert_eq!(stub.entry_at(entry), Some(insn.address));
        }
        let moved: Vec<Address> = stub.points.iter().map(|point| point.original).collect();
        prop_assert_eq!(moved, patch.displaced.iter().map(|insn| insn.address).collect::<Vec<_>>());
        for &(from, to) in &stub.recoveries {
            prop_assert!(starts.contains(&(at.0 + u64::from(from))) && starts.contains(&(at.0 + u64::from(to))));
            prop_assert_eq!(stub.recovery_at(at + u64::from(from)), Some(at + u64::from(to)));
        }
        check_memory(&environment, &code, &stub)?;
    }

    #[test]
    fn routines_stay_inside_and_end(environment in environments()) {
        let at = Address(0x7000_0000);
        let routines = Routines::assemble(&environment, at);
        let code = decode(at, &routines.bytes);
        let starts: BTreeSet<u64> = code.iter().map(Instruction::ip).collect();
        for insn in &code {
            prop_assert!(!forbidden(insn), "{insn}");
            prop_assert!(insn.stack_pointer_increment() == 0 || insn.mnemonic() == Mnemonic::Ret, "a leaf: {insn}");
            match insn.flow_control() {
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                    prop_assert!(starts.contains(&insn.near_branch_target()), "{insn}");
                }
                other => prop_assert!(matches!(other, FlowControl::Next | FlowControl::Return | FlowControl::Interrupt), "{insn}"),
            }
        }
        for ask in &routines.asks {
            prop_assert_eq!(routines.bytes[ask.offset as usize], 0xcc);
            for label in [ask.retry, ask.give_up] {
                prop_assert!(starts.contains(&(at.0 + u64::from(label))));
            }
            prop_assert!(routines.ask_at(at + u64::from(ask.offset)).is_some());
        }
        prop_assert_eq!(routines.asks.len(), 1);
    }
}

/// Each write of a body goes to the stack or is a locked increment; the stack is balanced.
fn check_memory(environment: &Environment, code: &[Instruction], stub: &Stub) -> Result<(), TestCaseError> {
    let own: BTreeSet<u32> = stub.points.iter().map(|point| point.offset).collect();
    let mut info = iced_x86::InstructionInfoFactory::new();
    let mut depth = 0_i64;
    for insn in code {
        let offset = u32::try_from(insn.ip() - stub.at.0).unwrap();
        if own.contains(&offset) {
            prop_assert_eq!(depth, 0, "the program's stack pointer at its own instruction");
            continue;
        }
        for used in info.info(insn).used_memory() {
            let writes = !matches!(used.access(), OpAccess::Read | OpAccess::NoMemAccess);
            prop_assert!(!writes || insn.has_lock_prefix() || used.base() == Register::RSP, "{insn}");
            if used.segment() == Register::FS {
                prop_assert!(stub.recoveries.iter().any(|recovery| recovery.0 == offset), "{insn}");
                prop_assert_eq!(environment.shard_by, ShardBy::ThreadPointer);
            }
        }
        if insn.mnemonic() == Mnemonic::Lea && insn.op0_register() == Register::RSP {
            depth += insn.memory_displacement64().cast_signed();
        } else if insn.mnemonic() != Mnemonic::Call {
            depth += i64::from(insn.stack_pointer_increment());
        }
        prop_assert!(depth <= 0);
    }
    prop_assert_eq!(depth, 0);
    Ok(())
}
