//! The beginning of a session.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use insn::place::Room;
use program::clock::Clock;
use program::ring::Reader;
use program::stub::{Environment, Routines};
use target::holder::{Attached, Client, Reply, Request};
use target::sys::shared::SharedMap;
use target::{TargetError, Tid, recover};

use super::install::Installed;
use super::modules::{Module, ModuleKey};
use super::rows::{Rows, Wanted};
use super::types::{Action, Error, LostBy, Options, Progress, SiteStatus, Target};
use crate::catalogue::system;
use crate::files::System;

/// A target with armed probes.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    pub(super) pid: i32,
    pub(super) is_command: bool,
    pub(super) action: Action,
    pub(super) wanted: Vec<Wanted>,
    pub(super) rows: Rows,
    pub(super) modules: Vec<Module>,
    pub(super) installed: BTreeMap<insn::Address, Installed>,
    pub(super) routines: BTreeMap<ModuleKey, Routines>,
    pub(super) room: Room,
    pub(super) environment: Option<Environment>,
    pub(super) shared: Option<SharedMap>,
    /// Keeps the shared state's memory when the target and the holder are gone.
    pub(super) state_file: Option<File>,
    pub(super) reader: Option<Reader>,
    pub(super) clock: Clock,
    pub(super) armed_at: u64,
    /// How the process ended: exit status or signal.
    pub(super) ended: Option<(Option<i32>, Option<i32>)>,
    /// The program replaced itself: what was probed is gone, the process lives.
    pub(super) replaced: bool,
    pub(super) removed: bool,
    pub(super) holder_died: bool,
    /// What the front did when its holder had died.
    pub(super) recovered: Option<target::engine::Left>,
    pub(super) shadow_stack: bool,
    pub(super) warnings: Vec<String>,
    pub(super) final_hits: Option<Vec<u64>>,
    /// Since when a ring waits for a record that is not finished.
    pub(super) stalled: Option<std::time::Instant>,
}

impl Session {
    /// Resolves, plans, attaches and arms.
    ///
    /// # Errors
    /// See [`Error`]; the target is as it was.
    pub fn start(options: Options, progress: &mut dyn Progress) -> Result<Self, Error> {
        let wanted = options.specs.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let (client, pid, rows, held) = match &options.target {
            Target::Attach(pids) => Self::attach(pids, &wanted)?,
            Target::Spawn(command) => Self::spawn(command, &wanted)?,
        };
        let mut session = Self::new(client, pid, held.is_some(), options.action, wanted, rows);
        if let Err(error) = session.begin(held, progress) {
            // Whatever was done is undone by the holder; the command of `-- CMD` goes on unprobed.
            let _ = session.take_out();
            let restored = session.recovered.as_ref().is_some_and(|left| left.verified);
            let outcome = if restored { "its text is restored" } else { "its text may not be restored" };
            return Err(if session.holder_died { Error::HolderDied { outcome } } else { error });
        }
        Ok(session)
    }

    fn begin(&mut self, held: Option<Tid>, progress: &mut dyn Progress) -> Result<(), Error> {
        self.warn_of_surroundings();
        self.arm(true, progress)?;
        if let Some(tid) = held {
            self.client.request(&Request::Go { tid })?;
        }
        self.armed_at = target::sys::clock::monotonic();
        Ok(())
    }

    fn new(
        client: Client,
        pid: i32,
        is_command: bool,
        action: Action,
        wanted: Vec<Wanted>,
        rows: Rows,
    ) -> Self {
        Self {
            client,
            pid,
            is_command,
            action,
            wanted,
            rows,
            modules: Vec::new(),
            installed: BTreeMap::new(),
            routines: BTreeMap::new(),
            room: Room { free: Vec::new(), areas: Vec::new() },
            environment: None,
            shared: None,
            state_file: None,
            reader: None,
            clock: Clock::new(),
            armed_at: 0,
            ended: None,
            replaced: false,
            removed: false,
            holder_died: false,
            recovered: None,
            shadow_stack: false,
            warnings: Vec::new(),
            final_hits: None,
            stalled: None,
        }
    }

    /// Attaches to a running process.
    fn attach(pids: &[u32], wanted: &[Wanted]) -> Result<(Client, i32, Rows, Option<Tid>), Error> {
        let [pid] = pids else { return Err(Error::NotAvailable("tracing several processes at once")) };
        let number = i32::try_from(*pid).map_err(|_| TargetError::NoSuchProcess { pid: -1 })?;
        check_kind(number)?;
        let rows = expect(wanted, &system(Some(*pid))?)?;
        // The holder is forked before large files are read... but after all that can fail without it.
        let mut client = Client::start()?;
        refuse_leftovers(number)?;
        client.request(&Request::Attach { pid: number })?;
        Ok((client, number, rows, None))
    }

