//! The body that records an event: saves what the shared routine changes, which is everything, and calls it.
//!
//! ```text
//!     pusha
//!     lahf; seto %al                         not if the flags are dead
//!     push   %eax                            always: the routine finds the arguments behind a frame of one size
//!     mov    $probe, %ebp                    } once per probe
//!     call   event                           }
//!     mov    %ebp, -4(%esp)                  over the return address
//!     pop    %eax; add $127, %al; sahf
//!     popa
//! ```
//!
//! State equation at the calls: the site's stack pointer is `sp + 36`, its registers lie from `sp + 4` on in the order edi,
//! esi, ebp, esp, ebx, edx, ecx, eax. In the routine `sp` is 4 lower, and the word at `sp` is the return address into the
//! stub.

use insn::Isa;
use insn::plan::{Dead, Reason};

use crate::x86::asm::{Assembler, EAX, EBP};
use crate::x86::stub::Place;

/// From the stack pointer in the routine to that of the site: the return address, the flags, eight registers.
pub(super) const FRAME: usize = 40;

/// Appends the body that records one event for each of `probes`.
pub(crate) fn event(
    asm: &mut Assembler,
    place: &Place<'_>,
    dead: Dead,
    probes: &[u32],
) -> Result<(), Reason> {
    asm.push_all();
    if !dead.flags {
        asm.flags_to_rax();
    }
    asm.push(EAX);
    for &probe in probes {
        asm.set32(EBP, probe);
        let routine = place.routines.at + u64::from(place.routines.event);
        asm.call_out(Isa::I386, place.start, routine).ok_or(Reason::NoRoom)?;
    }
    // Else the return address stays below the stack pointer, and whoever searches the stacks for addresses of ours before
    // the stub is unmapped finds one. ebp holds none.
    asm.store32_below_stack(EBP);
    asm.pop(EAX);
    if !dead.flags {
        asm.flags_from_rax();
    }
    asm.pop_all();
    Ok(())
}
