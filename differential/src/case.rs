//! Random cases: an instruction, its displaced form, and a state in which it has something to do.

use std::borrow::Cow;
use std::collections::HashMap;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use insn::code::Outline;
use insn::plan::{Mechanism, Reason};
use insn::relocate::{Moved, relocate};
use insn::set::Analysis;
use insn::{Address, Isa};

use crate::encode::{self, MAX_LEN};
use crate::random::Random;
use crate::world::{Batch, CASES, Case, MEMORIES, PAGE, Point, SLOT, VECTORS, World};

/// Instructions that are not run, and why; whether they are displaced is another question.
pub const LEFT_OUT: [(Mnemonic, &str); 19] = [
    (Mnemonic::Rdtsc, "reads the time"),
    (Mnemonic::Rdtscp, "reads the time"),
    (Mnemonic::Rdpru, "reads a counter"),
    (Mnemonic::Rdpmc, "reads a counter"),
    (Mnemonic::Rdpid, "reads the number of the processor it happens to run on"),
    (Mnemonic::Rdrand, "is random"),
    (Mnemonic::Rdseed, "is random"),
    (Mnemonic::Cpuid, "tells the processor it happens to run on, and costs much in a virtual machine"),
    (Mnemonic::Vmcall, "asks the hypervisor"),
    (Mnemonic::Vmmcall, "asks the hypervisor"),
    (Mnemonic::Vmgexit, "asks the hypervisor"),
    (Mnemonic::Vmfunc, "asks the hypervisor"),
    (Mnemonic::Monitorx, "arms a wait"),
    (Mnemonic::Mwaitx, "waits"),
    (Mnemonic::Umonitor, "arms a wait"),
    (Mnemonic::Umwait, "waits"),
    (Mnemonic::Tpause, "waits"),
    (Mnemonic::Wrpkru, "takes the executor's own memory away"),
    (
        Mnemonic::Lsl,
        "reads the number of the processor it happens to run on, by the kernel's segment for that",
    ),
];

