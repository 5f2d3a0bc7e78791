//! How a site would be probed, and why: the same analysis, plan, placement and stub as for a session, and nothing
//! written.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use coherence::{Architecture, KernelVersion, Requirement, Situation, Writer};
use insn::code::{Code, Outline};
use insn::place::{Demand, Room, island_bytes, patch_bytes};
use insn::plan::{Mechanism, Patch, Plan, Reason};
use insn::set::Analysis;
use insn::survey::Survey;
use insn::{Address, Isa, disassemble};
use program::layout::{Layout, Sizing};
use program::stub::{Action, Environment, Routines, ShardBy, Stub, ThreadBy};
use symbols::frames::frames;
use symbols::path;
use symbols::resolve::Match;
use symbols::spec::PathPattern;
use symbols::symbols::Kind;
use symbols::{Bias, FileAddress, Image, Spec, Symbols};

use crate::catalogue::{self, Binary, LookupError, binaries};
use crate::files::System;
use crate::remote::{Text, stepped};
use crate::room::{for_stubs, free_ranges};
use crate::session::{View, check_kind, differs, implementation, unfit_mapping};

/// Where the loader puts a position-independent program without randomisation, and the like of where it puts libraries
/// with it: between 1 TiB below the stack and the stack, or as far below it as a 32-bit process has it.
struct Usual {
    program: u64,
    library: u64,
}

fn usual(isa: Isa) -> Usual {
    match isa {
        Isa::I386 => Usual { program: 0x5655_5000, library: 0xf7d0_0000 },
        _ => Usual { program: 0x5555_5555_4000, library: 0x7f55_5555_4000 },
    }
}

/// Bytes shown of a site that is refused.
const SHOWN: u64 = 16;

/// An instruction for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where it is.
    pub address: Address,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its text in the ISA's usual syntax.
    pub text: String,
}

/// A byte inside the jump at which an old instruction began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interior {
    /// Where it is.
    pub address: Address,
    /// What stands there now: an opcode that traps.
    pub byte: u8,
}

/// A stub in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// The stub.
    pub stub: Vec<Instruction>,
    /// What is written over the program's text.
    pub written: Vec<u8>,
    /// What is written over padding near it, and where.
    pub island: Option<(Address, Vec<u8>)>,
    /// Old instruction boundaries inside what is written.
    pub interior: Vec<Interior>,
}

/// A step of the procedure that makes written code visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What code it is about.
    pub situation: Situation,
    /// Who does what.
    pub text: String,
    /// What goes wrong without it.
    pub why: &'static str,
}

/// What is to be said of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its canonical name.
    pub probe: String,
    /// Its address as `nm` prints it.
    pub file_address: FileAddress,
    /// Its run-time address.
    pub address: Address,
    /// The run-time address is a guess: no process was given.
    pub is_assumed: bool,
    /// How it would be probed; `None`: it is refused.
    pub mechanism: Option<Mechanism>,
    /// Why it is refused.
    pub refused: Option<String>,
    /// Mechanisms that come first but do not fit, and why.
    pub rejected: Vec<(Mechanism, String)>,
    /// The instructions that are displaced; of a refused site those that are there.
    pub displaced: Vec<Instruction>,
    /// The stub and the patch; `None` where there is none, or no room for it.
    pub placed: Option<Placed>,
    /// What makes stub and patch visible to every CPU, in this order.
    pub coherence: Vec<Step>,
    /// What else should be known.
    pub notes: Vec<String>,
}

/// Explains every site that `spec` means, for the process of `system` or, without one, for the usual load address.
///
/// # Errors
/// [`LookupError`]: it means nothing.
pub fn explain(system: &System, spec: &Spec) -> Result<Vec<Explanation>, LookupError> {
    let mut explanations = Vec::new();
    catalogue::in_any(binaries(system, spec)?, |binary| {
        let more = explain_in(system, &binary, spec)?;
        let count = more.len();
        explanations.extend(more);
        Ok(count)
    })?;
    Ok(explanations)
}

