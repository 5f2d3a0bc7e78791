//! The command line, each flag defined once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use coherence::KernelVersion;
use xol::remote::{Place, Process};
use xol::session::Target;

use super::failure::Failure;

/// Uprobes in user space: what is a running program doing?
#[derive(Debug, Parser)]
#[command(name = "xol", disable_version_flag = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print the version, the kernel and the CPU features that matter (for bug reports)
    #[arg(short = 'V', long)]
    pub(crate) version: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Clap cannot say "one of these two", so the usage is written out.
const STAT_USAGE: &str = "xol stat [OPTIONS] PROBE... -p PID[,PID...]\n       xol stat [OPTIONS] PROBE... -- CMD ARG...\n       \
     xol stat [OPTIONS] PROBE... --remote REMOTE";
const TRACE_USAGE: &str = "xol trace [OPTIONS] PROBE... -p PID[,PID...]\n       xol trace [OPTIONS] PROBE... -- CMD ARG...\n       \
     xol trace [OPTIONS] PROBE... --remote REMOTE";

const LIST_USAGE: &str = "xol list [OPTIONS] PATTERN [-p PID]\n       xol list [OPTIONS] -p PID\n       \
                          xol list [OPTIONS] [PATTERN] --remote REMOTE";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count hits
    #[command(override_usage = STAT_USAGE)]
    Stat(StatArgs),
    /// Print a line per hit
    #[command(override_usage = TRACE_USAGE)]
    Trace(TraceArgs),
    /// Show what can be probed
    #[command(override_usage = LIST_USAGE)]
    List(ListArgs),
    /// Show how a site would be probed, and why
    Explain(ExplainArgs),
    /// Show what this machine allows, and what is left over in a process
    Doctor(DoctorArgs),
    /// Remove what a killed xol left in a process
    Detach(DetachArgs),
    /// Measure how long calls take (not available yet)
    #[command(disable_help_flag = true)]
    Lat(LaterArgs),
    /// Show who calls whom (not available yet)
    #[command(disable_help_flag = true)]
    Tree(LaterArgs),
    /// Run a bpftrace program (not available yet)
    #[command(disable_help_flag = true)]
    Run(LaterArgs),
    /// Show how written code becomes visible on an instruction set's CPUs, and the proof
    Coherence(CoherenceArgs),
}

/// Where results go and what they look like.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OutputArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Write results to FILE instead of standard output
    #[arg(short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Say nothing on standard error but errors, warnings and losses
    #[arg(short)]
    pub(crate) quiet: bool,
}

/// A process that a stub of the GDB remote protocol holds.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RemoteArgs {
    /// Probe the process that a GDB stub holds (gdbserver, an emulator's): HOST:PORT, unix:PATH or '|COMMAND'; with -p or --
    /// it is told to attach to or to start one
    #[arg(long, value_name = "REMOTE")]
    pub(crate) remote: Option<String>,
    /// Take the remote target's files from below DIR
    #[arg(long, value_name = "DIR", requires = "remote")]
    pub(crate) sysroot: Option<PathBuf>,
}

impl RemoteArgs {
    /// The place that was named, with this process of it.
    pub(crate) fn place(&self, process: Process) -> Option<Place> {
        Some(Place { endpoint: self.remote.clone()?, sysroot: self.sysroot.clone(), process })
    }
}

/// What `stat` and `trace` have in common.
#[derive(Args, Clone, Debug)]
pub(crate) struct SessionArgs {
    /// What to probe: [KIND:]PATH:NAME, e.g. libc:malloc, ./server:handle_*, /bin/ls:main+0x10
    #[arg(required = true, value_name = "PROBE")]
    pub(crate) probes: Vec<String>,
    /// Probe running processes
    #[arg(short, value_name = "PID[,PID...]", value_delimiter = ',', value_parser = pid())]
    pub(crate) pid: Vec<u32>,
    /// Start a command and probe it
    #[arg(last = true, value_name = "CMD ARG")]
    pub(crate) command: Vec<OsString>,
    /// Probe children too: forked ones, and whatever is executed
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// In a process with a seccomp filter, make any system call that helps (the filter may kill the process for it)
    #[arg(long)]
    pub(crate) inject_freely: bool,
    /// Remove the probes after TIME (500ms, 10s, 2m), counted from the moment all are armed
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Keep each probe below N hits a second on average: out for a while after N (what is counted stays exact)
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) max_rate: Option<u64>,
    /// Remove the probes after N hits of all together
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) max_hits: Option<u64>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// Order of the table
    #[arg(long, value_enum, default_value_t = SortBy::Hits)]
    pub(crate) sort: SortBy,
    /// Show the first N lines of the table only
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) top: Option<u64>,
    /// Print what was counted in each TIME
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub(crate) interval: Option<Duration>,
}