/// What became of an attempt to make a case.
#[derive(Debug)]
pub enum Made {
    /// One to be run.
    Case(Code),
    /// The encoding does not decode.
    Undecodable,
    /// It is not run: see [`LEFT_OUT`].
    LeftOut,
    /// It is not displaced.
    Refused(Code, Cow<'static, str>),
}

/// The flags that a case may begin with.
const ARITHMETIC: u64 = 0x8d5;
const DIRECTION: u64 = 0x400;
const ALIGNMENT_CHECK: u64 = 0x4_0000;
const ALWAYS: u64 = 0x202;
/// getpid: the one system call that cases make.
const GETPID: u64 = 39;
/// The same by `int $0x80` (arch/x86/entry/syscalls/syscall_32.tbl).
const GETPID_32: u64 = 20;
/// Where a vector state lies in the initial data, for instructions that load one.
const IMAGE: usize = 0x400;
/// `jmp rel32`.
const JMP: u8 = 0xe9;
const BREAKPOINT: u8 = 0xcc;

/// Where the case with this number is in place and displaced.
struct Places {
    world: World,
    original: u64,
    copy: u64,
    /// What is in front of the instruction in its slot.
    lead: usize,
}

/// Makes the case number `index` of a batch, whose code is displaced to `distance` (0 to 2).
pub fn make(code: Code, index: usize, distance: usize, random: &mut Random, batch: &mut Batch) -> Made {
    let world = World(batch.world);
    let lead = 16 + usize::from(random.byte() & 7);
    let slot = (index * SLOT) as u64;
    let places = Places {
        world,
        original: world.originals() + slot + lead as u64,
        copy: world.copies()[distance] + slot,
        lead,
    };
    let (insn, first) = match displace(code, &places, random) {
        Ok(first) => first,
        Err(made) => return made,
    };
    let mut case = state(&insn, &places, random);
    if insn.code() == Code::Call_rm64 && reads_below_the_stack_pointer(&insn, &case, world) {
        return Made::LeftOut;
    }
    let mut run = Run::default();
    run.add(&mut case, first);
    if is_plain(&insn) && random.percent(STRAIGHT_RUNS) {
        go_on(&mut run, &mut case, &places, random);
    }
    place(&mut batch.originals[index], world, places.lead, places.original, &run.original);
    place(&mut batch.copies[index], world, 0, places.copy, &run.copy);
    case.copy_len = u32::try_from(run.copy.len()).unwrap_or(u32::MAX);
    if run.len > 1 {
        bury(&mut case, &batch.originals[index][lead..], run.original.len());
    }
    batch.cases[index] = case;
    Made::Case(insn.code())
}

/// An instruction for `places`, and its displaced form.
fn displace(
    code: Code,
    places: &Places,
    random: &mut Random,
) -> Result<(Instruction, (Vec<u8>, Moved)), Made> {
    let mut bytes = encode::encode(code, random);
    bytes.truncate(MAX_LEN);
    let len = aim(&mut bytes, places, random).ok_or(Made::Undecodable)?;
    bytes.truncate(len);
    let insn = decode(&bytes, places.original);
    if LEFT_OUT.iter().any(|(mnemonic, _)| *mnemonic == insn.mnemonic()) {
        return Err(Made::LeftOut);
    }
    match relocate(Isa::X86_64, Address(places.original), &bytes, Address(places.copy)) {
        Ok(moved) => Ok((insn, (bytes, moved))),
        Err(Reason::NotDisplaceable { why, .. }) => Err(Made::Refused(insn.code(), Cow::Owned(why))),
        Err(reason) => Err(Made::Refused(insn.code(), Cow::Owned(reason.to_string()))),
    }
}

/// Instructions in a row and their displaced forms.
#[derive(Default)]
struct Run {
    original: Vec<u8>,
    copy: Vec<u8>,
    len: usize,
}

impl Run {
    fn add(&mut self, case: &mut Case, (bytes, moved): (Vec<u8>, Moved)) {
        let begin = u32::try_from(self.copy.len()).unwrap_or(u32::MAX);
        let (held, free) = case.points.split_at_mut(case.points_len as usize);
        for (slot, point) in free.iter_mut().zip(&moved.points) {
            *slot =
                Point { offset: begin + point.offset, sp_shift: point.sp_shift, original: point.original.0 };
        }
        case.points_len = u32::try_from(held.len() + moved.points.len()).unwrap_or(u32::MAX);
        self.original.extend(bytes);
        self.copy.extend(moved.bytes);
        self.len += 1;
    }
}

/// So many of a hundred cases that may be are of several instructions.
const STRAIGHT_RUNS: u64 = 10;
/// Bytes of such a run, for which a slot has room.
const RUN: usize = 60;

/// Adds up to four instructions of the kind that compilers make: what is dead before them is to be seen.
fn go_on(run: &mut Run, case: &mut Case, places: &Places, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let code = random.choose(&COMMON);
        let behind = Places {
            original: places.original + run.original.len() as u64,
            copy: places.copy + run.copy.len() as u64,
            ..*places
        };
        let Ok((insn, next)) = displace(code, &behind, random) else { continue };
        if is_plain(&insn) && run.original.len() + insn.len() <= RUN {
            run.add(case, next);
        }
    }
}

/// Whether it goes on behind itself. What changes the stack pointer is left to single cases: where the stack ends,
/// registers that are dead before a push are seen in the fault (`insn/x86_64/liveness.rs` says so).
fn is_plain(insn: &Instruction) -> bool {
    let is_stack = insn.is_stack_instruction() || insn.op0_register().full_register() == Register::RSP;
    insn.flow_control() == FlowControl::Next && !is_stack
}