/// What is to be said of all instructions of a file, each as if it alone were probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSurvey {
    /// The file.
    pub path: PathBuf,
    /// What is added to its addresses.
    pub bias: Bias,
    /// The bias is a guess: no process was given.
    pub is_assumed: bool,
    /// Bytes of its code.
    pub code: u64,
    /// What was found.
    pub survey: Survey,
}

/// Looks at every instruction of the files that PATH means, for the process of `system` or, without one, for the usual
/// load address with everything around it free.
///
/// # Errors
/// [`LookupError`]: it means none, or one is no program.
pub fn explain_all(system: &System, path: &str) -> Result<Vec<FileSurvey>, LookupError> {
    let found = path::find(system, &PathPattern::Named(path.to_owned()))?;
    found.files.iter().map(|path| survey(system, &Binary::read(system, path)?)).collect()
}

fn survey(system: &System, binary: &Binary) -> Result<FileSurvey, LookupError> {
    let image = binary.image()?;
    let frames = frames(&image);
    let symbols = Symbols::read(&image, &frames);
    let outline = symbols::functions::Outline::read(&image, &frames, &symbols);
    let live = bias_in(system, &binary.path, &image);
    let bias = live.unwrap_or_else(|| usual_bias(&image));
    let module = Module::new(system, &image, &outline, bias, live.is_none());
    let code = module.code.iter().map(|code| code.bytes.len() as u64).sum();
    let survey = module.analysis.survey(&module.room.free);
    Ok(FileSurvey { path: binary.path.clone(), bias, is_assumed: module.is_assumed, code, survey })
}

fn explain_in(system: &System, binary: &Binary, spec: &Spec) -> Result<Vec<Explanation>, LookupError> {
    let image = binary.image()?;
    let frames = frames(&image);
    let symbols = Symbols::read(&image, &frames);
    let places = binary.resolve(&image, &symbols, spec)?;
    if !image.isa().is_ok_and(Isa::has_stubs) {
        let mut code = Text::of(&image, &symbols);
        return Ok(places.iter().map(|place| stepped(binary, None, place, &mut code)).collect());
    }
    let outline = symbols::functions::Outline::read(&image, &frames, &symbols);
    let live = bias_in(system, &binary.path, &image);
    let bias = live.unwrap_or_else(|| usual_bias(&image));
    let module = Module::new(system, &image, &outline, bias, live.is_none());
    let process = Live::of(system, live.is_some());
    let hole = architecture(module.isa).and_then(|architecture| kernel_hole(architecture, &kernel_release()));
    let notices: Vec<String> =
        system.replaced_notice(&binary.path).into_iter().chain(process.note).chain(hole).collect();
    let explain = |place| {
        let mut explanation = module.explain(binary, place, process.view.as_ref());
        explanation.notes.extend(notices.iter().cloned());
        explanation
    };
    Ok(places.iter().map(explain).collect())
}

/// What the process itself says, where there is one that has the file.
struct Live {
    view: Option<View>,
    /// Why it cannot be probed at all, or looked at.
    note: Option<String>,
}

impl Live {
    fn of(system: &System, is_mapped: bool) -> Self {
        let Some(pid) = system.pid().filter(|_| is_mapped).map(u32::cast_signed) else {
            return Self { view: None, note: None };
        };
        let wrong = check_kind(pid).err().map(|error| error.to_string());
        match View::of(pid) {
            Ok(view) => Self { view: Some(view), note: wrong },
            Err(error) => Self { view: None, note: wrong.or_else(|| Some(error.to_string())) },
        }
    }
}

/// Where the process has the file.
fn bias_in(system: &System, path: &Path, image: &Image<'_>) -> Option<Bias> {
    let path = path.to_str()?;
    let mut mappings = system.mappings().iter().filter(|mapping| mapping.path.as_deref() == Some(path));
    mappings.find_map(|mapping| image.bias_of(mapping.range.start, mapping.offset, mapping.executable))
}

