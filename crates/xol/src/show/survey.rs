//! What `explain --all` says of a file, for people.

use std::cmp::Reverse;
use std::time::Duration;

use console::style;
use insn::survey::{Reasons, Tally};
use xol::explain::FileSurvey;

use super::name::printable;

/// All of it.
pub(crate) fn lines(file: &FileSurvey, took: Duration, colours: bool) -> Vec<String> {
    let heading = |text: &str| style(text.to_string()).bold().force_styling(colours).to_string();
    let survey = &file.survey;
    let mut lines = vec![heading(&printable(&file.path.to_string_lossy()))];
    lines.push(format!("  {} bytes of code, {} functions", file.code, survey.functions));
    lines.push(format!("  loaded at {:#x}{}", file.bias.0, assumption(file.is_assumed)));
    lines.push("  each instruction as if it alone were probed, with any number of mappings".to_owned());
    lines.push(heading(&row(["", "number", "jump", "earlier", "pun", "trap", "refused"])));
    let rows =
        [("instructions", &survey.all), ("function entries", &survey.entries), ("returns", &survey.returns)];
    lines.extend(rows.map(|(name, tally)| shares(name, tally)));
    lines.extend(reasons(heading("why not a jump:"), &survey.no_jump, survey.all.total()));
    lines.extend(reasons(heading("why refused:"), &survey.refused, survey.all.total()));
    lines.push(format!("  took {:.3} s", took.as_secs_f64()));
    lines
}

fn assumption(is_assumed: bool) -> &'static str {
    if is_assumed {
        " (assumed: the usual address, with everything around the image free; give -p PID for the real one)"
    } else {
        ""
    }
}

fn row(cells: [&str; 7]) -> String {
    let [name, cells @ ..] = cells;
    let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
    format!("  {name:<16}{cells}")
}

/// `earlier` is a part of `jump`: those that begin at an earlier instruction.
fn shares(name: &str, tally: &Tally) -> String {
    let Tally { jump, earlier, pun, trap, refused } = *tally;
    let [jump, earlier, pun, trap, refused] =
        [jump, earlier, pun, trap, refused].map(|part| share(part, tally.total()));
    row([name, &tally.total().to_string(), &jump, &earlier, &pun, &trap, &refused])
}

fn share(part: u64, of: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a share shown with four digits")]
    let share = if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 };
    format!("{share:.3} %")
}

/// The most frequent first.
fn reasons(heading: String, reasons: &Reasons, of: u64) -> Vec<String> {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|(reason, times)| (Reverse(**times), *reason));
    let lines =
        sorted.iter().map(|(reason, times)| format!("  {times:>10}  {:>9}  {reason}", share(**times, of)));
    if sorted.is_empty() { Vec::new() } else { std::iter::once(heading).chain(lines).collect() }
}