    /// Starts a command, held at its first instruction.
    fn spawn(
        command: &[std::ffi::OsString],
        wanted: &[Wanted],
    ) -> Result<(Client, i32, Rows, Option<Tid>), Error> {
        let name = command.first().map(|name| name.as_os_str()).unwrap_or_default();
        let mut client = Client::start()?;
        let rows = expect(wanted, &System::here())?;
        let request = Request::Spawn {
            paths: candidates(name),
            argv: command.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        };
        match client.request(&request) {
            Ok(Reply::Attached(Attached { pid, held, .. })) => Ok((client, pid, rows, held)),
            Ok(_) => Err(TargetError::Line("a strange answer".to_owned()).into()),
            Err(TargetError::Exec { source }) => Err(Error::Command {
                command: name.to_string_lossy().into_owned(),
                source: std::io::Error::from_raw_os_error(source.0),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// What the user should know of machine and process before reading the results.
    fn warn_of_surroundings(&mut self) {
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let status = symbols::status::Status::parse(&status);
        self.shadow_stack = status.shadow_stack;
        let flags = super::install::cpu_flags();
        if self.action == Action::Trace && !(flags.contains("constant_tsc") && flags.contains("nonstop_tsc"))
        {
            self.warnings.push(
                "the CPU's time stamp counter is not constant: times of different CPUs are not to be compared"
                    .to_owned(),
            );
        }
    }

    /// `CLOCK_MONOTONIC` in nanoseconds when the last probe was armed.
    #[must_use]
    pub fn armed_at(&self) -> u64 {
        self.armed_at
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// All sites, with their counts so far.
    #[must_use]
    pub fn sites(&self) -> Vec<SiteStatus> {
        let live = match (&self.environment, &self.shared) {
            (Some(environment), Some(shared)) => environment.layout.all_hits(shared),
            _ => Vec::new(),
        };
        let hits = self.final_hits.as_ref().unwrap_or(&live);
        self.rows.all.iter().map(|row| self.status(row, hits)).collect()
    }

    fn status(&self, row: &super::rows::Row, hits: &[u64]) -> SiteStatus {
        let lost_by = self.lost_by(row.counter);
        let (mechanism, reason) = super::install::shown(&row.standing);
        let index = usize::try_from(row.counter).unwrap_or(usize::MAX);
        SiteStatus {
            probe: row.probe.clone(),
            spec: self.wanted.get(row.wanted).map(|wanted| wanted.spec.text.clone()).unwrap_or_default(),
            pid: self.pid.cast_unsigned(),
            address: row.address.map(|address| address.0),
            file_address: row.file_address.0,
            mechanism,
            hits: hits.get(index).copied().unwrap_or(0),
            lost: lost_by.total(),
            lost_by,
            reason,
        }
    }

    fn lost_by(&self, probe: u32) -> LostBy {
        use program::layout::Loss;
        let (Some(environment), Some(shared)) = (&self.environment, &self.shared) else {
            return LostBy::default();
        };
        let lost = |reason| environment.layout.lost(shared, probe, reason);
        LostBy {
            ring_full: lost(Loss::RingFull),
            nested: lost(Loss::Nested),
            abandoned: self.reader.as_ref().map_or(0, |reader| reader.abandoned(probe)),
            no_slot: lost(Loss::NoSlot),
        }
    }
}

/// Rows for everything wanted, before anything is touched.
fn expect(wanted: &[Wanted], system: &System) -> Result<Rows, Error> {
    let mut rows = Rows::default();
    for (index, wanted) in wanted.iter().enumerate() {
        rows.expect(index, wanted, system)?;
    }
    Ok(rows)
}

/// A process of a kind that we can probe: 64-bit, with no system-call filter in the way.
fn check_kind(pid: i32) -> Result<(), TargetError> {
    let header =
        std::fs::read(format!("/proc/{pid}/status")).map_err(|_| TargetError::NoSuchProcess { pid })?;
    let status = symbols::status::Status::parse(&header);
    if matches!(status.state, Some('Z' | 'X')) {
        return Err(TargetError::NoSuchProcess { pid });
    }
    if let Some(tracer) = status.tracer.filter(|&tracer| tracer != 0) {
        return Err(TargetError::AlreadyTraced { pid, tracer });
    }
    if status.seccomp == Some(2) {
        let why =
            "it has a seccomp filter, and a system call that xol makes in it might be its death".to_owned();
        return Err(TargetError::Unsupported { pid, why });
    }
    check_class(pid)
}

fn check_class(pid: i32) -> Result<(), TargetError> {
    use std::io::Read;
    let mut header = [0; 20];
    let mut open = || File::open(format!("/proc/{pid}/exe"))?.read_exact(&mut header);
    if open().is_err() {
        return Ok(()); // the holder's own attempt says what is wrong
    }
    let machine = u16::from_le_bytes([header[18], header[19]]);
    let why = match (header[4], machine) {
        (2, 62) => return Ok(()),
        (1, _) => "it is a 32-bit process",
        _ => "it is a process of a foreign machine",
    };
    Err(TargetError::Unsupported { pid, why: why.to_owned() })
}

/// What a killed xol left is offered for removal, not worked around: its patches are in the text that we would analyse.
fn refuse_leftovers(pid: i32) -> Result<(), Error> {
    let found = recover::find(pid).unwrap_or_default();
    let sites = found.iter().map(|(_, description)| description.entries.len()).sum();
    if sites > 0 { Err(Error::Leftovers { pid, sites }) } else { Ok(()) }
}

/// The files that a command's name may mean: as execvp(3) would try them.
fn candidates(name: &OsStr) -> Vec<Vec<u8>> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.as_bytes().to_vec()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name).as_os_str().as_bytes().to_vec()).collect()
}