fn usual_bias(image: &Image<'_>) -> Bias {
    let usual = usual(image.isa().unwrap_or(Isa::X86_64));
    match (image.is_pie(), image.is_shared()) {
        (true, _) => Bias(usual.program),
        (_, true) => Bias(usual.library),
        _ => Bias(0),
    }
}

/// A file at its addresses, ready for planning.
struct Module<'a> {
    isa: Isa,
    bias: Bias,
    is_assumed: bool,
    membarrier: bool,
    code: Vec<Code<'a>>,
    analysis: Analysis<'a>,
    room: Room,
}

impl<'a> Module<'a> {
    fn new(
        system: &System,
        image: &Image<'a>,
        outline: &symbols::functions::Outline,
        bias: Bias,
        is_assumed: bool,
    ) -> Self {
        // `Binary::image` has seen to it that the ISA is one we know.
        let isa = image.isa().unwrap_or(Isa::X86_64);
        let at_run_time = |(address, bytes)| Code { start: bias.run_time(address), bytes };
        let code: Vec<Code<'a>> = image.code().into_iter().map(at_run_time).collect();
        let outline = Outline {
            functions: outline.functions_at(bias),
            pointed_at: outline.pointed_at_at(bias),
            may_point_at: outline.may_point_at_at(bias),
            got: outline.got.map(|got| bias.run_time(got)),
            data: image.rodata().into_iter().map(at_run_time).collect(),
            refused: outline.refused_at(bias),
        };
        let status = system.status();
        let analysis = Analysis::new(isa, &code, &outline, status.shadow_stack, &mut |_| {});
        let room = Room { free: free_room(system, image, bias), areas: Vec::new(), mappings: usize::MAX };
        Self {
            isa,
            bias,
            is_assumed,
            membarrier: status.seccomp.is_none_or(|mode| mode == 0),
            code,
            analysis,
            room,
        }
    }

    fn explain(&self, binary: &Binary, place: &Match, live: Option<&View>) -> Explanation {
        let resolver = self.bias.run_time(place.file_address);
        let chosen = live.filter(|_| place.kind == Kind::Ifunc);
        let chosen = chosen.and_then(|view| implementation(view, &binary.path, place));
        let address = chosen.unwrap_or(resolver);
        let plan = self.analysis.plan(&[address], &HashMap::new(), &self.room.free);
        let mut explanation = Explanation {
            probe: binary.probe(place),
            file_address: place.file_address,
            address,
            is_assumed: self.is_assumed,
            mechanism: None,
            refused: None,
            rejected: plan
                .rejected
                .iter()
                .map(|(_, rejected)| (rejected.mechanism, rejected.reason.to_string()))
                .collect(),
            displaced: Vec::new(),
            placed: None,
            coherence: Vec::new(),
            notes: notes(place, &plan, live.is_some(), chosen.is_some()),
        };
        match self.patch(&plan, address, live) {
            Ok((patch, placed)) => self.describe(patch, placed, &mut explanation),
            Err(reason) => {
                explanation.refused = Some(reason);
                explanation.displaced = self.instructions_at(address);
            }
        }
        explanation
    }

