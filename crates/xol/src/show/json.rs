//! The JSON lines. Their fields may be added to, never renamed: scripts rely on them.
//!
//! Addresses, bytes and argument values are hex strings; counts and times are integers.

use std::borrow::Cow;
use std::time::Duration;

use insn::survey::{Reasons, Tally};
use serde::{Serialize, Serializer};
use xol::explain::FileSurvey;
use xol::session::{self, Hit, SiteStatus, Summary};

/// A number as `"0x1f"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Bytes as `"e9 00 01"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HexBytes<'a>(pub(crate) &'a [u8]);

impl Serialize for HexBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&insn::plan::hex(self.0))
    }
}

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Line<'a> {
    /// A site's counts at the end of `stat`.
    Stat(Stat<'a>),
    /// What a site counted in one interval of `stat --interval`.
    Interval(Interval<'a>),
    /// One hit of `trace`.
    Hit(HitLine<'a>),
    /// Hits that `trace` could not record, when it is known.
    Lost { probe: &'a str, count: u64, reason: &'a str },
    /// Something that can be probed.
    List {
        probe: &'a str,
        file_address: Hex,
        size: u64,
        /// The name as the programmer wrote it, where it is mangled.
        demangled: Option<&'a str>,
    },
    /// A mapped file with code, of `list -p PID`.
    File { path: &'a str, functions: u64 },
    /// How a site would be probed.
    Explain(Explain<'a>),
    /// What `explain --all` counted in a file.
    #[serde(rename = "summary")]
    Survey(SurveyLine<'a>),
    /// One finding of `doctor`.
    Doctor { check: &'a str, ok: bool, detail: &'a str, fix: Option<&'a str> },
    /// A procedure of `coherence` and what the model says of it.
    Coherence(Coherence<'a>),
    /// Where a writer of `coherence` may not be used.
    Refusal(Refusal<'a>),
    /// A kind of caches that `coherence` describes.
    Caches(Caches),
    /// The end of a session: always the last line.
    Summary(SummaryLine<'a>),
}

#[derive(Debug, Serialize)]
pub(crate) struct Coherence<'a> {
    #[serde(flatten)]
    pub(crate) key: coherence::table::Key,
    pub(crate) omitted: Option<String>,
    pub(crate) steps: Vec<CoherenceStep>,
    /// `holds`, `broken` or `undecided`.
    pub(crate) verdict: &'static str,
    pub(crate) states: usize,
    pub(crate) broken: Option<String>,
    pub(crate) trace: &'a [String],
}

#[derive(Debug, Serialize)]
pub(crate) struct Refusal<'a> {
    pub(crate) isa: &'static str,
    pub(crate) cache: &'static str,
    pub(crate) writer: coherence::Writer,
    pub(crate) situation: coherence::Situation,
    pub(crate) reason: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Caches {
    pub(crate) isa: &'static str,
    pub(crate) cache: &'static str,
    /// Which CPUs are like this.
    pub(crate) what: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct CoherenceStep {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) why: &'static str,
    /// Why it is there though the model does without it.
    pub(crate) spare: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Stat<'a> {
    probe: &'a str,
    spec: &'a str,
    pid: u32,
    address: Option<Hex>,
    file_address: Hex,
    mechanism: Mechanism,
    hits: u64,
    lost: u64,
    lost_by: LostBy,
    reason: Option<&'a str>,
    /// Whether `--max-rate` kept it out of the text for a while.
    sampled: bool,
    /// The share of its time that it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    armed_share: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Interval<'a> {
    /// End of the interval, in nanoseconds since all probes were armed.
    pub(crate) elapsed: u64,
    pub(crate) probe: &'a str,
    pub(crate) pid: u32,
    pub(crate) hits: u64,
    pub(crate) lost: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mechanism {
    Jump,
    Pun,
    Trap,
    Refused,
    Waiting,
}

#[derive(Debug, Serialize)]
struct LostBy {
    #[serde(rename = "ring full")]
    ring_full: u64,
    nested: u64,
    abandoned: u64,
    #[serde(rename = "no slot")]
    no_slot: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct HitLine<'a> {
    time: u64,
    pid: u32,
    tid: u32,
    probe: &'a str,
    args: Args,
}

#[derive(Debug, Serialize)]
struct Args {
    arg0: Hex,
    arg1: Hex,
    arg2: Hex,
    arg3: Hex,
    arg4: Hex,
    arg5: Hex,
}

#[derive(Debug, Serialize)]
pub(crate) struct Explain<'a> {
    pub(crate) probe: &'a str,
    pub(crate) address: Hex,
    pub(crate) file_address: Hex,
    /// Whether `address` is a guess, no process being given.
    pub(crate) assumed: bool,
    pub(crate) mechanism: &'a str,
    /// Why it is refused.
    pub(crate) reason: Option<&'a str>,
    pub(crate) displaced: Vec<Instruction<'a>>,
    pub(crate) written: HexBytes<'a>,
    /// The padding that holds the jump where the site has room for a short one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) island: Option<Island<'a>>,
    pub(crate) stub: Vec<Instruction<'a>>,
    pub(crate) interior: Vec<Interior>,
    pub(crate) coherence: Vec<String>,
    pub(crate) rejected: Vec<Rejected<'a>>,
    pub(crate) notes: &'a [String],
}

#[derive(Debug, Serialize)]
pub(crate) struct Instruction<'a> {
    pub(crate) address: Hex,
    pub(crate) bytes: HexBytes<'a>,
    pub(crate) text: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Island<'a> {
    pub(crate) address: Hex,
    pub(crate) written: HexBytes<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Interior {
    pub(crate) address: Hex,
    pub(crate) byte: Hex,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rejected<'a> {
    pub(crate) mechanism: &'a str,
    pub(crate) reason: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct SummaryLine<'a> {
    sites: Sites,
    hits: u64,
    lost: u64,
    threads: u64,
    stopped_us: u64,
    longest_stop_us: u64,
    text_restored: bool,
    left_mapped: u64,
    sampled: u64,
    mappings: u64,
    pages: u64,
    resident: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_cost_ns: Option<u64>,
    warnings: &'a [String],
}

#[derive(Debug, Serialize)]
struct Sites {
    jump: u64,
    pun: u64,
    trap: u64,
    refused: u64,
    waiting: u64,
}

/// How a file's instructions would be probed.
#[derive(Debug, Serialize)]
pub(crate) struct SurveyLine<'a> {
    file: Cow<'a, str>,
    /// What is added to the file's addresses, and whether that is a guess, no process being given.
    load_address: Hex,
    assumed: bool,
    code_bytes: u64,
    functions: u64,
    sites: Sites,
    /// Of the jumps: those that begin at an earlier instruction.
    earlier: u64,
    entries: Sites,
    returns: Sites,
    no_jump_by: &'a Reasons,
    refused_by: &'a Reasons,
    took_us: u64,
}

impl<'a> SurveyLine<'a> {
    pub(crate) fn new(file: &'a FileSurvey, took: Duration) -> Self {
        let survey = &file.survey;
        Self {
            file: file.path.to_string_lossy(),
            load_address: Hex(file.bias.0),
            assumed: file.is_assumed,
            code_bytes: file.code,
            functions: survey.functions,
            sites: (&survey.all).into(),
            earlier: survey.all.earlier,
            entries: (&survey.entries).into(),
            returns: (&survey.returns).into(),
            no_jump_by: &survey.no_jump,
            refused_by: &survey.refused,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

impl From<&Tally> for Sites {
    fn from(tally: &Tally) -> Self {
        let Tally { jump, pun, trap, refused, .. } = *tally;
        Self { jump, pun, trap, refused, waiting: 0 }
    }
}

impl<'a> From<&'a SiteStatus> for Line<'a> {
    fn from(site: &'a SiteStatus) -> Self {
        Self::Stat(Stat {
            probe: &site.probe,
            spec: &site.spec,
            pid: site.pid,
            address: site.address.map(Hex),
            file_address: Hex(site.file_address),
            mechanism: site.mechanism.into(),
            hits: site.hits,
            lost: site.lost,
            lost_by: LostBy {
                ring_full: site.lost_by.ring_full,
                nested: site.lost_by.nested,
                abandoned: site.lost_by.abandoned,
                no_slot: site.lost_by.no_slot,
            },
            reason: site.reason.as_deref(),
            sampled: site.sampled.is_some(),
            // A millionth is more than is known.
            armed_share: site.sampled.map(|share| (share * 1e6).round() / 1e6),
        })
    }
}

impl From<session::Mechanism> for Mechanism {
    fn from(mechanism: session::Mechanism) -> Self {
        match mechanism {
            session::Mechanism::Jump => Self::Jump,
            session::Mechanism::Pun => Self::Pun,
            session::Mechanism::Trap => Self::Trap,
            session::Mechanism::Refused => Self::Refused,
            session::Mechanism::Waiting => Self::Waiting,
        }
    }
}

impl<'a> Line<'a> {
    /// The line of a hit of `probe`.
    pub(crate) fn hit(hit: &Hit, probe: &'a str) -> Self {
        let [arg0, arg1, arg2, arg3, arg4, arg5] = hit.args.map(Hex);
        let args = Args { arg0, arg1, arg2, arg3, arg4, arg5 };
        Self::Hit(HitLine { time: hit.time_ns, pid: hit.pid, tid: hit.tid, probe, args })
    }
}

impl<'a> From<&'a Summary> for Line<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self::Summary(SummaryLine {
            sites: Sites {
                jump: summary.jump,
                pun: summary.pun,
                trap: summary.trap,
                refused: summary.refused,
                waiting: summary.waiting,
            },
            hits: summary.hits,
            lost: summary.lost,
            threads: summary.threads,
            stopped_us: summary.stopped_us,
            longest_stop_us: summary.longest_stop_us,
            text_restored: summary.text_restored,
            left_mapped: summary.left_mapped,
            sampled: summary.sampled,
            mappings: summary.mappings,
            pages: summary.pages,
            resident: summary.resident,
            hit_cost_ns: summary.hit_cost_ns,
            warnings: &summary.warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::live::fake::site;

    fn text(line: &Line<'_>) -> String {
        serde_json::to_string(line).unwrap()
    }

    #[test]
    fn stat() {
        let mut site = site("malloc", 0x5500_0000_0110);
        site.hits = 1_000_000;
        site.lost = 3;
        site.lost_by = session::LostBy { ring_full: 1, nested: 2, abandoned: 0, no_slot: 0 };
        assert_eq!(
            text(&Line::from(&site)),
            r#"{"type":"stat","probe":"uprobe:/lib/libc.so.6:malloc","spec":"libc:malloc","pid":7,"address":"0x550000000110","file_address":"0x110","mechanism":"jump","hits":1000000,"lost":3,"lost_by":{"ring full":1,"nested":2,"abandoned":0,"no slot":0},"reason":null,"sampled":false}"#
        );
    }

    #[test]
    fn stat_of_a_site_that_is_not_there() {
        let mut site = site("later", 0x110);
        site.address = None;
        site.mechanism = session::Mechanism::Waiting;
        site.reason = Some("not mapped yet".into());
        let text = text(&Line::from(&site));
        assert!(
            text.contains(r#""address":null,"file_address":"0x110","mechanism":"waiting","hits":0"#),
            "{text}"
        );
        assert!(text.ends_with(r#""reason":"not mapped yet","sampled":false}"#), "{text}");
    }

    #[test]
    fn hit() {
        let hit = Hit { time_ns: u64::MAX, pid: 7, tid: 8, site: 0, args: [1, 0, u64::MAX, 16, 10_000, 2] };
        assert_eq!(
            text(&Line::hit(&hit, "uprobe:/bin/a:f")),
            r#"{"type":"hit","time":18446744073709551615,"pid":7,"tid":8,"probe":"uprobe:/bin/a:f","args":{"arg0":"0x1","arg1":"0x0","arg2":"0xffffffffffffffff","arg3":"0x10","arg4":"0x2710","arg5":"0x2"}}"#
        );
    }

    #[test]
    fn small_lines() {
        assert_eq!(
            text(&Line::Lost { probe: "uprobe:/bin/a:f", count: 12, reason: "ring full" }),
            r#"{"type":"lost","probe":"uprobe:/bin/a:f","count":12,"reason":"ring full"}"#
        );
        assert_eq!(
            text(&Line::List {
                probe: "uprobe:/bin/a:f",
                file_address: Hex(0x1130),
                size: 5,
                demangled: None
            }),
            r#"{"type":"list","probe":"uprobe:/bin/a:f","file_address":"0x1130","size":5,"demangled":null}"#
        );
        assert_eq!(
            text(&Line::Doctor { check: "yama", ok: false, detail: "scope 1", fix: Some("use -- CMD") }),
            r#"{"type":"doctor","check":"yama","ok":false,"detail":"scope 1","fix":"use -- CMD"}"#
        );
        assert_eq!(
            text(&Line::File { path: "/bin/a", functions: 3 }),
            r#"{"type":"file","path":"/bin/a","functions":3}"#
        );
        assert_eq!(
            text(&Line::Interval(Interval {
                elapsed: 5,
                probe: "uprobe:/bin/a:f",
                pid: 7,
                hits: 2,
                lost: 0
            })),
            r#"{"type":"interval","elapsed":5,"probe":"uprobe:/bin/a:f","pid":7,"hits":2,"lost":0}"#
        );
    }

    #[test]
    fn explain() {
        let insn = |text| Instruction { address: Hex(0x10), bytes: HexBytes(&[0x41, 0x57]), text };
        let line = Explain {
            probe: "uprobe:/bin/a:f",
            address: Hex(0x10),
            file_address: Hex(0x10),
            assumed: true,
            mechanism: "trap",
            reason: None,
            displaced: vec![insn("push %r15")],
            written: HexBytes(&[0xcc]),
            island: None,
            stub: Vec::new(),
            interior: vec![Interior { address: Hex(0x12), byte: Hex(6) }],
            coherence: vec!["write it".into()],
            rejected: vec![Rejected { mechanism: "jump", reason: "too short" }],
            notes: &[],
        };
        assert_eq!(
            text(&Line::Explain(line)),
            r#"{"type":"explain","probe":"uprobe:/bin/a:f","address":"0x10","file_address":"0x10","assumed":true,"mechanism":"trap","reason":null,"displaced":[{"address":"0x10","bytes":"41 57","text":"push %r15"}],"written":"cc","stub":[],"interior":[{"address":"0x12","byte":"0x6"}],"coherence":["write it"],"rejected":[{"mechanism":"jump","reason":"too short"}],"notes":[]}"#
        );
    }

    #[test]
    fn summary() {
        let summary = Summary {
            jump: 3,
            refused: 1,
            hits: 10,
            threads: 2,
            stopped_us: 700,
            longest_stop_us: 400,
            text_restored: true,
            left_mapped: 65_536,
            mappings: 3,
            pages: 2,
            resident: 20_480,
            warnings: vec!["times between CPUs are not to be trusted".into()],
            ..Summary::default()
        };
        assert_eq!(
            text(&Line::from(&summary)),
            r#"{"type":"summary","sites":{"jump":3,"pun":0,"trap":0,"refused":1,"waiting":0},"hits":10,"lost":0,"threads":2,"stopped_us":700,"longest_stop_us":400,"text_restored":true,"left_mapped":65536,"sampled":0,"mappings":3,"pages":2,"resident":20480,"warnings":["times between CPUs are not to be trusted"]}"#
        );
    }
}
