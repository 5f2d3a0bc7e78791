//! The body that counts: one locked increment in the thread's shard, and another one in four billion hits.
//!
//! ```text
//!     push   %eax                      for the flags                not if dead
//!     push   %edx                      offset of the shard          not if dead; a dead register is taken instead
//!     lahf; seto %al                                                not if the flags are dead
//!     mov    %gs:0, %edx               may fault (gs = 0): goes on at the next instruction, with any shard
//!     imul   $SPREAD, %edx, %edx
//!     shr    $32 - log2(shards), %edx
//!     imul   $shard_len, %edx, %edx
//!     lock incl state + counters + 8 * probe(%edx)          } once per probe
//!     jne    1f                                             }
//!     lock incl state + counters + 8 * probe + 4(%edx)      }
//!  1:
//!     add    $127, %al; sahf
//!     pop    %edx; pop %eax
//! ```
//!
//! There is no locked addition of 64 bits. The two halves are added one after the other: as every carry is added by whoever
//! caused it, the sum is exact once nobody is between the two. A reader who looks in between sees 2^32 too few, which is
//! what a live count promises anyway: a lower bound.
//!
//! State equation: the original stack pointer is `sp + 4 * saved`; the saved registers lie at `sp` in reverse order of the
//! pushes. There is no red zone.

use insn::plan::Dead;

use crate::layout::SPREAD;
use crate::stub::{Environment, ShardBy};
use crate::x86::asm::{Assembler, EAX, EDX, ESP, If, Mem, Reg, absolute};

/// Appends the body that counts one hit of each of `probes`. Loads that may fault go to `recoveries`.
pub(crate) fn count(
    asm: &mut Assembler,
    environment: &Environment,
    dead: Dead,
    probes: &[u32],
    recoveries: &mut Vec<(u32, u32)>,
) {
    let layout = &environment.layout;
    let sharded = layout.sizing.shards > 1 && environment.shard_by != ShardBy::Shared;
    let shard = scratch(dead);
    let used = [(EAX, !dead.flags), (shard, sharded)];
    let saved: Vec<Reg> =
        used.into_iter().filter(|&(reg, used)| used && !is_dead(dead, reg)).map(|(reg, _)| reg).collect();

    saved.iter().for_each(|&reg| asm.push(reg));
    if !dead.flags {
        asm.flags_to_rax();
    }
    if sharded {
        find_shard(asm, environment, shard, recoveries);
    }
    for &probe in probes {
        let counter = in_state(environment, layout.counters() + probe as usize * 8);
        add_one(asm, if sharded { counter.with_base(shard) } else { counter });
    }
    if !dead.flags {
        asm.flags_from_rax();
    }
    saved.iter().rev().for_each(|&reg| asm.pop(reg));
}

/// A place in the shared state. The address space wraps, so an offset may be added to any register.
pub(super) fn in_state(environment: &Environment, offset: usize) -> Mem {
    #[allow(clippy::cast_possible_truncation, reason = "addresses of i386 wrap at 4 GiB")]
    absolute(environment.state.0.wrapping_add(offset as u64) as u32)
}

/// Adds 1 to a word of 64 bits. Changes the flags.
pub(super) fn add_one(asm: &mut Assembler, counter: Mem) {
    let done = asm.label();
    asm.lock_inc32(counter);
    asm.jcc(If::NotEqual, done);
    asm.lock_inc32(counter.behind(4));
    asm.bind(done);
}

/// Leaves the offset of the thread's shard in `shard`.
fn find_shard(asm: &mut Assembler, environment: &Environment, shard: Reg, recoveries: &mut Vec<(u32, u32)>) {
    let layout = &environment.layout;
    if environment.shard_by == ShardBy::Cpu {
        asm.rdpid(shard);
        asm.and32(shard, layout.sizing.shards - 1);
    } else {
        let load = asm.here();
        asm.load_thread_pointer_of_gs(shard);
        recoveries.push((load, asm.here()));
        spread(asm, shard, shard, layout.sizing.shards);
    }
    asm.imul32(shard, shard, u32::try_from(layout.shard_len()).unwrap_or(u32::MAX));
}

/// The word at the thread pointer, 0 for a thread without one.
pub(super) fn load_thread_pointer(asm: &mut Assembler, dst: Reg, recoveries: &mut Vec<(u32, u32)>) {
    asm.zero(dst);
    let load = asm.here();
    asm.load_thread_pointer_of_gs(dst);
    recoveries.push((load, asm.here()));
}

/// [`crate::layout::spread`] as code: `dst` becomes a number below `count`, a power of two.
pub(super) fn spread(asm: &mut Assembler, dst: Reg, key: Reg, count: u32) {
    match u8::try_from(count.trailing_zeros()) {
        // A shift by 32 would leave the register as it is.
        Ok(bits @ 1..) => {
            asm.imul32(dst, key, SPREAD);
            asm.shr32(dst, 32 - bits);
        }
        _ => asm.zero(dst),
    }
}

/// A register to work with: a dead one, never the stack pointer, and not eax where it holds the flags.
fn scratch(dead: Dead) -> Reg {
    (0..8).map(Reg).find(|&reg| is_dead(dead, reg) && (reg != EAX || dead.flags)).unwrap_or(EDX)
}

/// Whether a body may leave something else in the register. Arguments are on the stack.
fn is_dead(dead: Dead, reg: Reg) -> bool {
    reg != ESP && dead.registers.contains(u32::from(reg.0))
}
