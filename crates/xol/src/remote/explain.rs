//! What can be probed in a remote's process, and how: it is looked at, and left as it is.

use std::path::PathBuf;

use coherence::Situation;
use insn::Address;
use insn::plan::{Mechanism, Reason};
use insn::xol::{How, OutOfLine, Then, out_of_line};
use symbols::frames::frames;
use symbols::path;
use symbols::resolve::Match;
use symbols::{Bias, Spec, Symbols};
use target::stepper::steps;

use super::modules::{Modules, Process};
use super::text::{Code, Text};
use super::{Place, hint};
use crate::catalogue::{self, Binary, Entry, LookupError};
use crate::explain::{Explanation, Placed, Step, instructions};

/// Everything that `spec` means in the remote's process.
///
/// # Errors
/// [`LookupError`]: it means nothing, or the remote cannot be asked.
pub fn list(place: &Place, spec: &Spec) -> Result<Vec<Entry>, LookupError> {
    each(place, spec, |binary, _, found, _| Entry::of(binary, found))
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
    let count = |binary: &Binary| Ok((binary.path.clone(), binary.functions()?));
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
    make: impl Fn(&Binary, Option<Bias>, &Match, &mut Text<'_>) -> A,
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
    make: impl Fn(&Binary, Option<Bias>, &Match, &mut Text<'_>) -> A,
) -> Result<Vec<A>, LookupError> {
    let hint = hint(std::slice::from_ref(spec));
    let modules = Modules::of(process, place.sysroot.as_deref(), hint.as_deref())?;
    let mut made = Vec::new();
    catalogue::in_any(path::find(&modules, &modules.real_pattern(&spec.path))?.files, |path| {
        let binary = modules.binary(process, &path)?;
        let image = binary.image()?;
        let symbols = Symbols::read(&image, &frames(&image));
        let places = binary.resolve(&image, &symbols, spec)?;
        let bias = modules.loaded(&path).map(|module| module.bias);
        let mut code = Text::of(&image, &symbols);
        made.extend(places.iter().map(|found| make(&binary, bias, found, &mut code)));
        Ok(places.len())
    })?;
    Ok(made)
}

/// How a tracer that steps probes a place: a breakpoint, and the instruction carried out elsewhere.
pub(crate) fn stepped(
    binary: &Binary,
    bias: Option<Bias>,
    place: &Match,
    code: &mut Text<'_>,
) -> Explanation {
    let is_assumed = bias.is_none();
    let bias = bias.unwrap_or_default();
    let address = bias.run_time(place.file_address);
    let mut explanation = Explanation {
        probe: binary.probe(place),
        file_address: place.file_address,
        address,
        is_assumed,
        mechanism: None,
        refused: None,
        rejected: Vec::new(),
        displaced: Vec::new(),
        placed: None,
        coherence: Vec::new(),
        notes: Vec::new(),
    };
    let planned = code.at(place.file_address).and_then(|code| Ok((planned(&code, bias, address)?, code)));
    let (plan, Code { isa, bytes, branch }) = match planned {
        Ok(planned) => planned,
        Err(reason) => {
            explanation.refused = Some(reason.to_string());
            let shown = code.bytes_at(place.file_address);
            let isa = code.isa_at(place.file_address);
            explanation.displaced = isa.map(|isa| instructions(isa, address, &shown)).unwrap_or_default();
            explanation.displaced.truncate(1);
            return explanation;
        }
    };
    let original = bytes.get(..plan.len).unwrap_or(&bytes);
    if let Some((branch, _)) = branch {
        let branch = bias.run_time(branch);
        explanation.notes.push(format!(
            "it is in the delay slot of the branch at {branch}, where the breakpoint stands: a hit of it is counted when the branch \
             does not leave it out"
        ));
    }
    explanation.mechanism = Some(Mechanism::Trap);
    explanation.displaced = instructions(isa, address, original);
    let mut placed = Placed { written: isa.breakpoint(plan.len).to_vec(), ..Placed::default() };
    explanation.notes.push(match &plan.how {
        How::Emulated => "the tracer carries it out on the thread's registers".to_owned(),
        How::Delayed(slot) => {
            placed.stub = instructions(isa, Address(0), &slot.code);
            "the tracer carries the branch out on the thread's registers; the thread runs the instruction in its delay slot \
             elsewhere, up to a breakpoint, and is brought to where the branch goes"
                .to_owned()
        }
        How::Slot(slot) => {
            placed.stub = instructions(isa, Address(0), &slot.code);
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

/// How the instruction is carried out, or for one in a delay slot its branch.
fn planned(code: &Code, bias: Bias, address: Address) -> Result<OutOfLine, Reason> {
    let Some((branch, bytes)) = &code.branch else { return out_of_line(code.isa, address, &code.bytes) };
    let branch = bias.run_time(*branch);
    let plan = out_of_line(code.isa, branch, bytes)?;
    // What a slot decides is not known before it has run.
    if matches!(plan.how, How::Slot(_)) { Err(Reason::DelaySlot { branch }) } else { Ok(plan) }
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
