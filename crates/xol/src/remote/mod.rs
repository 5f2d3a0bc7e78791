//! Sessions on a process that a stub of the GDB remote protocol holds: gdbserver, an emulator's, an embedded board's.
//!
//! Every site is a breakpoint, and this process carries each hit out ([`target::stepper`]); what is counted and recorded is
//! told by the same types as of any [`crate::session`].

mod explain;
mod modules;
mod rows;
mod text;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use insn::Address;
use remote::{Client, Endpoint, Link, RemoteError};
use symbols::spec::PathPattern;
use target::TargetError;
use target::remote::RemoteProcess;
use target::stepper::{End, Removal, Stepper, Wanted};
use target::sys::clock::monotonic;
use target::tracee::Tracee;

use crate::catalogue;
use crate::session::{Action, Error, Hit, LostBy, Mechanism, SiteStatus, State, Summary};

pub(crate) use explain::stepped;
pub use explain::{explain, list, mapped};
use modules::{Modules, Process as Held};
use rows::{Rows, Standing};
pub(crate) use text::Text;

/// How long a remote may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the program may take to stop at the end.
const TO_STOP: Duration = Duration::from_secs(10);
/// The loader's function that it calls when libraries came or went (glibc's elf/dl-debug.c).
const LOADER_TELLS: &str = "_dl_debug_state";

/// Which process of the remote's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// The one it holds.
    Held,
    /// A running one, by its number there.
    Attach(u32),
    /// One to be started there: the program and its arguments.
    Spawn(Vec<OsString>),
}

/// Where the process is.
#[derive(Clone, Debug)]
pub struct Place {
    /// `HOST:PORT`, `unix:PATH`, `|COMMAND`.
    pub endpoint: String,
    /// A folder with the target's files; else they are had from the remote, or from here.
    pub sysroot: Option<PathBuf>,
    /// Which process.
    pub process: Process,
}

/// What a session is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The process.
    pub place: Place,
    /// The probes, as typed.
    pub specs: Vec<String>,
    /// What each hit does.
    pub action: Action,
}

/// A process with armed probes.
#[derive(Debug)]
pub struct RemoteSession {
    stepper: Stepper<Held>,
    modules: Modules,
    rows: Rows,
    at: HashMap<Address, Vec<usize>>,
    armed_at: u64,
    warnings: Vec<String>,
    said: usize,
    /// The remote is gone, and why.
    lost: Option<TargetError>,
    is_spawned: bool,
}

impl Place {
    /// Reaches the process, which stands still then.
    fn connect(&self) -> Result<Held, TargetError> {
        let endpoint: Endpoint = self.endpoint.parse()?;
        let mut client = Client::connect(endpoint.connect(PATIENCE)?, PATIENCE)?;
        let stop = match &self.process {
            Process::Held => client.halted()?,
            Process::Attach(pid) => {
                let stop = extended(&client).and_then(|()| client.attach(u64::from(*pid)));
                stop.map_err(|error| TargetError::Remote(format!("cannot attach to process {pid}: {error}")))?
            }
            Process::Spawn(words) => {
                let command: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                let stop = extended(&client).and_then(|()| client.run(&command));
                let name = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
                stop.map_err(|error| TargetError::Remote(format!("cannot start {name}: {error}")))?
            }
        };
        RemoteProcess::new(client, &stop, is_here(&endpoint))
    }

    /// Leaves a process as it was found: one that was attached to runs on, one that the remote held is still its own.
    fn leave(&self, process: &mut Held) -> Result<(), TargetError> {
        match self.process {
            Process::Attach(_) => process.detach(),
            Process::Held | Process::Spawn(_) => Ok(()),
        }
    }
}

/// Whether a remote is on this machine, as far as its name tells.
fn is_here(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Tcp(address) => {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            ["localhost", "127.0.0.1", "[::1]", "::1"].contains(&host)
        }
        _ => true,
    }
}

/// Tells a hit of a place once for each row that is there.
fn teller<'a>(
    at: &'a HashMap<Address, Vec<usize>>,
    pid: u32,
    on_hit: &'a mut dyn FnMut(Hit),
) -> impl FnMut(target::stepper::Hit) + 'a {
    move |hit| {
        for site in at.get(&hit.site).into_iter().flatten() {
            let tid = hit.tid.0.cast_unsigned();
            on_hit(Hit { time_ns: hit.time_ns, pid, tid, site: *site, args: hit.args });
        }
    }
}

