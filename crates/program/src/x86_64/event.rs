//! The body that records an event: saves what the shared routine changes, and calls it.
//!
//! ```text
//!     lea    -128(%rsp), %rsp          past the red zone
//!     push   %rax; push %r10; push %r11      each not if dead
//!     lahf; seto %al; push %rax              not if the flags are dead
//!     push   %rdx; push %rcx                 always: the routine finds these arguments on the stack
//!     mov    $probe, %ecx                    } once per probe
//!     call   event                           }
//!     mov    %rcx, -8(%rsp)                  over the return address
//!     pop    %rcx; pop %rdx
//!     pop    %rax; add $127, %al; sahf
//!     pop    %r11; pop %r10; pop %rax
//!     lea    128(%rsp), %rsp
//! ```
//!
//! The routine takes the arguments from where they are: four in their registers, which it leaves alone, two on the
//! stack. A frame of all six that it would read again costs more instructions than all the rest of an event.
//!
//! State equation at the calls: `rcx` is at `sp`, `rdx` at `sp + 8`. In the routine `sp` is 8 lower, and the word at
//! `sp` is the return address into the stub.

use insn::Isa;
use insn::plan::{Dead, Reason};

use super::count::{is_dead, lower_stack, raise_stack};
use crate::stub::Environment;
use crate::x86::asm::{Assembler, R10, R11, RAX, RCX, RDX, Reg};
use crate::x86::stub::Place;

/// What the routine changes besides rcx and rdx.
const CHANGED: [Reg; 3] = [RAX, R10, R11];

/// Appends the body that records one event for each of `probes`.
pub(crate) fn event(
    asm: &mut Assembler,
    environment: &Environment,
    place: &Place<'_>,
    dead: Dead,
    probes: &[u32],
    alone: &mut Vec<(u32, Vec<u8>)>,
) -> Result<(), Reason> {
    let saved: Vec<Reg> = CHANGED.into_iter().filter(|&reg| !is_dead(dead, reg)).collect();
    lower_stack(asm, environment);
    saved.iter().for_each(|&reg| asm.push(reg));
    if !dead.flags {
        asm.flags_to_rax();
        asm.push(RAX);
    }
    asm.push(RDX);
    asm.push(RCX);
    for &probe in probes {
        asm.set32(RCX, probe);
        let routine = |offset: u32| place.routines.at + u64::from(offset);
        alone.push(
            asm.call_from_here(place.start, routine(place.routines.event_alone)).ok_or(Reason::NoRoom)?,
        );
        asm.call_out(Isa::X86_64, place.start, routine(place.routines.event)).ok_or(Reason::NoRoom)?;
    }
    // Else the return address stays below the stack pointer, later frames come to lie around it, and whoever searches the
    // stacks for addresses of ours before the stub is unmapped (rightly) finds one. rcx holds none.
    asm.store_below_stack(RCX);
    asm.pop(RCX);
    asm.pop(RDX);
    if !dead.flags {
        asm.pop(RAX);
        asm.flags_from_rax();
    }
    saved.iter().rev().for_each(|&reg| asm.pop(reg));
    raise_stack(asm, environment);
    Ok(())
}
