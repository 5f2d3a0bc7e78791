//! A case from beginning to end, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use super::before::{Before, before};
use super::callgrind::{Counts, mappings};
use super::cases::Case;
use super::compare::{self, Mismatch, Oracle, Probed, Sites, compare};
use super::lockstep::{self, lockstep};
use super::modules::Module;
use super::run::{Outcome, Runs};
use super::sparse;

/// Differences shown of one kind.
const SHOWN: usize = 12;

/// What came of a case.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<String>,
    /// What is wrong; nothing, if all held.
    pub failures: Vec<String>,
}

impl Report {
    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    fn fail(&mut self, text: impl Into<String>) {
        self.failures.push(text.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        self.failures.iter().try_for_each(|line| writeln!(f, "  FAILED: {line}"))
    }
}

/// Runs a case in its folder.
///
/// # Errors
/// A run could not be made at all.
pub fn check(case: &Case, folder: &Path) -> Result<Report, String> {
    let runs = Runs::new(case, folder)?;
    let modules = case.modules.iter().map(|path| Module::read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut report = Report::default();
    let plain = runs.plain()?;
    let (outcome, json) = runs.probed()?;
    let probed = Probed::parse(&json)?;
    check_outcome(&mut report, &plain, &outcome, &probed);
    if let Some(own) = case.own_count {
        match own(&outcome.output, &|function| calls(&modules, &probed, function)) {
            Ok(right) => report.line(right),
            Err(wrong) => report.fail(wrong),
        }
    }
    if case.has_oracle {
        check_counts(&mut report, &runs, &modules, &plain, &probed)?;
        check_sparse(&mut report, &runs, &plain, &probed)?;
    } else {
        for module in &modules {
            let sites = sites_of(&probed, module);
            let unknown = Oracle::none();
            show(&mut report, module, &compare(module, sites, &unknown, &[]), false);
        }
    }
    if let Some(windows) = case.windows {
        check_state(&mut report, &runs, windows)?;
    }
    Ok(report)
}

/// Calls of a function: hits at its entry, less those that came there by a jump of its own. So begins a Go function once more
/// when its stack has grown.
fn calls(modules: &[Module], probed: &Probed, function: &str) -> Option<u64> {
    let (module, sites) = modules.iter().find_map(|module| {
        let of_function = sites_of(probed, module).iter().filter(|(_, site)| site.function == function);
        let sites: Vec<_> = of_function.collect();
        (!sites.is_empty()).then_some((module, sites))
    })?;
    let (entry, first) = sites.first()?;
    let back = sites.iter().filter(|(at, _)| module.jumps_to(**at, **entry)).map(|(_, site)| site.hits);
    first.hits.checked_sub(back.sum())
}

fn check_outcome(report: &mut Report, plain: &Outcome, probed: &Outcome, results: &Probed) {
    report.line(format!(
        "plain {:.1?}, probed {:.1?}: {} bytes of output, {}",
        plain.time,
        probed.time,
        plain.output.len(),
        plain.status
    ));
    if !probed.is_as(plain) {
        report.fail(format!(
            "output or exit status differ: {} bytes and {} instead of {} bytes and {}\n{}",
            probed.output.len(),
            probed.status,
            plain.output.len(),
            plain.status,
            probed.errors
        ));
    }
    let summary = &results.summary;
    report.line(format!(
        "{} hits, {} lost; stopped {} us in all, {} us at most",
        summary["hits"], summary["lost"], summary["stopped_us"], summary["longest_stop_us"]
    ));
    if summary["text_restored"] != true || summary["lost"] != 0 {
        report.fail(format!("not a clean session: {summary}"));
    }
}

fn check_counts(
    report: &mut Report,
    runs: &Runs<'_>,
    modules: &[Module],
    plain: &Outcome,
    probed: &Probed,
) -> Result<(), String> {
    let begun = Instant::now();
    let befores: Vec<Before> = before(runs, modules)?;
    let (counted, counts) = runs.counted()?;
    report.line(format!("callgrind {:.1?}, all of the oracle {:.1?}", counted.time, begun.elapsed()));
    if !counted.is_as(plain) {
        report.fail("callgrind's run does not do the same".to_owned());
    }
    let (counts, mapped) = (Counts::parse(&counts)?, mappings(&counted.errors));
    for (module, before) in modules.iter().zip(befores) {
        let oracle = Oracle::new(&counts, module, &mapped, before);
        let compared = compare(module, sites_of(probed, module), &oracle, &runs.case.differences);
        show(report, module, &compared, true);
    }
    Ok(())
}

fn check_sparse(
    report: &mut Report,
    runs: &Runs<'_>,
    plain: &Outcome,
    probed: &Probed,
) -> Result<(), String> {
    let chosen = sparse::choose(probed);
    let (outcome, json) = runs.with_probes(&sparse::specs(&chosen))?;
    let few = Probed::parse(&json)?;
    report.line(format!("with probes at {} of the instructions:", chosen.len()));
    check_outcome(report, plain, &outcome, &few);
    let (ways, wrong) = sparse::compare(&chosen, &few, &runs.case.differences);
    report.line(format!("they are {ways:?}; {} counts differ", wrong.len()));
    if chosen.is_empty() || !wrong.is_empty() {
        let shown: String = wrong.iter().take(SHOWN).map(|one| format!("\n    {one}")).collect();
        report.fail(format!(
            "some instructions probed: {} of {} counts differ{shown}",
            wrong.len(),
            chosen.len()
        ));
    }
    Ok(())
}

fn sites_of<'p>(probed: &'p Probed, module: &Module) -> &'p Sites {
    static NONE: Sites = Sites::new();
    probed.sites.get(&*module.path.to_string_lossy()).unwrap_or(&NONE)
}

