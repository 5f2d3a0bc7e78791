//! The table of `stat`.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use console::style;
use xol::session::{Mechanism, SiteStatus};

use super::name::{file_and_name, printable, shorten};
use super::number::{counted, thousands};
use crate::cli::args::SortBy;

/// More sites without hits than this are counted instead of listed.
const SILENT_ROWS: usize = 10;

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) hits: u64,
    pub(crate) rate: u64,
    pub(crate) lost: u64,
    pub(crate) mechanism: Mechanism,
    /// The share of its time that it was armed, if not always.
    pub(crate) sampled: Option<f64>,
    pub(crate) pid: u32,
    pub(crate) address: u64,
    pub(crate) name: String,
}

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) sort: SortBy,
    pub(crate) top: Option<u64>,
    /// Columns of the terminal, if it is one.
    pub(crate) width: Option<usize>,
    /// Lines there is room for.
    pub(crate) height: Option<usize>,
    pub(crate) colours: bool,
}

impl Row {
    /// The row of a site that was hit `rate` times a second.
    pub(crate) fn new(site: &SiteStatus, rate: u64) -> Self {
        Self {
            hits: site.hits,
            rate,
            lost: site.lost,
            mechanism: site.mechanism,
            sampled: site.sampled,
            pid: site.pid,
            address: site.address.unwrap_or(site.file_address),
            name: readable_name(site),
        }
    }
}

/// The probe's name for people, file and all.
fn readable_name(site: &SiteStatus) -> String {
    match file_and_name(&site.probe) {
        (file, name) if file.is_empty() => name,
        (file, name) => format!("{file}:{name}"),
    }
}

/// The lines of the table: header, rows, and what is not shown.
pub(crate) fn table(mut rows: Vec<Row>, style: &Style) -> Vec<String> {
    rows.sort_by(|a, b| order(a, b, style.sort));
    let silent = collapse_silent(&mut rows);
    let fit = style.height.map_or(usize::MAX, |height| height.saturating_sub(3));
    let top = style.top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX));
    let cut = rows.len().saturating_sub(fit.min(top));
    rows.truncate(rows.len() - cut);
    let mut lines = lay_out(&rows, style);
    if cut > 0 {
        lines.push(format!("… {} more", counted(cut as u64, "site")));
    }
    if silent > 0 {
        lines.push(format!("… {} with 0 hits (--json lists all)", counted(silent as u64, "site")));
    }
    lines
}

/// By the chosen key, then by name, so that equal counts do not dance.
fn order(a: &Row, b: &Row, sort: SortBy) -> std::cmp::Ordering {
    let key = match sort {
        SortBy::Hits => b.hits.cmp(&a.hits),
        SortBy::Lost => b.lost.cmp(&a.lost),
        SortBy::Name => std::cmp::Ordering::Equal,
        SortBy::Address => a.address.cmp(&b.address),
    };
    key.then_with(|| (&a.name, a.pid).cmp(&(&b.name, b.pid)))
}

/// Takes rows without hits or losses out where they would bury the others.
fn collapse_silent(rows: &mut Vec<Row>) -> usize {
    let is_silent = |row: &Row| row.hits == 0 && row.lost == 0;
    let silent = rows.iter().filter(|row| is_silent(row)).count();
    if silent <= SILENT_ROWS {
        return 0;
    }
    rows.retain(|row| !is_silent(row));
    silent
}

fn lay_out(rows: &[Row], how: &Style) -> Vec<String> {
    let several = rows.iter().any(|row| row.pid != rows[0].pid);
    let cells: Vec<Vec<String>> = rows.iter().map(|row| numbers(row, several)).collect();
    let header = header(several);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            cells.iter().map(|row| row[column].len()).max().unwrap_or(0).max(header[column].len()) + 2
        })
        .collect();
    let room = how.width.map_or(usize::MAX, |width| width.saturating_sub(widths.iter().sum()));
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_row(header.iter().copied().chain(["PROBE"]));
    for (cells, row) in cells.into_iter().zip(rows) {
        table.add_row(cells.into_iter().chain([shorten(&row.name, room)]));
    }
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if position < header.len() { 2 } else { 0 }));
        // The mechanism and the name are words; the rest are numbers.
        let is_word = position + 2 > header.len();
        column.set_cell_alignment(if is_word { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
        .lines()
        .enumerate()
        .map(|(line, text)| match line {
            0 => style(text.trim_end()).bold().force_styling(how.colours).to_string(),
            _ => text.trim_end().to_string(),
        })
        .collect()
}

fn header(several: bool) -> Vec<&'static str> {
    let pid = several.then_some("PID");
    pid.into_iter().chain(["HITS", "HITS/S", "LOST", "HOW"]).collect()
}

fn numbers(row: &Row, several: bool) -> Vec<String> {
    let pid = several.then(|| row.pid.to_string());
    let how = match row.sampled {
        Some(share) => format!("{} {:.2} %", mechanism(row.mechanism), share * 100.0),
        None => mechanism(row.mechanism).to_owned(),
    };
    let counts = [thousands(row.hits), thousands(row.rate), thousands(row.lost), how];
    pid.into_iter().chain(counts).collect()
}

/// A mechanism's name.
pub(crate) fn mechanism(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Jump => "jump",
        Mechanism::Pun => "pun",
        Mechanism::Trap => "trap",
        Mechanism::Refused => "refused",
        Mechanism::Waiting => "waiting",
    }
}

/// Refused sites, each with its reason.
pub(crate) fn refused(sites: &[SiteStatus]) -> Vec<String> {
    let refused = sites.iter().filter(|site| site.mechanism == Mechanism::Refused);
    refused
        .map(|site| {
            format!(
                "refused: {}: {}",
                readable_name(site),
                site.reason.as_deref().unwrap_or("no reason given")
            )
        })
        .collect()
}