/// What the table of `stat` is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// Most hits first
    Hits,
    /// Most lost hits first
    Lost,
    /// By name
    Name,
    /// By address
    Address,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Which probes to list, e.g. 'libc:mall*'
    #[arg(required_unless_present_any = ["pid", "remote"])]
    pub(crate) pattern: Option<String>,
    /// List what this process has mapped
    #[arg(short, value_name = "PID", value_parser = pid())]
    pub(crate) pid: Option<u32>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// The probe to explain
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) probe: Option<String>,
    /// Count how each instruction of FILE would be probed, as if it were the only one
    #[arg(long, value_name = "FILE")]
    pub(crate) all: Option<String>,
    /// Explain it in this process; else at the file's usual load address
    #[arg(short, value_name = "PID", value_parser = pid())]
    pub(crate) pid: Option<u32>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CoherenceArgs {
    /// The instruction set; without it, all are listed
    #[arg(value_parser = PossibleValuesParser::new(coherence::Architecture::names()), hide_possible_values = true)]
    pub(crate) isa: Option<String>,
    /// Only these caches
    #[arg(long, value_name = "CACHE", requires = "isa")]
    pub(crate) cache: Option<String>,
    /// Only this way to write code
    #[arg(long, value_enum, requires = "isa")]
    pub(crate) writer: Option<WriterName>,
    /// Leave this step out, by its name, and see what goes wrong
    #[arg(long, value_name = "STEP", requires = "isa")]
    pub(crate) omit: Option<String>,
    /// With what this kernel does for a debugger's write, e.g. 6.12.116; else the newest known
    #[arg(long, value_name = "VERSION", requires = "isa", value_parser = kernel_version)]
    pub(crate) kernel: Option<KernelVersion>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How code bytes get into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WriterName {
    /// /proc/PID/mem or ptrace
    DebuggerWrite,
    /// The tracer's own mapping of the pages
    StoreThroughAlias,
    /// process_vm_writev
    ProcessVmWritev,
    /// A thread of the target
    TargetStore,
}

fn kernel_version(text: &str) -> Result<KernelVersion, String> {
    KernelVersion::of_release(text).ok_or_else(|| "give it as MAJOR.MINOR or MAJOR.MINOR.PATCH".to_owned())
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    /// Examine this process too
    #[arg(short, value_name = "PID", value_parser = pid())]
    pub(crate) pid: Option<u32>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DetachArgs {
    /// The process
    #[arg(short, value_name = "PID", value_parser = pid())]
    pub(crate) pid: u32,
    /// Say nothing but errors
    #[arg(short)]
    pub(crate) quiet: bool,
}

/// Arguments of a command that does not exist yet: whatever they are, the answer is the same.
#[derive(Args, Clone, Debug)]
pub(crate) struct LaterArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) rest: Vec<OsString>,
}

/// The process of a remote that `-p` names, or the one it holds.
pub(crate) fn attached(pid: Option<u32>) -> Process {
    pid.map_or(Process::Held, Process::Attach)
}

impl SessionArgs {
    /// The remote's process, if a remote was named.
    pub(crate) fn place(&self, verb: &'static str) -> Result<Option<Place>, Failure> {
        if self.remote.remote.is_none() {
            return Ok(None);
        }
        let asked = [
            (self.follow, "--follow"),
            (self.inject_freely, "--inject-freely"),
            (self.max_rate.is_some(), "--max-rate"),
        ];
        if let Some((_, option)) = asked.into_iter().find(|(is_asked, _)| *is_asked) {
            return Err(Failure::NotAvailable(format!("{option} with --remote")));
        }
        let process = match (self.pid.as_slice(), self.command.is_empty()) {
            ([], true) => Process::Held,
            ([pid], true) => Process::Attach(*pid),
            ([], false) => Process::Spawn(self.command.clone()),
            ([_, _, ..], true) => {
                return Err(Failure::NotAvailable("several processes with --remote".to_owned()));
            }
            _ => return Err(Failure::Usage { verb, problem: "two targets" }),
        };
        Ok(self.remote.place(process))
    }

    /// The target that was named, if exactly one was.
    pub(crate) fn target(&self, verb: &'static str) -> Result<Target, Failure> {
        match (self.pid.is_empty(), self.command.is_empty()) {
            (false, true) => {
                let mut pids = self.pid.clone();
                pids.sort_unstable();
                pids.dedup();
                Ok(Target::Attach(pids))
            }
            (true, false) => Ok(Target::Spawn(self.command.clone())),
            (true, true) => Err(Failure::Usage { verb, problem: "no target" }),
            (false, false) => Err(Failure::Usage { verb, problem: "two targets" }),
        }
    }

    /// Refuses probes that are badly written or not built yet.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for probe in &self.probes {
            xol::catalogue::parse(probe)?;
        }
        Ok(())
    }
}

