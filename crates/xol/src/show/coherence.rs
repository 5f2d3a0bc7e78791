//! A procedure and its proof, for people.

use coherence::model::Finding;
use coherence::render::wrap;
use coherence::table::Case;
use coherence::{Architecture, Situation, Unfit, Variant, Writer};

/// The architectures, each with its caches.
pub(crate) fn list() -> Vec<String> {
    let line = |architecture: &Architecture| {
        let description = coherence::description(*architecture);
        let caches: Vec<&str> = description.variants.iter().map(|variant| variant.name).collect();
        format!("{:10} {}", description.name, caches.join(" "))
    };
    let mut lines: Vec<String> = Architecture::ALL.iter().map(line).collect();
    lines.push(String::new());
    lines.push("`xol coherence ISA` shows the procedures for its caches, and checks them.".to_owned());
    lines
}

/// What a case is about.
pub(crate) fn heading(case: &Case) -> Vec<String> {
    let key = case.key();
    let mut lines = vec![format!("{} {}: {}, written by {}", key.isa, key.cache, key.situation, key.writer)];
    if !key.requires.is_empty() {
        lines.push(format!("  with {}", key.requires));
    }
    if let Some(kernels) = key.kernels {
        lines.push(format!("  kernels: {kernels}"));
    }
    lines
}

/// Its steps, with the names by which they can be left out.
pub(crate) fn steps(case: &Case, omitted: Option<usize>) -> Vec<String> {
    let names = case.way.step_names();
    let mut lines = Vec::new();
    for (index, (name, step)) in names.iter().zip(case.way.steps).enumerate() {
        let left_out = if omitted == Some(index) { "  LEFT OUT" } else { "" };
        lines.push(format!("  {}. [{name}] {step}{left_out}", index + 1));
        lines.extend(wrap("     because ", "     ", step.why));
        lines.extend(step.spare.into_iter().flat_map(|spare| wrap("     belt and braces: ", "     ", spare)));
    }
    lines
}

/// What the model says.
pub(crate) fn verdict(case: &Case, omitted: Option<usize>, finding: &Finding) -> Vec<String> {
    let run = case.run(omitted);
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let size = [(run.setup.cpus, "CPU"), (run.setup.threads, "thread"), (run.lines(), "line")]
        .map(|(of, what)| count(of, what))
        .join(", ");
    match finding {
        Finding::Holds { states } => vec![format!("  holds: in each of {states} states ({size})")],
        Finding::Undecided { states } => {
            vec![format!("  undecided: given up after {states} states ({size})")]
        }
        Finding::Broken { promise, trace, .. } => {
            let mut lines = vec![format!("  broken: \"{promise}\"; the shortest counterexample ({size}):")];
            lines.extend((1..).zip(trace.lines()).map(|(number, line)| format!("  {number:3}. {line}")));
            let hole = case.care.and_then(|care| care.hole).filter(|_| omitted.is_none());
            lines.extend(hole.into_iter().flat_map(|hole| wrap("  on these kernels ", "  ", hole)));
            lines
        }
    }
}

/// Where a writer may not be used, and why.
pub(crate) fn unfit(
    variant: &Variant,
    writer: Writer,
    situations: &[Situation],
    unfit: Unfit,
) -> Vec<String> {
    let situations: Vec<String> = situations.iter().map(ToString::to_string).collect();
    let mut lines =
        vec![String::new(), format!("{}: never by {writer}: {}", variant.name, situations.join("; "))];
    lines.extend(wrap("  because ", "  ", unfit.why));
    lines
}