fn show(report: &mut Report, module: &Module, compared: &compare::Compared, has_oracle: bool) {
    let name = module.name();
    report.line(format!(
        "{name}: {} sites ({} breakpoints), {} of them executed {} times in all, {} repeated string instructions",
        compared.sites, compared.traps, compared.executed, compared.hits, compared.repeated
    ));
    for (reason, (all, executed)) in &compared.refused {
        report.line(format!("{name}: {all} refused ({executed} that were executed): {reason}"));
        if *executed > 0 {
            report.fail(format!("{name}: {executed} instructions that are executed are refused: {reason}"));
        }
    }
    if compared.sites == 0 {
        report.fail(format!("{name}: no site was probed"));
    }
    if !has_oracle {
        return;
    }
    if !compared.left_out.is_empty() {
        let shown: String = compared.left_out.iter().take(SHOWN).map(|at| format!(" {at:#x}")).collect();
        report.fail(format!(
            "{name}: {} executed instructions of functions have no probe:{shown}",
            compared.left_out.len()
        ));
    }
    if compared.outside > 0 {
        report.line(format!("{name}: {} executed instructions are in no known function", compared.outside));
    }
    for (why, mismatches) in &compared.explained {
        report.line(format!("{name}: {} counts differ, known: {why}", mismatches.len()));
    }
    let total = compared.unexplained.len();
    if total == 0 {
        report.line(format!("{name}: all other counts are callgrind's"));
        return;
    }
    let mut functions: BTreeMap<&str, Vec<&Mismatch>> = BTreeMap::new();
    for mismatch in &compared.unexplained {
        functions.entry(&mismatch.function).or_default().push(mismatch);
    }
    let shown = functions.iter().take(SHOWN).map(|(function, all)| {
        let first = all[0];
        format!(
            "\n    {function}: {} instructions, first {:#x} ({}): {} instead of {}",
            all.len(),
            first.at,
            first.mechanism,
            first.hits,
            first.expected
        )
    });
    let shown: String = shown.collect();
    report.fail(format!("{name}: {total} counts differ in {} functions{shown}", functions.len()));
}

fn check_state(report: &mut Report, runs: &Runs<'_>, windows: lockstep::Windows) -> Result<(), String> {
    let begun = Instant::now();
    let compared = lockstep(runs, windows)?;
    report.line(format!(
        "{} states at {} places in {} windows are equal, {} differences passed, {} bytes were stale, in {:.1?}",
        compared.states,
        compared.places,
        compared.windows,
        compared.passing,
        compared.stale,
        begun.elapsed()
    ));
    if compared.states == 0 {
        report.fail("no state was compared".to_owned());
    }
    if let Some(difference) = compared.difference {
        report.fail(format!("the state differs {difference}"));
    }
    Ok(())
}
