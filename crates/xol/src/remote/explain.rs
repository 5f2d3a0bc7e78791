//! What can be probed in a remote's process, and how: it is looked at, and left as it is.

use std::path::{Path, PathBuf};

use coherence::Situation;
use insn::plan::Mechanism;
use insn::xol::{How, Then, out_of_line};
use insn::{Address, disassemble};
use symbols::demangle::demangle;
use symbols::frames::frames;
use symbols::path;
use symbols::resolve::{Match, resolve};
use symbols::{Bias, Spec, Symbols};
use target::stepper::steps;

use super::modules::{Modules, Process, bytes_at};
use super::rows::{bias_of, code_at};
use super::{Place, hint};
use crate::catalogue::{Binary, Entry, LookupError};
use crate::explain::{Explanation, Instruction, Placed, Step};

/// Everything that `spec` means in the remote's process.
///
/// # Errors
/// [`LookupError`]: it means nothing, or the remote cannot be asked.
pub fn list(place: &Place, spec: &Spec) -> Result<Vec<Entry>, LookupError> {
    let entry = |binary: &Binary, _: Option<Bias>, found: &Match, _: &Symbols<'_>| Entry {
        probe: binary.probe(found),
        file_address: found.file_address,
        size: found.size,
        demangled: found.symbol.as_deref().and_then(demangle).map(|name| name.full),
    };
    each(place, spec, entry)
}

/// The files that the remote's process has loaded, and how many functions each names.
///
/// # Errors
/// [`LookupError`]: the remote cannot be asked.
pub fn mapped(place: &Place) -> Result<Vec<(PathBuf, u64)>, LookupError> {
    let mut process = place.connect()?;
    let modules = Modules::of(&mut process, place.sysroot.as_deref(), None);
    place.leave(&mut process)?;
    let modules = modules?;
    let count = |binary: &Binary| {
        let image = binary.image()?;
        Ok((binary.path.clone(), Symbols::read(&image, &frames(&image)).functions().count() as u64))
    };
    modules.list.iter().map(|module| count(&module.binary)).collect()
}

/// How every site that `spec` means would be probed.
///
/// # Errors
/// As [`list`].
pub fn explain(place: &Place, spec: &Spec) -> Result<Vec<Explanation>, LookupError> {
    each(place, spec, stepped)
}

fn each<A>(
    place: &Place,
    spec: &Spec,
    make: impl Fn(&Binary, Option<Bias>, &Match, &Symbols<'_>) -> A,
) -> Result<Vec<A>, LookupError> {
    let mut process = place.connect()?;
    let made = each_in(place, &mut process, spec, make);
    place.leave(&mut process)?;
    made
}

fn each_in<A>(
    place: &Place,
    process: &mut Process,
    spec: &Spec,
    make: impl Fn(&Binary, Option<Bias>, &Match, &Symbols<'_>) -> A,
) -> Result<Vec<A>, LookupError> {
    let hint = hint(std::slice::from_ref(spec));
    let modules = Modules::of(process, place.sysroot.as_deref(), hint.as_deref())?;
    let mut made = Vec::new();
    let mut missed = Vec::new();
    for path in path::find(&modules, &modules.real_pattern(&spec.path))?.files {
        let binary = match modules.list.iter().find(|module| module.binary.path == path) {
            Some(module) => Ok(module.binary.clone()),
            None => modules.read(process, Path::new(&path)),
        };
        let found = binary.and_then(|binary| {
            let image = binary.image()?;
            let symbols = Symbols::read(&image, &frames(&image));
            let places = resolve(&image, &symbols, &spec.name)
                .map_err(|source| LookupError::Name { path: binary.path.clone(), source })?;
            let bias = bias_of(&modules.list, &path);
            Ok(places.iter().map(|found| make(&binary, bias, found, &symbols)).collect::<Vec<_>>())
        });
        match found {
            Ok(more) => made.extend(more),
            Err(error) => missed.push(error),
        }
    }
    match LookupError::of_all(missed) {
        Some(error) if made.is_empty() => Err(error),
        _ => Ok(made),
    }
}

/// How a tracer that steps probes a place: a breakpoint, and the instruction carried out elsewhere.
pub(crate) fn stepped(
    binary: &Binary,
    bias: Option<Bias>,
    place: &Match,
    symbols: &Symbols<'_>,
) -> Explanation {
    let address = bias.unwrap_or_default().run_time(place.file_address);
    let mut explanation = Explanation {
        probe: binary.probe(place),
        file_address: place.file_address,
        address,
        is_assumed: bias.is_none(),
        mechanism: None,
        refused: None,
        rejected: Vec::new(),
        displaced: Vec::new(),
        placed: None,
        coherence: Vec::new(),
        notes: Vec::new(),
    };
    let Ok(image) = binary.image() else { return explanation };
    let isa = symbols.isa_at(&image, place.file_address).or(image.isa().ok());
    let shown = bytes_at(&image, place.file_address);
    let code = code_at(&image, symbols, place.file_address);
    let planned = code.and_then(|(isa, bytes)| Ok((isa, out_of_line(isa, address, &bytes)?, bytes)));
    let (isa, plan, bytes) = match planned {
        Ok(planned) => planned,
        Err(reason) => {
            explanation.refused = Some(reason.to_string());
            explanation.displaced = isa
                .map(|isa| disassemble(isa, address, &shown))
                .into_iter()
                .flatten()
                .take(1)
                .map(line)
                .collect();
            return explanation;
        }
    };
    let original = bytes.get(..plan.len).unwrap_or(&bytes);
    explanation.mechanism = Some(Mechanism::Trap);
    explanation.displaced = disassemble(isa, address, original).into_iter().map(line).collect();
    let mut placed = Placed { written: isa.breakpoint(plan.len).to_vec(), ..Placed::default() };
    explanation.notes.push(match &plan.how {
        How::Emulated => "the tracer carries it out on the thread's registers".to_owned(),
        How::Delayed(slot) => {
            placed.stub = disassemble(isa, Address(0), &slot.code).into_iter().map(line).collect();
            "the tracer carries it out on the thread's registers; the thread runs the instruction in its delay slot in a slot, \
             and is brought to where the branch goes"
                .to_owned()
        }
        How::Slot(slot) => {
            placed.stub = disassemble(isa, Address(0), &slot.code).into_iter().map(line).collect();
            let lent = if slot.lent.is_empty() { "" } else { ", with registers lent to it" };
            let then = match slot.then {
                Then::Next => "back behind the original",
                Then::Branch(_) => "to where its register then says",
            };
            format!("the thread runs it in a slot{lent}, up to a breakpoint, and is brought {then}")
        }
    });
    explanation.placed = Some(placed);
    explanation.coherence = procedure(isa);
    explanation
}

fn line((address, bytes, text): (Address, Vec<u8>, String)) -> Instruction {
    Instruction { address, bytes, text }
}

/// What makes a slot visible, whoever writes for us.
fn procedure(isa: insn::Isa) -> Vec<Step> {
    let said = |step: &coherence::Step| Step {
        situation: Situation::FreshCode,
        text: format!("{}: {}", step.by, step.action),
        why: step.why,
    };
    steps(isa).iter().map(said).collect()
}
