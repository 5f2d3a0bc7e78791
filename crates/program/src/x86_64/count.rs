//! The body that counts: one locked increment in the thread's shard.
//!
//! ```text
//!     lea    -128(%rsp), %rsp          past the red zone            only if a register must be saved
//!     push   %rax                      for the flags                not if dead
//!     push   %rcx                      offset of the shard          not if dead; a dead register is taken instead
//!     lahf; seto %al                                                not if the flags are dead
//!     mov    %fs:0, %rcx               may fault: goes on at the next instruction, with any shard
//!     imul   $SPREAD, %ecx, %ecx
//!     shr    $32 - log2(shards), %rcx
//!     imul   $shard_len, %ecx, %ecx
//!     lock incq state + counters + 8 * probe(%rcx)  once per probe
//!     add    $127, %al; sahf
//!     pop    %rcx; pop %rax
//!     lea    128(%rsp), %rsp
//! ```
//!
//! Where the state does not lie in the lowest 2 GiB, its address is a word behind the stub's code, which one instruction more
//! adds to the offset of the shard.
//!
//! While a program has one thread its counters are nobody else's: neither lock nor shard is wanted. Where the flags are dead
//! it is one `incq`, else an addition by `lea`, which leaves them alone. Signals wait until the stub is left, so no handler
//! comes in between.
//!
//! ```text
//!     lea    -128(%rsp), %rsp; push %rcx                           not if a register is dead
//!     mov    state + counters + 8 * probe, %rcx    }
//!     lea    1(%rcx), %rcx                         } once per probe
//!     mov    %rcx, state + counters + 8 * probe    }
//!     pop    %rcx; lea 128(%rsp), %rsp
//! ```
//!
//! Before a second thread runs its first instruction the holder writes the other body in its place, so both have one
//! length.
//!
//! State equation: between the first and the last `lea` the original stack pointer is `sp + 128 + 8 * saved` (128: what
//! [`Environment::red_zone`] says); the
//! saved registers lie at `sp` in reverse order of the pushes. The hit is counted once the `lock inc` has run.

use insn::Address;
use insn::plan::Dead;
use insn::relocate::aligned_word;

use crate::layout::SPREAD;
use crate::stub::{Environment, ShardBy};
use crate::x86::asm::{ARGUMENTS, Assembler, Label, Mem, RAX, RCX, RSP, Reg, absolute, mem};
use crate::x86::stub::Place;

/// Appends the body that counts one hit of each of `probes`. Loads that may fault go to `recoveries`.
pub(crate) fn count(
    asm: &mut Assembler,
    environment: &Environment,
    place: &Place<'_>,
    dead: Dead,
    probes: &[u32],
    recoveries: &mut Vec<(u32, u32)>,
) {
    let layout = &environment.layout;
    let sharded = layout.sizing.shards > 1 && environment.shard_by != ShardBy::Shared;
    let reg = scratch(dead);
    let near = near_counters(environment);
    let used = [(RAX, !dead.flags), (reg, sharded || near.is_none())];
    let saved: Vec<Reg> =
        used.into_iter().filter(|&(reg, used)| used && !is_dead(dead, reg)).map(|(reg, _)| reg).collect();

    save(asm, environment, &saved);
    if !dead.flags {
        asm.flags_to_rax();
    }
    if sharded {
        find_shard(asm, environment, reg, recoveries);
    }
    match near {
        Some(_) => {}
        None if sharded => asm.add_from(reg, place.counters),
        None => asm.load_from(reg, place.counters),
    }
    for &probe in probes {
        let offset = probe as usize * 8;
        asm.lock_inc(match near {
            Some(near) if sharded => near.behind(offset_of(offset)).with_base(reg),
            Some(near) => near.behind(offset_of(offset)),
            None => mem(reg, offset),
        });
    }
    if !dead.flags {
        asm.flags_from_rax();
    }
    restore(asm, environment, &saved);
}

/// The counters' address as a word behind the code of a stub that begins at `start`.
pub(crate) fn name_counters(asm: &mut Assembler, environment: &Environment, start: Address, word: Label) {
    let counters = environment.state.0.wrapping_add(environment.layout.counters() as u64);
    let (gap, bytes) = aligned_word(start + u64::from(asm.here()), counters);
    asm.raw(&bytes[..gap]);
    asm.bind(word);
    asm.raw(&bytes[gap..]);
}

/// What [`count`] makes, for a program in which only one thread runs, `len` bytes long. `None` where there is no such body: it would be
/// longer, or needs the address in a register.
pub(crate) fn alone(environment: &Environment, dead: Dead, probes: &[u32], len: usize) -> Option<Vec<u8>> {
    let near = near_counters(environment)?;
    let counters: Vec<Mem> = probes.iter().map(|&probe| near.behind(offset_of(probe as usize * 8))).collect();
    let shortest =
        if dead.flags { increments(&counters) } else { additions(environment, &counters, dead, 0) };
    let spare = len.checked_sub(shortest.here() as usize)?;
    let mut asm = if dead.flags { shortest } else { additions(environment, &counters, dead, spare) };
    asm.skip(len - asm.here() as usize);
    Some(asm.finish())
}