    /// The patch and its stub, if neither plan, process nor room refuse it.
    fn patch<'p>(
        &self,
        plan: &'p Plan,
        address: Address,
        live: Option<&View>,
    ) -> Result<(&'p Patch, Placed), String> {
        if let Some(why) = live.and_then(|view| unfit_mapping(view, address)) {
            return Err(why);
        }
        // Another one makes room for this one's island.
        let serves = |patch: &&Patch| patch.sites().next().is_some();
        let Some(patch) = plan.patches.iter().find(serves) else {
            let refusal = plan.refused.first();
            return Err(refusal.map(|refusal| refusal.reason.to_string()).unwrap_or_default());
        };
        for patch in [Some(patch), plan.host_of(patch)].into_iter().flatten() {
            if let Some(why) = live.and_then(|view| differs(view, patch, &BTreeMap::new())) {
                return Err(why);
            }
        }
        Ok((patch, self.place(patch)?))
    }

    fn describe(&self, patch: &Patch, placed: Placed, explanation: &mut Explanation) {
        explanation.mechanism = Some(patch.mechanism);
        let displaced = patch.displaced.iter();
        explanation.displaced =
            displaced.flat_map(|insn| instructions(self.isa, insn.address, &insn.bytes)).collect();
        explanation.placed = Some(placed);
        explanation.coherence = coherence_steps(self.isa, self.membarrier);
    }

    /// Makes the stub once to learn its size, and again for where it fits.
    fn place(&self, patch: &Patch) -> Result<Placed, String> {
        let draft = self.stub(patch, patch.end()).map_err(|reason| reason.to_string())?;
        let size = u32::try_from(draft.bytes.len()).map_err(|_| "it is too large".to_string())?;
        let mut room = self.room.clone();
        let places = room.place(self.isa, &[Demand { patch, size }]);
        let at = places.into_iter().next().unwrap_or(Err(Reason::NoRoom)).map_err(|why| why.to_string())?;
        let stub = self.stub(patch, at).map_err(|reason| reason.to_string())?;
        let written = patch_bytes(self.isa, patch, at).ok_or("it is out of reach")?;
        let interior = patch.interior().into_iter().filter_map(|offset| {
            let byte = *written.get(usize::from(offset))?;
            Some(Interior { address: patch.start + u64::from(offset), byte })
        });
        let island = patch.island.as_ref().map(|island| island.at).zip(island_bytes(self.isa, patch, at));
        let stub = instructions(self.isa, at, &stub.bytes);
        Ok(Placed { interior: interior.collect(), stub, written, island })
    }

    /// The stub that counts. Where its counters are is made up: only the operands depend on it.
    fn stub(&self, patch: &Patch, at: Address) -> Result<Stub, insn::plan::Reason> {
        let sizing = Sizing { probes: 1, shards: 16, threads: 16, rings: 0, records: 0 };
        let environment = Environment {
            isa: self.isa,
            layout: Layout::new(sizing),
            state: Address(usual(self.isa).library),
            shard_by: ShardBy::ThreadPointer,
            thread_by: ThreadBy::ThreadPointer,
            red_zone: 128,
            prefetchw: false,
        };
        let routines = Routines::assemble(&environment, at);
        let count = |insn| match patch.sites().any(|site| site == insn) {
            true => vec![Action::Count { probe: 0 }],
            false => Vec::new(),
        };
        Stub::assemble(&environment, &routines, patch, &count, at)
    }

    fn instructions_at(&self, address: Address) -> Vec<Instruction> {
        let bytes = self.code.iter().find_map(|code| {
            let offset = usize::try_from(address.0.checked_sub(code.start.0)?).ok()?;
            code.bytes.get(offset..)
        });
        let bytes = bytes.unwrap_or_default();
        let shown = bytes.len().min(usize::try_from(SHOWN).unwrap_or(usize::MAX));
        instructions(self.isa, address, &bytes[..shown])
    }
}

/// Gaps of the process; without one, everything but the file's own place.
fn free_room(system: &System, image: &Image<'_>, bias: Bias) -> Vec<std::ops::Range<Address>> {
    if !system.mappings().is_empty() {
        let start_brk = system.start_of_heap().map(|start| start.0);
        return for_stubs(system.isa(), free_ranges(system.isa(), system.mappings(), start_brk));
    }
    let mapping = |segment: &symbols::elf::Segment| symbols::maps::Mapping {
        range: bias.run_time(segment.range().start)..bias.run_time(segment.range().end),
        readable: segment.readable,
        writable: segment.writable,
        executable: segment.executable,
        shared: false,
        offset: segment.offset,
        device: (0, 0),
        inode: 0,
        path: None,
        deleted: false,
    };
    let mappings: Vec<_> = image.segments().iter().map(mapping).collect();
    free_ranges(image.isa().unwrap_or(Isa::X86_64), &mappings, None)
}

