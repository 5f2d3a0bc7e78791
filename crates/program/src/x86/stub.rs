//! Stubs: bodies and displaced instructions, one after the other, and the jump back.

use insn::plan::{Dead, Displaced, Patch, Reason};
use insn::relocate::{Destination, Exit, Moved, Point, relocate};
use insn::{Address, Isa};

use super::asm::{Assembler, Label};
use crate::stub::{Action, Environment, Routines, Stub};
use crate::{i386, x86_64};

/// Where the code is made for, and what it calls.
pub(crate) struct Place<'a> {
    /// Address of the stub.
    pub(crate) start: Address,
    /// The shared routines.
    pub(crate) routines: &'a Routines,
    /// Where the counters' address will be, if a body wants it.
    pub(crate) counters: Label,
}

/// What a stub is made of, apart from its address.
pub(crate) struct Source<'a> {
    /// What is the same for all stubs.
    pub(crate) environment: &'a Environment,
    /// What event bodies call.
    pub(crate) routines: &'a Routines,
    /// What is displaced.
    pub(crate) patch: &'a Patch,
    /// The probes of a site.
    pub(crate) actions: &'a dyn Fn(Address) -> Vec<Action>,
}

/// Makes a stub for the address `at`.
pub(crate) fn assemble(source: &Source<'_>, at: Address) -> Result<Stub, Reason> {
    let mut asm = Assembler::default();
    let mut stub = Stub {
        at,
        bytes: Vec::new(),
        entries: Vec::new(),
        points: Vec::new(),
        exits: Vec::new(),
        recoveries: Vec::new(),
        alone: Vec::new(),
    };
    let place = Place { start: at, routines: source.routines, counters: asm.label() };
    let mut falls_through = true;
    for insn in &source.patch.displaced {
        stub.entries.push((insn.address, asm.here()));
        bodies(source, &place, &mut asm, &mut stub, insn)?;
        let base = asm.here();
        let moved = relocate(source.environment.isa, insn.address, &insn.bytes, at + u64::from(base))?;
        falls_through = moved.falls_through;
        append(&mut asm, &mut stub, base, moved);
    }
    if falls_through {
        let resume = source.patch.resume();
        stub.exits.push(Exit { offset: asm.here(), to: Destination::Fixed(resume) });
        asm.jmp_out(source.environment.isa, at, resume).ok_or(Reason::NoRoom)?;
    }
    if asm.is_wanted(place.counters) {
        x86_64::count::name_counters(&mut asm, source.environment, at, place.counters);
    }
    stub.bytes = asm.finish();
    Ok(stub)
}

/// Appends the bodies of one site. Those that only count share one save, one shard and one restore; their order
/// among the others shows nowhere.
fn bodies(
    source: &Source<'_>,
    place: &Place<'_>,
    asm: &mut Assembler,
    stub: &mut Stub,
    insn: &Displaced,
) -> Result<(), Reason> {
    let actions = (source.actions)(insn.address);
    if actions.iter().any(|action| action.probe() >= source.environment.layout.sizing.probes) {
        return Err(Reason::NoRoom);
    }
    let counts: Vec<u32> = actions.iter().filter(|a| !a.records()).map(|a| a.probe()).collect();
    let events: Vec<u32> = actions.iter().filter(|a| a.records()).map(|a| a.probe()).collect();
    if !counts.is_empty() {
        count(source.environment, place, asm, stub, insn.dead, &counts);
    }
    if !events.is_empty() {
        match source.environment.isa {
            Isa::X86_64 => {
                x86_64::event::event(asm, source.environment, place, insn.dead, &events, &mut stub.alone)?
            }
            _ => i386::event::event(asm, place, insn.dead, &events)?,
        }
    }
    Ok(())
}

/// Appends the body for any program, and notes the one for a program of one thread.
fn count(
    environment: &Environment,
    place: &Place<'_>,
    asm: &mut Assembler,
    stub: &mut Stub,
    dead: Dead,
    probes: &[u32],
) {
    let start = asm.here();
    let alone = match environment.isa {
        Isa::X86_64 => {
            x86_64::count::count(asm, environment, place, dead, probes, &mut stub.recoveries);
            x86_64::count::alone(environment, dead, probes, (asm.here() - start) as usize)
        }
        _ => {
            i386::count::count(asm, environment, dead, probes, &mut stub.recoveries);
            None
        }
    };
    match alone {
        Some(bytes) => stub.alone.push((start, bytes)),
        None => stub.alone.extend(asm.unlocked_since(start)),
    }
}

/// Appends a displaced instruction, with its notable places moved by `base`.
fn append(asm: &mut Assembler, stub: &mut Stub, base: u32, moved: Moved) {
    let shift = |offset: u32| base.saturating_add(offset);
    asm.raw(&moved.bytes);
    stub.points.extend(moved.points.iter().map(|point| Point { offset: shift(point.offset), ..*point }));
    stub.exits.extend(moved.exits.into_iter().map(|exit| Exit { offset: shift(exit.offset), ..exit }));
}