/// A process number: 1 to the kernel's limit (`PID_MAX_LIMIT`, 2^22).
fn pid() -> ValueParser {
    value_parser!(u32).range(1..=1 << 22).into()
}

/// A time such as `500ms`, `10s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "a time is a whole number with ms, s or m: 500ms, 10s, 2m";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| HOW.to_string())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => return Err(HOW.into()),
    };
    milliseconds.map(Duration::from_millis).ok_or_else(|| "the time is too long".into())
}

/// A duration that is not zero.
fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("an interval of 0 never ends".into()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn session(line: &str) -> SessionArgs {
        match parse(line).unwrap().command {
            Some(Command::Stat(args)) => args.session,
            Some(Command::Trace(args)) => args.session,
            other => panic!("{other:?}"),
        }
    }

    fn error(line: &str) -> clap::Error {
        match parse(line) {
            Err(error) => error,
            Ok(cli) => panic!("{line} parsed as {cli:?}"),
        }
    }

    #[test]
    fn definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn target_is_pids_or_a_command() {
        assert_eq!(session("xol stat libc:a -p 7").target("stat").unwrap(), Target::Attach(vec![7]));
        assert_eq!(
            session("xol stat libc:a -p 9,7 -p 7").target("stat").unwrap(),
            Target::Attach(vec![7, 9])
        );
        let spawn = session("xol trace libc:a libc:b --json -- ls -l -p 1");
        assert_eq!(spawn.probes, ["libc:a", "libc:b"]);
        let words = ["ls", "-l", "-p", "1"].map(OsString::from).to_vec();
        assert_eq!(spawn.target("trace").unwrap(), Target::Spawn(words));
    }

    #[test]
    fn neither_and_both_show_both_forms_in_one_line() {
        for line in ["xol stat libc:a", "xol stat libc:a --", "xol stat libc:a -p 1 -- ls"] {
            let failure = session(line).target("stat").unwrap_err();
            let text = failure.to_string();
            assert_eq!(failure.status(), 2, "{line}");
            assert!(text.contains("xol stat PROBE... -p PID[,PID...]"), "{text}");
            assert!(text.contains("xol stat PROBE... -- CMD ARG..."), "{text}");
            assert!(!text.contains('\n'));
        }
    }

    #[test]
    fn wrong_arguments_are_wrong_usage() {
        for line in [
            "xol stat",
            "xol stat -p 7",
            "xol stat libc:a -p x",
            "xol stat libc:a -p 0",
            "xol stat libc:a -p -7",
            "xol stat libc:a -p 1,,2",
            "xol stat libc:a -p 99999999",
            "xol stat libc:a -p 1 --duration 10",
            "xol stat libc:a -p 1 --duration s",
            "xol stat libc:a -p 1 --duration 1h",
            "xol stat libc:a -p 1 --duration 1.5s",
            "xol stat libc:a -p 1 --duration 99999999999999999999s",
            "xol stat libc:a -p 1 --duration 18446744073709551615m",
            "xol stat libc:a -p 1 --interval 0s",
            "xol stat libc:a -p 1 --max-hits 0",
            "xol stat libc:a -p 1 --max-rate 0",
            "xol stat libc:a -p 1 --max-hits many",
            "xol stat libc:a -p 1 --top 0",
            "xol stat libc:a -p 1 --sort colour",
            "xol trace libc:a -p 1 --sort hits",
            "xol trace libc:a -p 1 --interval 1s",
            "xol stat libc:a -p 1 -o",
            "xol stat libc:a -p 1 --unsafe",
            "xol list",
            "xol list --json",
            "xol explain",
            "xol detach",
            "xol doctor libc:a",
            "xol frobnicate",
        ] {
            assert_eq!(error(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_is_not_an_error() {
        assert_eq!(error("xol --help").kind(), ErrorKind::DisplayHelp);
        assert_eq!(error("xol stat --help").exit_code(), 0);
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("").is_err());
        assert!(duration("1 s").is_err());
    }

    #[test]
    fn probes_are_read_before_anything_is_done() {
        let check = |probe: &str| {
            session(&format!("xol stat {probe} -p 1")).check().map_err(|failure| failure.status())
        };
        assert_eq!(check("uprobe:libc:malloc"), Ok(()));
        assert_eq!(check("uretprobe:libc:malloc"), Err(2));
        assert_eq!(check("usdt:libc:malloc"), Err(2));
        assert_eq!(check("malloc"), Err(2));
        assert_eq!(check("libc:malloc+x"), Err(2));
    }

    #[test]
    fn commands_of_the_future_take_anything() {
        for line in [
            "xol lat libc:a -p 1",
            "xol tree",
            "xol run -f json -e x -- ls",
            "xol coherence alpha",
            "xol run --help",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }
}
