//! Properties of all code that is generated, checked by an independent decoder.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpAccess, Register};
use insn::plan::{Dead, Displaced, Mechanism, Patch, Registers};
use insn::{Address, Isa};
use program::layout::{Layout, Sizing};
use program::stub::{Action, Environment, Routines, ShardBy, Stub, ThreadBy};
use proptest::prelude::*;

/// Far away, but for i386, where everything is near.
const SITE: u64 = 0x5555_0000_0000;
const SITE_32: u64 = 0x5655_0000;

fn site(isa: Isa) -> Address {
    Address(if isa == Isa::I386 { SITE_32 } else { SITE })
}

fn environments() -> impl Strategy<Value = Environment> {
    let shard_by = prop_oneof![Just(ShardBy::ThreadPointer), Just(ShardBy::Cpu), Just(ShardBy::Shared)];
    let thread_by = prop_oneof![Just(ThreadBy::ThreadPointer), Just(ThreadBy::Base)];
    let sizing = (1_u32..20_000, 0_u32..8, 0_u32..10, 0_u32..40, 0_u32..14);
    let isa = prop_oneof![Just(Isa::X86_64), Just(Isa::I386)];
    // In the lowest 2 GiB, where an instruction can name it, or anywhere.
    let state = prop_oneof![0x1_0000_u64..0x7000_0000, any::<u64>()];
    (isa, shard_by, thread_by, sizing, state, any::<bool>()).prop_map(
        |(isa, shard_by, thread_by, sizing, state, prefetchw)| {
            let (probes, shards, threads, rings, records) = sizing;
            let sizing =
                Sizing { probes, shards: 1 << shards, threads: 1 << threads, rings, records: 1 << records };
            let layout = Layout::new(sizing);
            Environment {
                isa,
                layout,
                state: isa.wrap(Address(state & !0xfff)),
                shard_by,
                thread_by,
                red_zone: if prefetchw { 128 } else { 16 },
                prefetchw,
            }
        },
    )
}

fn actions() -> impl Strategy<Value = Vec<(bool, u32)>> {
    prop::collection::vec((any::<bool>(), any::<u32>()), 0..5)
}

/// `push %rbp; mov %rsp, %rbp; xor %eax, %eax`, or the same of 32 bits.
fn patch(isa: Isa, dead: Dead) -> Patch {
    let frame: &[u8] = if isa == Isa::I386 { &[0x89, 0xe5] } else { &[0x48, 0x89, 0xe5] };
    let codes: [&[u8]; 3] = [&[0x55], frame, &[0x31, 0xc0]];
    let start = site(isa);
    let mut address = start;
    let displaced = codes
        .into_iter()
        .map(|bytes| {
            let insn = Displaced { address, bytes: bytes.to_vec(), dead, is_site: true };
            address += bytes.len() as u64;
            insn
        })
        .collect();
    Patch { start, mechanism: Mechanism::Jump, overwritten: vec![0; 5], displaced, island: None }
}

