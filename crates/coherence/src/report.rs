//! The verdicts as one document: what `docs/coherence-table.md` holds.

use std::fmt::Write as _;

use crate::model::Finding;
use crate::replay::{KERNELS, Scenario, THREAD};
use crate::table::{Case, shipped};

/// Which counterexamples are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traces {
    /// Those of the thread, of kernels, and of older kernels.
    WithoutOmissions,
    /// Those of each omission of a step too.
    All,
}

/// The whole document, in Markdown. Takes seconds.
#[must_use]
pub fn markdown(traces: Traces) -> String {
    let mut report = Report { text: String::from(HEAD), traces: String::new() };
    report.shipped();
    report.omissions(traces);
    report.count();
    report.scenarios("The thread, replayed", THREAD);
    report.scenarios("What kernels do for a slot that is filled for each hit", KERNELS);
    report.text + "\n## Counterexamples\n" + &report.traces
}

const HEAD: &str = "\
# Verdicts

Generated: `cargo xtask bless` writes this file anew, and a test compares it. What the words mean, and what the model
leaves out, stands in [coherence.md](coherence.md). States are those of the whole search, at most 10,000,000.

## Shipped procedures

| ISA | caches | written by | what | requires, kernels | CPUs | verdict | states |
|---|---|---|---|---|---|---|---|
";

struct Report {
    text: String,
    traces: String,
}

impl Report {
    fn row(&mut self, cells: &[&str]) {
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    fn shipped(&mut self) {
        for case in shipped() {
            self.case(&case);
            case.on_older_kernels().for_each(|older| self.case(&older));
        }
    }

    fn case(&mut self, case: &Case) {
        let key = case.key();
        let finding = case.check();
        let kernels = key.kernels.map(|kernels| format!("kernels {kernels}"));
        let requires: Vec<String> =
            Some(key.requires).filter(|text| !text.is_empty()).into_iter().chain(kernels).collect();
        let requires = requires.join("; ");
        let (writer, situation) = (key.writer.to_string(), key.situation.to_string());
        let verdict = verdict(&finding);
        let cpus = case.run(None).setup.cpus.to_string();
        let cells = [
            key.isa,
            key.cache,
            &writer,
            &situation,
            &requires,
            &cpus,
            &verdict,
            &finding.states().to_string(),
        ];
        self.row(&cells);
        self.trace(&format!("{} {}, {writer}, {situation}, {requires}", key.isa, key.cache), &finding);
    }

    fn count(&mut self) {
        let steps = |case: &Case| case.way.steps.iter().map(|step| step.spare.is_some()).collect::<Vec<_>>();
        let spare: Vec<bool> = shipped().iter().flat_map(steps).collect();
        let needed = spare.iter().filter(|spare| !**spare).count();
        let _ = writeln!(
            self.text,
            "\n{} steps in {} procedures: {needed} needed, {} belt and braces.",
            spare.len(),
            shipped().len(),
            spare.len() - needed
        );
    }

    fn omissions(&mut self, traces: Traces) {
        self.text.push_str(
            "\n## What each step is for\n\nThe verdict without it: what goes wrong, and after how many events at the earliest; or \
             why it is there all the same.\n\n| ISA | caches | written by | what | without | verdict |\n|---|---|---|---|---|---|\n",
        );
        for case in shipped() {
            let key = case.key();
            let (writer, situation) = (key.writer.to_string(), key.situation.to_string());
            for (index, (step, name)) in case.way.steps.iter().zip(case.way.step_names()).enumerate() {
                let finding = case.run(Some(index)).check();
                let verdict = match step.spare {
                    Some(spare) => format!("holds; {spare}"),
                    None => verdict(&finding),
                };
                self.row(&[key.isa, key.cache, &writer, &situation, &format!("`{name}`"), &verdict]);
                if traces == Traces::All {
                    let title = format!("{} {}, {writer}, {situation}, without `{name}`", key.isa, key.cache);
                    self.trace(&title, &finding);
                }
            }
        }
    }

    fn scenarios(&mut self, title: &str, scenarios: &[Scenario]) {
        let _ = writeln!(
            self.text,
            "\n## {title}\n\n| after the copy | ISA | caches | verdict | states | said, or done by |\n|---|---|---|---|---|---|"
        );
        for scenario in scenarios {
            let Some(finding) = scenario.check() else { continue };
            let isa = scenario.architecture.to_string();
            let states = finding.states().to_string();
            self.row(&[scenario.name, &isa, scenario.cache, &verdict(&finding), &states, scenario.said]);
            self.trace(&format!("{}, {isa} {}", scenario.name, scenario.cache), &finding);
        }
    }

    fn trace(&mut self, title: &str, finding: &Finding) {
        if let Finding::Broken { promise, trace, .. } = finding {
            let _ = write!(self.traces, "\n### {title}\n\nBroken: {promise}.\n\n```text\n{trace}```\n");
        }
    }
}

fn verdict(finding: &Finding) -> String {
    match finding {
        Finding::Holds { .. } => "holds".to_owned(),
        Finding::Undecided { .. } => "**undecided**".to_owned(),
        Finding::Broken { promise, trace, .. } => {
            format!("**broken**: \"{promise}\", in {} events", trace.lines().len().saturating_sub(1))
        }
    }
}
