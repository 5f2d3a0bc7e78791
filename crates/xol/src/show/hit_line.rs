//! The lines of `trace` for people.

use std::collections::{HashMap, HashSet};

use xol::session::{Hit, SiteStatus};

use super::name::file_and_name;
use super::number::seconds;

/// Names of sites: canonical, and as short as they can be told apart.
#[derive(Debug, Default)]
pub(crate) struct Names {
    probes: Vec<String>,
    labels: Vec<String>,
}

impl Names {
    /// The names of `sites`.
    pub(crate) fn new(sites: &[SiteStatus]) -> Self {
        let parts: Vec<(String, String)> = sites.iter().map(|site| file_and_name(&site.probe)).collect();
        let mut files: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (file, name) in &parts {
            files.entry(name).or_default().insert(file);
        }
        let label = |(file, name): &(String, String)| match files.get(name.as_str()) {
            Some(files) if files.len() > 1 => format!("{}:{name}", file.rsplit('/').next().unwrap_or(file)),
            _ => name.clone(),
        };
        let labels = parts.iter().map(label).collect();
        Self { probes: sites.iter().map(|site| site.probe.clone()).collect(), labels }
    }

    /// How many sites are known.
    pub(crate) fn len(&self) -> usize {
        self.probes.len()
    }

    /// The canonical name of a site.
    pub(crate) fn probe(&self, site: usize) -> &str {
        self.probes.get(site).map_or("unknown", String::as_str)
    }

    /// The shortest name of a site.
    pub(crate) fn label(&self, site: usize) -> &str {
        self.labels.get(site).map_or("unknown", String::as_str)
    }
}

/// Time since all probes were armed, thread, symbol, arguments.
pub(crate) fn hit_line(hit: &Hit, names: &Names, armed_at: u64) -> String {
    let mut line = format!("{:>15} {:>7} {}", since(hit.time_ns, armed_at), hit.tid, names.label(hit.site));
    for (number, value) in hit.args.iter().enumerate() {
        line.push_str(&format!(" arg{number}={}", argument(*value)));
    }
    line
}

/// Seconds from `start` to `time`. A site may be hit before the last one is armed.
fn since(time: u64, start: u64) -> String {
    match time.checked_sub(start) {
        Some(after) => seconds(after),
        None => format!("-{}", seconds(start - time)),
    }
}

/// Hex; small numbers, which are often counts or descriptors, in decimal too.
fn argument(value: u64) -> String {
    match value {
        0..10_000 => format!("{value:#x} ({value})"),
        _ => format!("{value:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::live::fake::site;

    #[test]
    fn a_line() {
        let names = Names::new(&[site("malloc", 16)]);
        let hit = Hit {
            time_ns: 3_000_000_007,
            pid: 7,
            tid: 1234,
            site: 0,
            args: [24, 9_999, 10_000, 0, u64::MAX, 1],
        };
        assert_eq!(
            hit_line(&hit, &names, 1_000_000_000),
            "    2.000000007    1234 malloc arg0=0x18 (24) arg1=0x270f (9999) arg2=0x2710 arg3=0x0 (0) \
             arg4=0xffffffffffffffff arg5=0x1 (1)"
        );
    }

    #[test]
    fn a_hit_before_the_last_probe_is_armed() {
        assert_eq!(since(900, 1_000), "-0.000000100");
    }

    #[test]
    fn names_are_as_short_as_they_can_be() {
        let mut sites = vec![site("malloc", 16), site("free", 32), site("free", 48)];
        sites[1].probe = "uprobe:/opt/jemalloc.so:free".into();
        let names = Names::new(&sites);
        let labels: Vec<&str> = (0..4).map(|index| names.label(index)).collect();
        assert_eq!(labels, ["malloc", "jemalloc.so:free", "libc.so.6:free", "unknown"]);
        assert_eq!(names.probe(0), "uprobe:/lib/libc.so.6:malloc");
    }
}