fn decode(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Instruction> {
    let bits = if isa == Isa::I386 { 32 } else { 64 };
    let mut decoder = Decoder::with_ip(bits, bytes, at.0, DecoderOptions::NONE);
    let mut code = Vec::new();
    while decoder.can_decode() {
        code.push(decoder.decode());
    }
    code
}

fn forbidden(insn: &Instruction) -> bool {
    let costly = [
        Mnemonic::Pushf,
        Mnemonic::Pushfd,
        Mnemonic::Pushfq,
        Mnemonic::Popf,
        Mnemonic::Popfd,
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
        let isa = environment.isa;
        let patch = patch(isa, dead);
        let probes = environment.layout.sizing.probes;
        let at_site = |_| -> Vec<Action> {
            let probe = |number: u32| number % probes;
            actions.iter().map(|&(event, n)| if event { Action::Event { probe: probe(n) } } else { Action::Count { probe: probe(n) } }).collect()
        };
        let at = isa.wrap(site(isa).offset(distance));
        let routines = Routines::assemble(&environment, isa.wrap(at + 0x100_0000));
        let stub = Stub::assemble(&environment, &routines, &patch, &at_site, at).unwrap();

        let near = site(isa) + 0x10_0000;
        let near_routines = Routines::assemble(&environment, near + 0x1000);
        let other = Stub::assemble(&environment, &near_routines, &patch, &at_site, near).unwrap();
        prop_assert_eq!(other.bytes.len(), stub.bytes.len(), "the length depends on the address");

        let code = decode(isa, at, code_of(&stub));
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
        check_word(&environment, &code, &stub)?;
        check_memory(&environment, &code, &stub)?;
        check_alone(&environment, &routines, dead, &starts, &stub)?;
    }

    #[test]
    fn routines_stay_inside_and_end(environment in environments()) {
        let at = Address(0x7000_0000);
        let routines = Routines::assemble(&environment, at);
        let code = decode(environment.isa, at, &routines.bytes);
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
        if environment.isa == Isa::X86_64 {
            let lone = &routines.bytes[routines.event_alone as usize..];
            let lone = decode(environment.isa, at + u64::from(routines.event_alone), lone);
            let straight = lone.iter().take_while(|insn| insn.mnemonic() != Mnemonic::Ret);
            prop_assert!(straight.clone().all(|insn| !insn.has_lock_prefix()));
            prop_assert!(straight.count() < 40);
        }
    }
}

/// The code of a stub that ends in a jump back. Behind it may be the counters' address.
fn code_of(stub: &Stub) -> &[u8] {
    let last = stub.exits.iter().map(|exit| exit.offset).max().unwrap();
    &stub.bytes[..last as usize + 5]
}

/// Whatever a stub reads of itself is a word behind its code: the counters' address, aligned.
fn check_word(environment: &Environment, code: &[Instruction], stub: &Stub) -> Result<(), TestCaseError> {
    let end = code_of(stub).len();
    let words: BTreeSet<u64> = code
        .iter()
        .filter(|insn| insn.is_ip_rel_memory_operand())
        .map(Instruction::ip_rel_memory_address)
        .collect();
    prop_assert_eq!(words.len(), usize::from(stub.bytes.len() > end));
    for word in words {
        let offset = usize::try_from(word - stub.at.0).unwrap();
        let counters = environment.state.0.wrapping_add(environment.layout.counters() as u64);
        prop_assert!(offset >= end && word.is_multiple_of(8));
        prop_assert_eq!(&stub.bytes[offset..offset + 8], &counters.to_le_bytes());
    }
    Ok(())
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
            prop_assert!(
                !writes || insn.has_lock_prefix() || matches!(used.base(), Register::RSP | Register::ESP),
                "{insn}"
            );
            if matches!(used.segment(), Register::FS | Register::GS) {
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

/// What records in a program of one thread calls the routine for it. What counts in one begins and ends where the other body does, changes its counters and no flag that
/// lives, and is straight but for a jump to its own end.
fn check_alone(
    environment: &Environment,
    routines: &Routines,
    dead: Dead,
    starts: &BTreeSet<u64>,
    stub: &Stub,
) -> Result<(), TestCaseError> {
    let layout = &environment.layout;
    let first = environment.state.0 + layout.counters() as u64;
    let counters = first..first + layout.shard_len() as u64;
    for (offset, bytes) in &stub.alone {
        if bytes.len() == 1 {
            continue; // instead of a lock prefix
        }
        if bytes[0] == 0xe8 {
            let call = &decode(environment.isa, stub.at + u64::from(*offset), bytes)[0];
            prop_assert_eq!(call.near_branch_target(), routines.at.0 + u64::from(routines.event_alone));
            continue;
        }
        let body = stub.at.0 + u64::from(*offset)..stub.at.0 + u64::from(*offset) + bytes.len() as u64;
        prop_assert!(starts.contains(&body.start) && starts.contains(&body.end));
        let mut info = iced_x86::InstructionInfoFactory::new();
        for insn in decode(environment.isa, Address(body.start), bytes) {
            prop_assert!(!forbidden(&insn), "{insn}");
            prop_assert!(!insn.has_lock_prefix() && (dead.flags || insn.rflags_modified() == 0), "{insn}");
            match insn.flow_control() {
                FlowControl::Next => {}
                FlowControl::UnconditionalBranch => {
                    prop_assert_eq!(insn.near_branch_target(), body.end);
                    break;
                }
                other => prop_assert!(false, "{other:?}: {insn}"),
            }
            for used in info.info(&insn).used_memory() {
                let is_counter = used.base() == Register::None && counters.contains(&used.displacement());
                prop_assert!(
                    is_counter || used.base() == Register::RSP || used.access() == OpAccess::NoMemAccess,
                    "{insn}"
                );
            }
        }
    }
    let code = stub.code(true);
    prop_assert_eq!(code.len(), stub.bytes.len());
    prop_assert!(
        decode(environment.isa, stub.at, &code[..code_of(stub).len()])
            .iter()
            .all(|insn| !insn.has_lock_prefix())
    );
    for (at, shared) in stub.shared_bodies() {
        let start = usize::try_from(at - stub.at).unwrap();
        prop_assert_eq!(&stub.bytes[start..start + shared.len()], shared);
    }
    Ok(())
}

/// What a careful hand writes to count in a thread's shard at a site: by what is dead there.
const BY_HAND: [(Dead, &[&str]); 3] = [
    (
        Dead { registers: Registers(1 << 11), flags: true },
        &["mov %fs:0, %r11", "imul $s, %r11d", "shr $n, %r11d", "imul $l, %r11d", "lock incq c(%r11)"],
    ),
    (
        Dead { registers: Registers(0), flags: true },
        &[
            "lea -128(%rsp), %rsp",
            "push %rcx",
            "mov %fs:0, %rcx",
            "imul $s, %ecx",
            "shr $n, %ecx",
            "imul $l, %ecx",
            "lock incq c(%rcx)",
            "pop %rcx",
            "lea 128(%rsp), %rsp",
        ],
    ),
    (
        Dead { registers: Registers(0), flags: false },
        &[
            "lea -128(%rsp), %rsp",
            "push %rax",
            "push %rcx",
            "lahf",
            "seto %al",
            "mov %fs:0, %rcx",
            "imul $s, %ecx",
            "shr $n, %ecx",
            "imul $l, %ecx",
            "lock incq c(%rcx)",
            "add $127, %al",
            "sahf",
            "pop %rcx",
            "pop %rax",
            "lea 128(%rsp), %rsp",
        ],
    ),
];

/// A count's stub is never more than two instructions longer than one written by hand. Where nobody else counts, a hand
/// writes one instruction, and saves the flags around it if they live.
#[test]
fn stubs_are_as_short_as_by_hand() {
    let layout = Layout::new(Sizing { probes: 100, shards: 16, threads: 16, rings: 0, records: 0 });
    let count = |_| vec![Action::Count { probe: 7 }];
    let instructions = |state: u64, shard_by: ShardBy, dead: Dead, alone: bool| {
        let environment = Environment {
            isa: Isa::X86_64,
            layout,
            state: Address(state),
            shard_by,
            thread_by: ThreadBy::ThreadPointer,
            red_zone: 128,
            prefetchw: false,
        };
        let routines = Routines::assemble(&environment, Address(SITE + 0x100_0000));
        let mut patch = patch(Isa::X86_64, dead);
        patch.displaced.truncate(1);
        let stub =
            Stub::assemble(&environment, &routines, &patch, &count, Address(SITE + 0x200_0000)).unwrap();
        assert!(!alone || !stub.alone.is_empty());
        // But for the displaced instruction and the jump back, and what a jump passes by.
        let code = decode(Isa::X86_64, stub.at, &stub.code(alone)[..code_of(&stub).len()]);
        code.iter().filter(|insn| insn.mnemonic() != Mnemonic::Int3).count() - 2
    };
    let low = |shard_by, dead, alone| instructions(0x4000_0000, shard_by, dead, alone);
    for (dead, by_hand) in BY_HAND {
        let shared = low(ShardBy::ThreadPointer, dead, false);
        assert!(shared <= by_hand.len() + 2, "{shared} instructions, {by_hand:?}");
        // Far away the counters' address is added to the shard's offset.
        let far = instructions(SITE, ShardBy::ThreadPointer, dead, false);
        assert!(far <= by_hand.len() + 2, "{far} instructions, {by_hand:?}");
        let (alone, one) = (low(ShardBy::ThreadPointer, dead, true), 1);
        let saving = if dead.flags { 0 } else { "lea push lahf seto add sahf pop lea".split(' ').count() };
        assert!(alone <= one + saving + 2, "{alone} instructions");
    }
    assert_eq!(low(ShardBy::Shared, BY_HAND[0].0, false), 1);
    assert_eq!(low(ShardBy::Shared, BY_HAND[1].0, false), 1);
}