/// Why probes may have counted nothing.
pub(crate) fn silent(sites: &[SiteStatus]) -> Vec<String> {
    let is = |mechanism: &'static [Mechanism]| {
        move |site: &&SiteStatus| site.hits == 0 && site.lost == 0 && mechanism.contains(&site.mechanism)
    };
    let waiting: Vec<_> = sites.iter().filter(is(&[Mechanism::Waiting])).collect();
    let armed: Vec<_> =
        sites.iter().filter(is(&[Mechanism::Jump, Mechanism::Pun, Mechanism::Trap])).collect();
    let mut lines = Vec::new();
    let mut reasons: Vec<&str> = waiting.iter().map(|site| reason(site)).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for why in reasons {
        let of_it: Vec<_> = waiting.iter().copied().filter(|site| reason(site) == why).collect();
        lines.push(format!("0 hits, not probed: {}; {why}", listed(&of_it)));
    }
    if !armed.is_empty() {
        lines.push(format!(
            "0 hits though armed: {}; never called, or inlined into its callers, or the program uses another version \
             or copy of the library (see `xol list -p PID`)",
            listed(&armed)
        ));
    }
    lines
}

fn reason(site: &SiteStatus) -> &str {
    site.reason.as_deref().unwrap_or("its file was never mapped")
}

/// The first few of what was asked for, each with the number of its sites if there are several.
fn listed(sites: &[&SiteStatus]) -> String {
    const SHOWN: usize = 3;
    let mut specs: Vec<(&str, u64)> = Vec::new();
    for site in sites {
        match specs.iter_mut().find(|(spec, _)| *spec == site.spec) {
            Some((_, count)) => *count += 1,
            None => specs.push((&site.spec, 1)),
        }
    }
    let more = specs.len().saturating_sub(SHOWN);
    let name = |&(spec, count): &(&str, u64)| match count {
        1 => printable(spec).into_owned(),
        _ => format!("{} ({})", printable(spec), counted(count, "site")),
    };
    let names: Vec<String> = specs.iter().take(SHOWN).map(name).collect();
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::live::fake::site;

    const PLAIN: Style = Style { sort: SortBy::Hits, top: None, width: None, height: None, colours: false };

    fn rows() -> Vec<Row> {
        let mut sites = [site("malloc", 0x30), site("free", 0x20), site("calloc", 0x10)];
        sites[0].hits = 1_234_567;
        sites[1].hits = 89;
        sites[1].mechanism = Mechanism::Trap;
        sites[1].lost = 2;
        sites.iter().map(|site| Row::new(site, site.hits / 2)).collect()
    }

    #[test]
    fn sorted_by_hits() {
        assert_eq!(
            table(rows(), &PLAIN),
            [
                "     HITS   HITS/S  LOST  HOW   PROBE",
                "1,234,567  617,283     0  jump  /lib/libc.so.6:malloc",
                "       89       44     2  trap  /lib/libc.so.6:free",
                "        0        0     0  jump  /lib/libc.so.6:calloc",
            ]
        );
    }

    #[test]
    fn other_orders() {
        let first = |sort| table(rows(), &Style { sort, ..PLAIN })[1].rsplit(':').next().unwrap().to_string();
        assert_eq!(first(SortBy::Name), "calloc");
        assert_eq!(first(SortBy::Lost), "free");
        assert_eq!(first(SortBy::Address), "calloc");
    }

    #[test]
    fn names_are_shortened_to_the_terminal() {
        for width in 30..60 {
            let lines = table(rows(), &Style { width: Some(width), ..PLAIN });
            let longest = lines.iter().skip(1).map(|line| console::measure_text_width(line)).max().unwrap();
            assert!(longest <= width.max(32), "{lines:#?}");
        }
        let lines = table(rows(), &Style { width: Some(45), ..PLAIN });
        assert_eq!(lines[1], "1,234,567  617,283     0  jump  /lib/l…malloc");
    }

    #[test]
    fn what_is_cut_is_said() {
        let lines = table(rows(), &Style { top: Some(1), ..PLAIN });
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2], "… 2 sites more");
        let lines = table(rows(), &Style { height: Some(5), ..PLAIN });
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn many_silent_sites_are_counted() {
        let mut rows = rows();
        rows.extend((0..20_000).map(|index| Row::new(&site("quiet", index), 0)));
        let lines = table(rows, &PLAIN);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3], "… 20,001 sites with 0 hits (--json lists all)");
    }

    #[test]
    fn several_processes_are_told_apart() {
        let mut rows = rows();
        rows[1].pid = 12_345;
        let lines = table(rows, &PLAIN);
        assert!(lines[0].starts_with("  PID "), "{lines:#?}");
        assert!(lines[2].starts_with("12345 "), "{lines:#?}");
    }

    #[test]
    fn nothing_at_all_is_a_header() {
        assert_eq!(table(Vec::new(), &PLAIN), ["HITS  HITS/S  LOST  HOW  PROBE"]);
    }

    #[test]
    fn refusals_and_silence_are_explained() {
        let mut sites = vec![site("a", 1), site("b", 2), site("c", 3)];
        sites[0].mechanism = Mechanism::Refused;
        sites[0].reason = Some("inside a restartable sequence".into());
        sites[1].mechanism = Mechanism::Waiting;
        assert_eq!(refused(&sites), ["refused: /lib/libc.so.6:a: inside a restartable sequence"]);
        let lines = silent(&sites);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("libc:b; its file was never mapped"), "{lines:?}");
        assert!(lines[1].contains("libc:c; never called, or inlined"), "{lines:?}");
        sites[2].hits = 1;
        assert_eq!(silent(&sites).len(), 1);
    }
}
