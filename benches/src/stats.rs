//! Medians and how figures are printed.

use std::fmt;
use std::fs;

/// The middle half of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quartiles {
    /// A quarter of the samples is smaller.
    pub low: f64,
    /// Half of them are.
    pub median: f64,
    /// A quarter is larger.
    pub high: f64,
}

impl Quartiles {
    /// None of no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |numerator: usize| {
            // Between the two neighbours, weighted: the common definition by linear interpolation.
            let position = sorted.len().checked_sub(1)? * numerator;
            let (index, rest) = (position / 4, position % 4);
            let below = *sorted.get(index)?;
            let above = *sorted.get(index + 1).unwrap_or(&below);
            let weight = [0.0, 0.25, 0.5, 0.75][rest];
            Some(below + (above - below) * weight)
        };
        Some(Self { low: at(1)?, median: at(2)?, high: at(3)? })
    }
}

impl fmt::Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} {}]", figure(self.median), figure(self.low), figure(self.high))
    }
}

/// Two decimals below 100, else a whole number with its thousands separated.
pub(crate) fn figure(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let whole = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// Rows of cells, the first row the heading; the first column to the left, the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One line about the machine, to be quoted with the figures.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .unwrap_or("unknown CPU");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!("{model}, {cpus} CPUs, Linux {}, load {load}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::{Quartiles, figure, table};

    #[test]
    fn quartiles_of_odd_and_even_numbers_of_samples() {
        assert_eq!(Quartiles::of(&[]), None);
        assert_eq!(Quartiles::of(&[3.0]), Some(Quartiles { low: 3.0, median: 3.0, high: 3.0 }));
        assert_eq!(
            Quartiles::of(&[5.0, 1.0, 4.0, 2.0, 3.0]),
            Some(Quartiles { low: 2.0, median: 3.0, high: 4.0 })
        );
        assert_eq!(
            Quartiles::of(&[4.0, 1.0, 3.0, 2.0]),
            Some(Quartiles { low: 1.75, median: 2.5, high: 3.25 })
        );
    }

    #[test]
    fn figures_have_decimals_or_thousands() {
        assert_eq!(figure(1.234), "1.23");
        assert_eq!(figure(-0.5), "-0.50");
        assert_eq!(figure(99.994), "99.99");
        assert_eq!(figure(4812.4), "4,812");
        assert_eq!(figure(1_234_567.0), "1,234,567");
        assert_eq!(figure(-4812.4), "-4,812");
        assert_eq!(figure(100.0), "100");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "ns".into()], vec!["long".into(), "1,000".into()], vec!["b".into()]];
        assert_eq!(table(&rows), "a        ns\nlong  1,000\nb\n");
    }
}