fn increments(counters: &[Mem]) -> Assembler {
    let mut asm = Assembler::default();
    counters.iter().for_each(|&counter| asm.inc(counter));
    asm
}

/// Additions that leave the flags alone; the instructions are stretched by `spare` bytes as far as they can be.
fn additions(environment: &Environment, counters: &[Mem], dead: Dead, mut spare: usize) -> Assembler {
    let mut asm = Assembler::default();
    let reg = (0..16).map(Reg).find(|&reg| is_dead(dead, reg)).unwrap_or(RCX);
    let saved = if is_dead(dead, reg) { Vec::new() } else { vec![reg] };
    save(&mut asm, environment, &saved);
    for &counter in counters {
        spare -= asm.stretch(spare);
        asm.load(reg, counter);
        spare -= asm.stretch(spare);
        asm.lea(reg, mem(reg, 1));
        spare -= asm.stretch(spare);
        asm.store(counter, reg);
    }
    restore(&mut asm, environment, &saved);
    asm
}

/// The counters' place where an instruction can name it: a displacement of 32 bits is sign-extended (Intel SDM vol. 2,
/// 2.2.1.3).
fn near_counters(environment: &Environment) -> Option<Mem> {
    let end = environment.state.0.checked_add(environment.layout.len as u64)?;
    i32::try_from(end).ok()?;
    Some(absolute(u32::try_from(environment.state.0 + environment.layout.counters() as u64).ok()?))
}

/// An offset in the layout, which is smaller than 1 GiB.
fn offset_of(offset: usize) -> i32 {
    i32::try_from(offset).unwrap_or(i32::MAX)
}

/// Leaves the offset of the thread's shard in `shard`.
fn find_shard(asm: &mut Assembler, environment: &Environment, shard: Reg, recoveries: &mut Vec<(u32, u32)>) {
    let layout = &environment.layout;
    if environment.shard_by == ShardBy::Cpu {
        asm.rdpid(shard);
        asm.and32(shard, layout.sizing.shards - 1);
    } else {
        // After a fault the register is as it was: every number has a shard.
        let load = asm.here();
        asm.load_thread_pointer(shard);
        recoveries.push((load, asm.here()));
        spread(asm, shard, shard, layout.sizing.shards);
    }
    asm.imul32(shard, shard, u32::try_from(layout.shard_len()).unwrap_or(u32::MAX));
}

/// [`crate::layout::spread`] as code: `dst` becomes a number below `count`, a power of two.
pub(super) fn spread(asm: &mut Assembler, dst: Reg, key: Reg, count: u32) {
    asm.imul32(dst, key, SPREAD);
    // 64 bits wide, since a shift by 32 (`count` 1) must give 0.
    asm.shr64(dst, u8::try_from(32 - count.trailing_zeros()).unwrap_or(32));
}

/// A register to work with: a dead one if there is any, never the stack pointer, and not rax where it holds the flags.
fn scratch(dead: Dead) -> Reg {
    let mut free = (0..16).map(Reg).filter(|&reg| is_dead(dead, reg) && (reg != RAX || dead.flags));
    free.next().unwrap_or(RCX)
}

/// Whether a body may leave something else in the register. The argument registers are never taken, dead or not: an
/// event at a later site of the same run shows them to the user.
pub(super) fn is_dead(dead: Dead, reg: Reg) -> bool {
    !ARGUMENTS.contains(&reg) && reg != RSP && dead.registers.contains(u32::from(reg.0))
}

/// Moves the stack pointer past the red zone.
pub(super) fn lower_stack(asm: &mut Assembler, environment: &Environment) {
    asm.move_stack(-i32::from(environment.red_zone));
}

/// Undoes [`lower_stack`].
pub(super) fn raise_stack(asm: &mut Assembler, environment: &Environment) {
    asm.move_stack(i32::from(environment.red_zone));
}

/// Lowers the stack past the red zone and pushes registers, if there are any.
fn save(asm: &mut Assembler, environment: &Environment, registers: &[Reg]) {
    if !registers.is_empty() {
        lower_stack(asm, environment);
    }
    registers.iter().for_each(|&reg| asm.push(reg));
}

/// Undoes [`save`].
fn restore(asm: &mut Assembler, environment: &Environment, registers: &[Reg]) {
    registers.iter().rev().for_each(|&reg| asm.pop(reg));
    if !registers.is_empty() {
        raise_stack(asm, environment);
    }
}
