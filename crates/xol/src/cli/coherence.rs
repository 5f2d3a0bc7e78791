//! `xol coherence`: how written code becomes visible to every CPU of an instruction set, and the model's verdict.

use coherence::model::Finding;
use coherence::table::{Case, shipped_for};
use coherence::{Architecture, Description, Situation, Unfit, Variant, Writer};

use super::args::{CoherenceArgs, WriterName};
use super::failure::Failure;
use crate::show::coherence::{heading, list, steps, unfit, verdict};
use crate::show::json::{self, Line};
use crate::show::output::Output;

pub(crate) fn run(args: &CoherenceArgs) -> Result<u8, Failure> {
    let mut output = Output::open(args.output.output.as_deref())?;
    let Some(architecture) = args.isa.as_deref().and_then(Architecture::named) else {
        if args.output.json {
            list_json(&mut output)?;
        } else {
            output.lines(&list())?;
        }
        output.flush()?;
        return Ok(0);
    };
    let description = coherence::description(architecture);
    let variants = variants(description, args.cache.as_deref())?;
    let cases: Vec<Case> =
        shipped_for(architecture).into_iter().filter_map(|case| chosen(case, &variants, args)).collect();
    let mut show = Show { args, output, status: 0, is_first: true };
    match &args.omit {
        Some(name) => show.without(&cases, name)?,
        None => show.all(description, &cases, &variants)?,
    }
    show.output.flush()?;
    Ok(show.status)
}

fn list_json(output: &mut Output) -> Result<(), Failure> {
    for description in Architecture::ALL.iter().map(|architecture| coherence::description(*architecture)) {
        for Variant { name: cache, what, .. } in description.variants {
            output.json(&Line::Caches(json::Caches { isa: description.name, cache, what }))?;
        }
    }
    Ok(())
}

/// The caches asked for, or all.
fn variants(description: &'static Description, name: Option<&str>) -> Result<Vec<&'static Variant>, Failure> {
    let Some(name) = name else { return Ok(description.variants.iter().collect()) };
    let known = || description.variants.iter().map(|variant| variant.name).collect::<Vec<_>>().join(", ");
    let unknown = || Failure::Unknown {
        what: format!("caches of {}", description.name),
        name: name.to_owned(),
        known: known(),
    };
    description.variant(name).map(|variant| vec![variant]).ok_or_else(unknown)
}

/// The case, if it was asked for, on the kernel that was.
fn chosen(case: Case, variants: &[&Variant], args: &CoherenceArgs) -> Option<Case> {
    let is_chosen = variants.iter().any(|variant| variant.name == case.variant.name)
        && args.writer.is_none_or(|writer| case.writer == writer.into());
    let care = match args.kernel {
        Some(kernel) => case.care.and_then(|_| case.variant.care_on(kernel)),
        None => case.care,
    };
    is_chosen.then_some(Case { care, ..case })
}

struct Show<'a> {
    args: &'a CoherenceArgs,
    output: Output,
    status: u8,
    is_first: bool,
}

impl Show<'_> {
    /// Every case, and why the rest is none.
    fn all(
        &mut self,
        description: &'static Description,
        cases: &[Case],
        variants: &[&'static Variant],
    ) -> Result<(), Failure> {
        for case in cases {
            self.case(case, None)?;
        }
        let chosen = |writer: &Writer| self.args.writer.is_none_or(|name| *writer == name.into());
        let writers: Vec<Writer> = Writer::ALL.into_iter().filter(chosen).collect();
        for variant in variants {
            for writer in &writers {
                for (situations, reason) in refusals(variant, *writer) {
                    self.refusal(description, variant, *writer, &situations, reason)?;
                }
            }
        }
        Ok(())
    }

    /// For a program a line each, for people one together.
    fn refusal(
        &mut self,
        description: &'static Description,
        variant: &'static Variant,
        writer: Writer,
        situations: &[Situation],
        reason: Unfit,
    ) -> Result<(), Failure> {
        if !self.args.output.json {
            return self.output.lines(&unfit(variant, writer, situations, reason));
        }
        let (isa, cache) = (description.name, variant.name);
        for situation in situations.iter().copied() {
            let refusal = json::Refusal { isa, cache, writer, situation, reason: reason.why };
            self.output.json(&Line::Refusal(refusal))?;
        }
        Ok(())
    }

    /// Every case that has the step, without it.
    fn without(&mut self, cases: &[Case], name: &str) -> Result<(), Failure> {
        let names: Vec<Vec<String>> = cases.iter().map(|case| case.way.step_names()).collect();
        let index_in = |names: &[String]| names.iter().position(|step| step == name);
        if !names.iter().any(|names| index_in(names).is_some()) {
            let mut known: Vec<String> = names.into_iter().flatten().collect();
            known.sort();
            known.dedup();
            if known.is_empty() {
                known.push("none, since this writer has no procedure".to_owned());
            }
            return Err(Failure::Unknown {
                what: "step".to_owned(),
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        for (case, names) in cases.iter().zip(&names) {
            if let Some(index) = index_in(names) {
                self.case(case, Some(index))?;
            }
        }
        Ok(())
    }

    fn case(&mut self, case: &Case, omitted: Option<usize>) -> Result<(), Failure> {
        let finding = case.run(omitted).check();
        self.status = self.status.max(u8::from(!finding.holds()));
        if self.args.output.json {
            return self.output.json(&Line::Coherence(to_json(case, omitted, &finding)));
        }
        if !std::mem::take(&mut self.is_first) {
            self.output.line("")?;
        }
        self.output.lines(&heading(case))?;
        self.output.lines(&steps(case, omitted))?;
        self.output.lines(&verdict(case, omitted, &finding))
    }
}

/// The situations in which a writer may not be used, together where the reason is the same.
fn refusals(variant: &'static Variant, writer: Writer) -> Vec<(Vec<Situation>, Unfit)> {
    let mut all: Vec<(Vec<Situation>, Unfit)> = Vec::new();
    for situation in Situation::ALL {
        let Err(unfit) = variant.procedure(writer, situation) else { continue };
        match all.iter_mut().find(|(_, other)| *other == unfit) {
            Some((situations, _)) => situations.push(situation),
            None => all.push((vec![situation], unfit)),
        }
    }
    all
}

fn to_json<'a>(case: &Case, omitted: Option<usize>, finding: &'a Finding) -> json::Coherence<'a> {
    let names = case.way.step_names();
    let (verdict, trace) = match finding {
        Finding::Holds { .. } => ("holds", &[][..]),
        Finding::Broken { trace, .. } => ("broken", trace.lines()),
        Finding::Undecided { .. } => ("undecided", &[][..]),
    };
    json::Coherence {
        key: case.key(),
        omitted: omitted.and_then(|index| names.get(index).cloned()),
        steps: names
            .iter()
            .zip(case.way.steps)
            .map(|(name, step)| json::CoherenceStep {
                name: name.clone(),
                text: step.to_string(),
                why: step.why,
                spare: step.spare,
            })
            .collect(),
        verdict,
        states: finding.states(),
        broken: finding.broken().map(|promise| promise.to_string()),
        trace,
    }
}

impl From<WriterName> for Writer {
    fn from(name: WriterName) -> Self {
        match name {
            WriterName::DebuggerWrite => Self::DebuggerWrite,
            WriterName::StoreThroughAlias => Self::StoreThroughAlias,
            WriterName::ProcessVmWritev => Self::ProcessVmWritev,
            WriterName::TargetStore => Self::TargetStore,
        }
    }
}