/// Attaching and starting are the extended protocol's.
fn extended(client: &Client<Link>) -> Result<(), RemoteError> {
    if client.features().extended {
        return Ok(());
    }
    Err(RemoteError::Unsupported { sent: "!".to_owned(), what: "attach to a process or start a command" })
}

/// The file that the first PROBE names by a path, if one does.
fn hint(specs: &[symbols::Spec]) -> Option<PathBuf> {
    specs.iter().find_map(|spec| match &spec.path {
        PathPattern::Named(path) if path.contains('/') => Some(PathBuf::from(path)),
        _ => None,
    })
}

impl RemoteSession {
    /// Reaches the process and arms the probes; it runs from the first [`Self::poll`] on.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left in the process then.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let specs = options.specs.iter().map(|spec| catalogue::parse(spec)).collect::<Result<Vec<_>, _>>()?;
        let mut process = options.place.connect()?;
        let hint = hint(&specs);
        let modules = Modules::of(&mut process, options.place.sysroot.as_deref(), hint.as_deref());
        let modules = match modules {
            Ok(modules) => modules,
            Err(error) => {
                let _ = process.detach();
                return Err(error.into());
            }
        };
        let gates = modules.gates(&mut process);
        let is_emulated = process.is_emulated();
        let can_be_interrupted = process.can_be_interrupted();
        let stepper = Stepper::new(process, options.action == Action::Trace, gates)?;
        let mut session = Self {
            stepper,
            modules,
            rows: Rows::new(specs, options.specs.clone()),
            at: HashMap::new(),
            armed_at: 0,
            warnings: Vec::new(),
            said: 0,
            lost: None,
            is_spawned: matches!(options.place.process, Process::Spawn(_)),
        };
        if is_emulated {
            session.warnings.push(
                "an emulator runs the program: only programs of one thread are probed safely there, and code that \
                 real processors would still have old in their caches never shows"
                    .to_owned(),
            );
        }
        if !can_be_interrupted {
            session.warnings.push(
                "the remote cannot stop the program while it runs: the probes can only be taken out when one is hit"
                    .to_owned(),
            );
        }
        match session.begin() {
            Ok(()) => Ok(session),
            Err(error) => {
                let _ = session.stepper.remove(TO_STOP, &mut |_| {});
                Err(error)
            }
        }
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.rows.update(&self.modules, self.stepper.tracee(), true)?;
        self.watch_loader();
        self.arm(true)?;
        self.armed_at = monotonic();
        Ok(())
    }

    /// A breakpoint where the loader tells of libraries; a remote that tells of them itself does as well.
    fn watch_loader(&mut self) {
        let Some(loader) = self.modules.loader(self.stepper.tracee()) else { return };
        let Some((at, isa, expected)) = loader.function(LOADER_TELLS) else { return };
        if let Ok(armed) = self.stepper.install(&[Wanted { at, isa, expected, branch: None }])
            && armed.iter().all(Result::is_ok)
        {
            self.stepper.watch(at);
        }
    }

    /// Arms what has an address and is not armed yet.
    fn arm(&mut self, strict: bool) -> Result<(), Error> {
        let wanted = self.rows.to_arm();
        let places: Vec<Wanted> = wanted.iter().map(|(_, place)| place.clone()).collect();
        let answers = self.stepper.install(&places)?;
        for ((row, place), answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    self.rows.all[row].standing = Standing::Armed;
                    self.at.entry(place.at).or_default().push(row);
                }
                Err(refusal) => self.rows.refuse(row, &place, &refusal.to_string()),
            }
        }
        if strict && let Some(row) = self.rows.refused_exactly() {
            return Err(Error::Refused { probe: row.probe.clone(), pid: None, reason: row.reason() });
        }
        Ok(())
    }

    /// When all probes were armed: `CLOCK_MONOTONIC`, nanoseconds.
    #[must_use]
    pub fn armed_at(&self) -> u64 {
        self.armed_at
    }

    /// How every site stands; sites are only ever added at the end.
    #[must_use]
    pub fn sites(&self) -> Vec<SiteStatus> {
        let pid = self.pid();
        let status = |row: &rows::Row| SiteStatus {
            probe: row.probe.clone(),
            spec: self.rows.typed(row).to_owned(),
            pid,
            address: row.address.map(|address| address.0),
            file_address: row.file_address.0,
            mechanism: match row.standing {
                Standing::Armed => Mechanism::Trap,
                Standing::Refused(_) => Mechanism::Refused,
                Standing::Waiting | Standing::Mapped => Mechanism::Waiting,
            },
            hits: row.address.map_or(0, |address| self.stepper.hits(address)),
            lost: 0,
            lost_by: LostBy::default(),
            reason: match &row.standing {
                Standing::Armed => None,
                _ => Some(row.reason()),
            },
            sampled: None,
        };
        self.rows.all.iter().map(status).collect()
    }

    fn pid(&self) -> u32 {
        self.rows.pid
    }

    /// What the user should know; only ever added to.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Lets the process run for a while.
    ///
    /// # Errors
    /// See [`Error`]. A remote that is gone is the end, and told by [`Self::remove`].
    pub fn poll(&mut self, timeout: Duration, on_hit: &mut dyn FnMut(Hit)) -> Result<State, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let ran = self.stepper.run(deadline, &mut teller(&self.at, self.rows.pid, &mut *on_hit));
            let news = match ran {
                Ok(news) => news,
                Err(error) => {
                    self.lost = Some(error);
                    return Ok(State::Ended);
                }
            };
            self.collect_warnings();
            if news.ended {
                return Ok(State::Ended);
            }
            if !news.libraries {
                return Ok(State::Running);
            }
            if self.modules.update(self.stepper.tracee()) {
                self.rows.update(&self.modules, self.stepper.tracee(), false)?;
                self.arm(false)?;
                self.collect_warnings();
            }
        }
    }

    fn collect_warnings(&mut self) {
        self.warnings.append(&mut self.modules.notes);
        let new = self.stepper.warnings().iter().skip(self.said);
        self.warnings.extend(new.cloned());
        self.said = self.stepper.warnings().len();
    }

    /// Takes everything out and lets go of the process. The last hits, and how everything stands at the end.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn remove(&mut self, on_hit: &mut dyn FnMut(Hit)) -> Result<(Vec<SiteStatus>, Summary), Error> {
        let removed = match self.lost.take() {
            Some(error) if !self.stepper.tracee().client().is_good() => Err(error),
            lost => {
                self.warnings.extend(lost.map(|error| format!("{error}: the session ends with that")));
                self.stepper.remove(TO_STOP, &mut teller(&self.at, self.rows.pid, on_hit))
            }
        };
        self.collect_warnings();
        let (removal, is_known) = match removed {
            Ok(removal) => (removal, true),
            Err(error) => {
                self.warnings.push(format!(
                    "{error}: the probes are still in the program, unless the remote has taken them out; without it, \
                     a thread that meets one is killed by SIGTRAP"
                ));
                (Removal::default(), false)
            }
        };
        self.warnings.extend(removal.problems.iter().cloned());
        if let Some(End::Executed(path)) = self.stepper.end() {
            self.warnings.push(format!(
                "the process executes {path} now: what was probed is gone, and the session over"
            ));
        }
        let sites = self.sites();
        let summary = self.summary(&sites, &removal, is_known);
        Ok((sites, summary))
    }

    fn summary(&self, sites: &[SiteStatus], removal: &Removal, is_known: bool) -> Summary {
        let count = |kind: Mechanism| sites.iter().filter(|site| site.mechanism == kind).count() as u64;
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (mappings, resident) = self.stepper.area();
        let (stopped, longest) = self.stepper.stopped();
        Summary {
            trap: count(Mechanism::Trap),
            refused: count(Mechanism::Refused),
            waiting: count(Mechanism::Waiting),
            hits: sites.iter().map(|site| site.hits).fold(0, u64::saturating_add),
            threads: self.stepper.threads_seen() as u64,
            stopped_us: microseconds(stopped),
            longest_stop_us: microseconds(longest),
            text_restored: is_known && removal.not_restored.is_empty(),
            left_mapped: removal.left_mapped,
            mappings,
            resident,
            hit_cost_ns: self.stepper.cost().map(|cost| u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX)),
            warnings: self.warnings.clone(),
            ..Summary::default()
        }
    }

    /// How a command that was started came to its end, as far as that was seen.
    #[must_use]
    pub fn wait(self) -> Option<ExitStatus> {
        match self.stepper.end() {
            Some(End::Exited(status)) if self.is_spawned => Some(ExitStatus::from_raw(status << 8)),
            Some(End::Killed(signal)) if self.is_spawned => Some(ExitStatus::from_raw(*signal)),
            _ => None,
        }
    }
}
