//! The beginning of a session.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use program::clock::Clock;
use target::holder::{Attached, Client, Manner, Reply, Request, Space};
use target::{TargetError, Tid, recover};

use super::rows::{Rows, Wanted};
use super::traced::Traced;
use super::types::{Action, Error, Options, Progress, SiteStatus, Target};
use crate::catalogue::system;
use crate::files::System;

/// What all address spaces of a session have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) client: Client,
    pub(super) action: Action,
    pub(super) manner: Manner,
    pub(super) wanted: Vec<Wanted>,
    pub(super) clock: Clock,
    pub(super) warnings: Vec<String>,
}

/// A target with armed probes: one process, or several.
#[derive(Debug)]
pub struct Session {
    pub(super) common: Common,
    /// Every address space that was ever probed, in the order of its coming.
    pub(super) traced: Vec<Traced>,
    /// Where each site is: index into `traced`, and of the row there. Only ever added to.
    pub(super) sites: Vec<(usize, usize)>,
    pub(super) is_command: bool,
    pub(super) armed_at: u64,
    /// How the command ended: exit status or signal.
    pub(super) ended: Option<(Option<i32>, Option<i32>)>,
    pub(super) removed: bool,
    pub(super) holder_died: bool,
}

/// An address space in the holder's hands, before anything is done to it.
struct Taken {
    space: Space,
    pid: i32,
    rows: Rows,
    /// The thread of a command that stands at its first instruction.
    held: Option<Tid>,
}

impl Session {
    /// Resolves, plans, attaches and arms.
    ///
    /// # Errors
    /// See [`Error`]; the target is as it was.
    pub fn start(options: Options, progress: &mut dyn Progress) -> Result<Self, Error> {
        let wanted = options.specs.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let manner = Manner { follow: options.follow, inject_freely: options.inject_freely };
        let (client, taken) = match &options.target {
            Target::Attach(pids) => Self::attach(pids, &wanted, manner)?,
            Target::Spawn(command) => Self::spawn(command, &wanted, manner)?,
        };
        let common = Common {
            client,
            action: options.action,
            manner,
            wanted,
            clock: Clock::new(),
            warnings: Vec::new(),
        };
        let mut session = Self::new(common, matches!(options.target, Target::Spawn(_)));
        if let Err(error) = session.begin(taken, progress) {
            // Whatever was done is undone by the holder; the command of `-- CMD` goes on unprobed.
            let _ = session.take_out();
            let restored = session.traced.iter().all(|traced| traced.is_restored());
            let outcome = if restored { "its text is restored" } else { "its text may not be restored" };
            return Err(if session.holder_died { Error::HolderDied { outcome } } else { error });
        }
        Ok(session)
    }

    fn new(common: Common, is_command: bool) -> Self {
        Self {
            common,
            traced: Vec::new(),
            sites: Vec::new(),
            is_command,
            armed_at: 0,
            ended: None,
            removed: false,
            holder_died: false,
        }
    }

    fn begin(&mut self, taken: Vec<Taken>, progress: &mut dyn Progress) -> Result<(), Error> {
        self.warn_of_surroundings();
        let mut held = Vec::new();
        for one in taken {
            held.extend(one.held.map(|tid| (one.space, tid)));
            self.traced.push(Traced::new(one.space, one.pid, one.rows));
        }
        let armed = self.arm_all(true, progress);
        self.index_sites();
        armed?;
        for (space, tid) in held {
            self.common.client.request(&Request::Go { space, tid })?;
        }
        self.armed_at = target::sys::clock::monotonic();
        Ok(())
    }

    /// Brings every address space in line with what is wanted.
    pub(super) fn arm_all(&mut self, first: bool, progress: &mut dyn Progress) -> Result<(), Error> {
        let Self { common, traced, .. } = self;
        let result = traced
            .iter_mut()
            .filter(|one| one.is_live())
            .try_for_each(|one| one.arm(common, first, progress));
        self.index_sites();
        result
    }

    /// Gives every new row the number of a site.
    pub(super) fn index_sites(&mut self) {
        for (index, traced) in self.traced.iter_mut().enumerate() {
            for row in traced.sites.len()..traced.rows.all.len() {
                traced.sites.push(self.sites.len());
                self.sites.push((index, row));
            }
        }
    }

    /// Attaches to running processes.
    fn attach(pids: &[u32], wanted: &[Wanted], manner: Manner) -> Result<(Client, Vec<Taken>), Error> {
        let mut expected = Vec::new();
        for pid in pids {
            let number = i32::try_from(*pid).map_err(|_| TargetError::NoSuchProcess { pid: -1 })?;
            check_kind(number)?;
            expected.push((number, expect(wanted, &system(Some(*pid))?)?));
        }
        // The holder is forked before large files are read... but after all that can fail without it.
        let mut client = Client::start()?;
        for (pid, _) in &expected {
            refuse_leftovers(*pid)?;
        }
        let mut taken = Vec::new();
        for (pid, rows) in expected {
            let Reply::Attached(Attached { space, pid, held, .. }) =
                client.request(&Request::Attach { pid, manner })?
            else {
                return Err(strange());
            };
            taken.push(Taken { space, pid, rows, held });
        }
        Ok((client, taken))
    }

    /// Starts a command, held at its first instruction.
    fn spawn(
        command: &[std::ffi::OsString],
        wanted: &[Wanted],
        manner: Manner,
    ) -> Result<(Client, Vec<Taken>), Error> {
        let name = command.first().map(|name| name.as_os_str()).unwrap_or_default();
        let mut client = Client::start()?;
        let rows = expect(wanted, &System::here())?;
        let request = Request::Spawn {
            paths: candidates(name),
            argv: command.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
            manner,
        };
        match client.request(&request) {
            Ok(Reply::Attached(Attached { space, pid, held, .. })) => {
                Ok((client, vec![Taken { space, pid, rows, held }]))
            }
            Ok(_) => Err(strange()),
            Err(TargetError::Exec { source }) => Err(Error::Command {
                command: name.to_string_lossy().into_owned(),
                source: std::io::Error::from_raw_os_error(source.0),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// What the user should know of the machine before reading the results.
    fn warn_of_surroundings(&mut self) {
        let flags = super::install::cpu_flags();
        let is_constant = flags.contains("constant_tsc") && flags.contains("nonstop_tsc");
        if self.common.action == Action::Trace && !is_constant {
            self.common.warnings.push(
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

    /// All sites, with their counts so far.
    #[must_use]
    pub fn sites(&self) -> Vec<SiteStatus> {
        let hits: Vec<_> = self.traced.iter().map(Traced::hits).collect();
        let status = |&(index, row): &(usize, usize)| {
            let traced = self.traced.get(index)?;
            Some(traced.status(traced.rows.all.get(row)?, hits.get(index)?, &self.common.wanted))
        };
        self.sites.iter().filter_map(status).collect()
    }
}

/// An answer to another question.
pub(super) fn strange() -> Error {
    TargetError::Line("a strange answer".to_owned()).into()
}

/// Rows for everything wanted, before anything is touched.
fn expect(wanted: &[Wanted], system: &System) -> Result<Rows, Error> {
    let mut rows = Rows::default();
    for (index, wanted) in wanted.iter().enumerate() {
        rows.expect(index, wanted, system)?;
    }
    Ok(rows)
}

/// A process of a kind that we can probe.
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