/// Notes what planning says of the run's first instruction: registers and flags that nobody reads again.
fn bury(case: &mut Case, slot: &[u8], len: usize) {
    let start = Address(case.original);
    let outline = Outline { functions: vec![start..start + len as u64], ..Outline::default() };
    let code = [insn::code::Code { start, bytes: &slot[..len] }];
    let analysis = Analysis::new(Isa::X86_64, &code, &outline, false, &mut |_| {});
    // Anywhere near will do: the stub is not placed.
    let free = [start.span(1 << 30)];
    let plan = analysis.plan(&[start], &HashMap::from([(start, Mechanism::Trap)]), &free);
    let first = plan.patches.first().and_then(|patch| patch.displaced.first());
    if let Some(displaced) = first.filter(|displaced| displaced.address == start) {
        case.dead = displaced.dead.registers.0;
        case.dead_flags = if displaced.dead.flags { ARITHMETIC } else { 0 };
    }
}

/// Codes that overwrite registers and flags, or read them.
const COMMON: [Code; 32] = [
    Code::Mov_r64_rm64,
    Code::Mov_r32_rm32,
    Code::Mov_rm64_r64,
    Code::Mov_r64_imm64,
    Code::Mov_rm32_imm32,
    Code::Mov_r8_imm8,
    Code::Lea_r64_m,
    Code::Lea_r32_m,
    Code::Movzx_r32_rm8,
    Code::Movsx_r64_rm16,
    Code::Xor_r32_rm32,
    Code::Sub_r64_rm64,
    Code::Add_rm32_r32,
    Code::Add_r64_rm64,
    Code::Adc_r64_rm64,
    Code::Sbb_rm32_r32,
    Code::Cmp_rm64_r64,
    Code::Test_rm32_r32,
    Code::And_rm32_imm32,
    Code::Or_r64_rm64,
    Code::Neg_rm64,
    Code::Inc_rm32,
    Code::Shl_rm64_imm8,
    Code::Sar_rm32_imm8,
    Code::Shr_rm32_CL,
    Code::Setb_rm8,
    Code::Cmove_r64_rm64,
    Code::Cmova_r32_rm32,
    Code::Imul_r64_rm64,
    Code::Xchg_rm64_r64,
    Code::Xadd_rm32_r32,
    Code::Popcnt_r64_rm64,
];

fn decode(bytes: &[u8], at: u64) -> Instruction {
    Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode()
}

/// Code in its slot: breakpoints around it, and behind it a jump to the way out.
fn place(slot: &mut [u8; SLOT], world: World, lead: usize, at: u64, code: &[u8]) {
    slot.fill(BREAKPOINT);
    let end = lead + code.len();
    slot[lead..end].copy_from_slice(code);
    slot[end] = JMP;
    let distance = world.landing().wrapping_sub(at + code.len() as u64 + 5);
    slot[end + 1..end + 5].copy_from_slice(&distance.to_le_bytes()[..4]);
}