fn notes(place: &Match, plan: &Plan, in_process: bool, is_chosen: bool) -> Vec<String> {
    let ifunc = match (in_process, is_chosen) {
        (_, true) => "this is the implementation that the ifunc's resolver chose",
        (true, false) => {
            "this is the resolver of an ifunc; a probe waits, since nobody has called it and thereby chosen an implementation"
        }
        (false, false) => {
            "this is the resolver of an ifunc, which runs once; in a process the implementation that it chose is probed"
        }
    };
    let mut notes = Vec::new();
    if place.kind == Kind::Ifunc {
        notes.push(ifunc.to_owned());
    }
    let hosts = plan.patches.iter().filter_map(|patch| Some((patch.island.as_ref()?, plan.host_of(patch)?)));
    notes.extend(hosts.map(|(island, host)| {
        format!(
            "for the island at {} the instructions from {} to {} are displaced too, by a jump of their own",
            island.at,
            host.start,
            host.resume()
        )
    }));
    let moved = plan.moved.iter();
    notes.extend(moved.map(|(site, at)| {
        format!("the landing pad at {site} stays where it is: the patch begins behind it, at {at}")
    }));
    notes
}

pub(crate) fn instructions(isa: Isa, at: Address, bytes: &[u8]) -> Vec<Instruction> {
    let lines = disassemble(isa, at, bytes).into_iter();
    lines.map(|(address, bytes, text)| Instruction { address, bytes, text }).collect()
}

/// What a session does when it writes the stub, and then the patch. `membarrier`: whether the target may call it.
fn coherence_steps(isa: Isa, membarrier: bool) -> Vec<Step> {
    let Some(architecture) = architecture(isa) else { return Vec::new() };
    let description = coherence::description(architecture);
    let available = |requirement| membarrier && requirement == Requirement::MembarrierSyncCore;
    let mut all = Vec::new();
    for situation in [Situation::FreshCode, Situation::LiveTextStopped] {
        let procedure = description.procedure(Writer::DebuggerWrite, situation).ok();
        let way = procedure.and_then(|procedure| procedure.way(available));
        let steps = way.iter().flat_map(|way| way.steps);
        all.extend(steps.map(|step| Step { situation, text: step.to_string(), why: step.why }));
    }
    all
}

/// What is wrong with how a kernel of this release cares for caches when it writes for a debugger.
fn kernel_hole(architecture: Architecture, release: &str) -> Option<String> {
    let version = KernelVersion::of_release(release)?;
    let variants = coherence::description(architecture).variants;
    let has_hole = |variant: &coherence::Variant| {
        let care = variant.care_on(version)?;
        Some((care.hole?, care.kernels.text))
    };
    let (hole, kernels) = variants.iter().find_map(has_hole)?;
    Some(format!(
        "this kernel ({version}) counts among those that do not make written code visible everywhere: {hole}; they are: \
         {kernels}"
    ))
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Whose caches a task of an ISA runs on.
fn architecture(isa: Isa) -> Option<Architecture> {
    match isa {
        Isa::X86_64 | Isa::I386 => Some(Architecture::X86),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_a_hole_are_warned_of() {
        let note = kernel_hole(Architecture::Alpha, "6.1.192-generic").unwrap();
        assert!(note.contains("(6.1.192)") && note.contains("old instructions"), "{note}");
        for not_looked_at in ["6.12.116", "6.14.0-rc2"] {
            let note = kernel_hole(Architecture::Alpha, not_looked_at).unwrap();
            assert!(note.contains("count as bad"), "{note}");
        }
        assert_eq!(kernel_hole(Architecture::Alpha, "6.12.117-amd64"), None);
        assert_eq!(kernel_hole(Architecture::Alpha, "7.3.4"), None);
        assert_eq!(kernel_hole(Architecture::X86, "3.10.0"), None);
        assert_eq!(kernel_hole(Architecture::Alpha, "unknown"), None);
    }
}
