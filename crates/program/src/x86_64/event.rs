//! The body that records an event: builds the saved-register frame and calls the shared routine.
//!
//! ```text
//!     lea    -128(%rsp), %rsp          past the red zone
//!     push   %rax; push %r10; push %r11      (always saved: the frame's room is the same for every site)
//!     lahf; seto %al; push %rax              not if the flags are dead
//!     lea    saved(%rsp), %r10 ; movabs $site, %rax
//!     push   %rax; push %r10                 pc and sp of the site
//!     push   %r9; push %r8; push %rcx; push %rdx; push %rsi; push %rdi
//!     mov    %rsp, %rdi                      the frame          } once per probe: the routine
//!     mov    $probe, %esi                                       } clobbers rdi, rsi and all
//!     call   event                                              } caller-saved registers
//!     pop    %rdi; ...; pop %r9
//!     lea    16(%rsp), %rsp                  drop pc and sp
//!     pop    %rax; add $127, %al; sahf
//!     pop    %r11; pop %r10; pop %rax
//!     lea    128(%rsp), %rsp
//! ```
//!
//! State equation at the calls: the frame is at `sp`; what [`frame`](crate::stub::frame) names is there. In the
//! routine `sp` is 8 lower, and the word at `sp` is the return address into the stub.

use insn::Address;
use insn::plan::{Dead, Reason};

use super::asm::{ARGUMENTS, Assembler, R10, R11, RAX, RDI, RSI, RSP, Reg, mem};
use super::count::{restore, save};
use crate::stub::Routines;

const SAVED: [Reg; 3] = [RAX, R10, R11];

/// Where the code is made for, and what it calls.
pub(super) struct Place<'a> {
    /// Address of the stub.
    pub(super) start: Address,
    /// Address of the probed instruction.
    pub(super) site: Address,
    /// The shared routines.
    pub(super) routines: &'a Routines,
}

/// Appends the body that records one event for each of `probes`.
pub(super) fn event(
    asm: &mut Assembler,
    place: &Place<'_>,
    dead: Dead,
    probes: &[u32],
) -> Result<(), Reason> {
    let words = SAVED.len() + usize::from(!dead.flags);
    save(asm, &SAVED);
    if !dead.flags {
        asm.flags_to_rax();
        asm.push(RAX);
    }
    asm.lea(R10, mem(RSP, 128 + words * 8));
    asm.set64(RAX, place.site.0);
    [RAX, R10].into_iter().chain(ARGUMENTS.into_iter().rev()).for_each(|reg| asm.push(reg));
    for &probe in probes {
        asm.mov(RDI, RSP);
        asm.set32(RSI, probe);
        let routine = place.routines.at + u64::from(place.routines.event);
        asm.call_out(place.start, routine).ok_or(Reason::NoRoom)?;
    }
    ARGUMENTS.into_iter().for_each(|reg| asm.pop(reg));
    asm.move_stack(16);
    if !dead.flags {
        asm.pop(RAX);
        asm.flags_from_rax();
    }
    restore(asm, &SAVED);
    Ok(())
}