/// Gives displacements and branches of an encoding something to lead to; its length, if it decodes.
fn aim(bytes: &mut [u8], places: &Places, random: &mut Random) -> Option<usize> {
    let mut decoder = Decoder::with_ip(64, bytes, places.original, DecoderOptions::NONE);
    let insn = decoder.decode();
    if insn.is_invalid() {
        return None;
    }
    let offsets = decoder.get_constant_offsets(&insn);
    let end = places.original + insn.len() as u64;
    let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
    if offsets.has_displacement() && random.percent(93) {
        let data = places.world.data() + random.below(PAGE as u64);
        let data = if random.percent(70) { data & !63 } else { data };
        let small = random.below(256).wrapping_sub(128);
        let value = match size {
            8 => data,
            4 if insn.is_ip_rel_memory_operand() => data.wrapping_sub(end),
            4 if insn.memory_base() == Register::None && insn.memory_index() == Register::None => data,
            _ if random.percent(60) => small & !15,
            _ => small,
        };
        bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    if matches!(insn.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64) {
        let (at, size) = (offsets.immediate_offset(), offsets.immediate_size());
        let before = places.original - 1 - random.below(places.lead as u64);
        let behind = end + 5 + random.below(24);
        let far = if size == 4 { places.world.targets() + random.below(PAGE as u64) } else { before };
        let to = random.choose(&[before, behind, end, far, far]);
        bytes[at..at + size].copy_from_slice(&to.wrapping_sub(end).to_le_bytes()[..size]);
    }
    let again = decode(bytes, places.original);
    (!again.is_invalid() && again.len() == insn.len()).then_some(insn.len())
}

/// An address or number that a register may hold.
fn value(world: World, random: &mut Random) -> u64 {
    let data = world.data();
    match random.below(100) {
        0..40 => data + (random.below(PAGE as u64) & !63),
        40..55 => data + random.below(PAGE as u64),
        55..70 => random.below(24),
        70..72 => random.below(24).wrapping_neg(),
        72..74 => random.choose(&[0x2b, 0x33, 0x23]), // Linux's selectors for user space
        74..80 => world.targets() + random.below(PAGE as u64),
        80..85 => world.stack() + random.below(PAGE as u64),
        85..88 => data + PAGE as u64 - random.below(16), // to the end of what is mapped
        88..90 => data - 0x800 + random.below(16),       // not mapped
        _ => random.word(),
    }
}

/// The initial memory's word at an offset: some lead to breakpoints, so that calls, jumps and returns have where to go.
fn word(offset: usize, world: World, random: &mut Random) -> Option<u64> {
    match offset & 0x18 {
        0x10 => Some(world.targets() + random.below(PAGE as u64)),
        _ if random.percent(30) => Some(value(world, random)),
        _ => None,
    }
}

fn state(insn: &Instruction, places: &Places, random: &mut Random) -> Case {
    let world = places.world;
    let mut general = [(); 16].map(|()| value(world, random));
    if random.percent(97) || insn.code() == Code::Call_rm64 {
        let at = 0x400 + random.below(0x800);
        // Of a call that faults twice, at its operand and at the stack, displaced the other fault comes first.
        let is_aligned = insn.code() == Code::Call_rm64 || random.percent(90);
        general[4] = world.stack() + if is_aligned { at & !7 } else { at };
    }
    if random.percent(40) {
        general[1] = random.below(24); // counts and shifts
    }
    if insn.is_string_instruction() && random.percent(85) {
        // Rightly aligned for either direction, and not to the end of the page.
        [general[6], general[7]] = [(); 2].map(|()| world.data() + 0x400 + (random.below(0x800) & !7));
        general[1] = random.below(64);
    }
    let number = |register: Register| register.is_gpr().then(|| register.full_register().number());
    if let Some(base) = number(insn.memory_base()).filter(|base| *base != 4 && random.percent(92)) {
        let place = 0x100 + (random.below(PAGE as u64 - 0x200) & !15);
        general[base] = world.data() + if random.percent(15) { IMAGE as u64 } else { place };
    }
    if let Some(index) = number(insn.memory_index()).filter(|_| random.percent(92)) {
        general[index] = random.below(32);
    }
    if let Some(register) = number(insn.op0_register()).filter(|_| is_indirect(insn) && random.percent(60)) {
        general[register] = world.targets() + random.below(PAGE as u64);
    }
    match insn.code() {
        Code::Syscall => general[0] = GETPID,
        Code::Int_imm8 => general[0] = GETPID_32,
        _ => {}
    }
    let mut flags = ALWAYS | random.word() & ARITHMETIC;
    if random.percent(12) {
        flags |= DIRECTION;
    }
    if random.percent(3) {
        flags |= ALIGNMENT_CHECK;
    }
    Case {
        general,
        flags,
        original: places.original,
        copy: places.copy,
        copy_len: 0,
        vector: low(random.below(VECTORS as u64)),
        memory: low(random.below(MEMORIES as u64)),
        dead: 0,
        dead_flags: 0,
        points_len: 0,
        points: [Point::default(); crate::world::POINTS],
    }
}

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn is_indirect(insn: &Instruction) -> bool {
    matches!(insn.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
}

/// A call whose operand is where its return address goes reads it before that; displaced, behind it. No compiler makes
/// one, and where the encoding shows it, it is refused.
fn reads_below_the_stack_pointer(insn: &Instruction, case: &Case, world: World) -> bool {
    let register = |register: Register, _, _| match register {
        Register::FS => Some(world.data() + 0x800),
        Register::GS => Some(world.data() + 0x400),
        _ if register.is_segment_register() => Some(0),
        _ if register.is_gpr64() => Some(case.general[register.number()]),
        _ if register.is_gpr32() => Some(case.general[register.number()] & u64::from(u32::MAX)),
        _ => None,
    };
    let address = insn.virtual_address(0, 0, register);
    address.is_some_and(|at| case.general[4].wrapping_sub(at).wrapping_add(7) < 23)
}

/// New initial memories and vector states for a batch, and the pages that do not change.
pub fn furnish(batch: &mut Batch, parts: u32, landing: u64, random: &mut Random) {
    let world = World(batch.world);
    for vector in &mut batch.vectors {
        vectors(vector, parts, world, random);
    }
    for (memory, vector) in batch.memories.iter_mut().zip(&batch.vectors) {
        random.fill(memory);
        for (index, bytes) in memory.chunks_mut(8).enumerate() {
            if let Some(word) = word(8 * index, world, random) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        if random.percent(50) {
            memory[IMAGE..IMAGE + 0x400].copy_from_slice(&vector[..0x400]);
        }
    }
    batch.targets.fill(BREAKPOINT);
    batch.targets[PAGE..PAGE + 6].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]); // jmp *0(%rip)
    batch.targets[PAGE + 6..PAGE + 14].copy_from_slice(&landing.to_le_bytes());
    batch.count = u32::try_from(CASES).unwrap_or(0);
}

/// A vector state in XSAVE's format (Intel SDM vol. 1, 13.4).
fn vectors(area: &mut [u8], parts: u32, world: World, random: &mut Random) {
    area.fill(0);
    random.fill(&mut area[32..416]);
    random.fill(&mut area[576..]);
    // Numbers of all kinds: small integers (indices of gathers), floats, what is special among them.
    for lane in area[32..].chunks_mut(4) {
        match random.below(10) {
            0..3 => lane.copy_from_slice(&low(random.below(64)).to_le_bytes()),
            3..5 => lane
                .copy_from_slice(&1.5_f32.to_bits().wrapping_add(low(random.below(1 << 24))).to_le_bytes()),
            5 => lane.copy_from_slice(
                &random.choose(&[0_u32, 0x7f80_0000, 0x7fc0_0000, 0x7fa0_0000, 1, u32::MAX]).to_le_bytes(),
            ),
            6 => lane.copy_from_slice(&world.data().to_le_bytes()[..4]),
            _ => {}
        }
    }
    let control: u16 = if random.percent(70) { 0x37f } else { 0x340 | u16::from(random.byte() & 0x3f) };
    area[..2].copy_from_slice(&control.to_le_bytes());
    area[2..4].copy_from_slice(&(u16::from(random.byte() & 7) << 11).to_le_bytes()); // the top of the stack
    area[4] = if random.percent(60) { 0xff } else { random.byte() };
    let mask = if random.percent(70) { 0x1f80 } else { u32::from(random.byte() & 0x3f) << 7 };
    let rounding = if random.percent(50) { low(random.below(4)) << 13 } else { 0 };
    area[24..28].copy_from_slice(&(mask | rounding).to_le_bytes());
    area[416..576].fill(0);
    let held = if random.percent(10) { random.word() & u64::from(parts) } else { u64::from(parts) };
    area[512..520].copy_from_slice(&held.to_le_bytes());
}
