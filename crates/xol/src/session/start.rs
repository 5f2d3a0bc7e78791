//! The beginning of a session.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use program::clock::Clock;
use symbols::elf::{self, ElfError};
use symbols::stat::Stat;
use symbols::status::Status;
use target::holder::{Attached, Client, Manner, Reply, Request, Space};
use target::linux::{is_alive, shown_by};
use target::{TargetError, Tid, recover};

use super::events::Watcher;
use super::modules::{Module, View};
use super::rows::{Row, Rows, Wanted};
use super::traced::Traced;
use super::types::{Action, Error, Options, Progress, SiteStatus, Target};
use crate::catalogue::system;
use crate::files::{System, shown};

/// How many of the loader's reports belong to the start of a command: glibc makes one before it maps the libraries and one
/// after (elf/rtld.c), musl one in all.
const STARTUP_EVENTS: u8 = 2;
/// How long the last threads of a process may take to end once the first one has.
const LAST_THREADS: Duration = Duration::from_millis(200);

/// What all address spaces of a session have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) client: Client,
    pub(super) action: Action,
    pub(super) manner: Manner,
    /// Hits of a row that are allowed in a second.
    pub(super) max_rate: Option<u64>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) clock: Clock,
    pub(super) warnings: Vec<String>,
    /// The target is a command that we started.
    pub(super) is_command: bool,
}

/// A target with armed probes: one process, or several.
#[derive(Debug)]
pub struct Session {
    pub(super) common: Common,
    /// Every address space that was ever probed, in the order of its coming.
    pub(super) traced: Vec<Traced>,
    /// Where each site is: index into `traced`, and of the row there. Only ever added to.
    pub(super) sites: Vec<(usize, usize)>,
    pub(super) armed_at: u64,
    /// When the counters are looked at next.
    pub(super) next_look: Instant,
    /// How the command ended: exit status or signal.
    pub(super) ended: Option<(Option<i32>, Option<i32>)>,
    pub(super) removed: bool,
    pub(super) holder_died: bool,
    /// Who sees the work that the running target causes.
    pub(super) watcher: Watcher,
}

/// An address space in the holder's hands, before anything is done to it.
struct Taken {
    space: Space,
    pid: i32,
    learnt: Learnt,
    /// The thread of a command that stands at its first instruction.
    held: Option<Tid>,
}

/// What is known of a process before it is touched.
#[derive(Default)]
struct Learnt {
    rows: Rows,
    modules: Vec<Module>,
}

impl Session {
    /// Resolves, plans, attaches and arms.
    ///
    /// # Errors
    /// See [`Error`]; the target is as it was.
    pub fn start(options: Options, progress: &mut dyn Progress) -> Result<Self, Error> {
        let pids: Vec<i32> = match &options.target {
            Target::Attach(pids) => pids.iter().filter_map(|pid| i32::try_from(*pid).ok()).collect(),
            Target::Spawn(_) => Vec::new(),
        };
        let is_there = |pid: &i32| is_alive(*pid);
        let living: Vec<i32> = pids.into_iter().filter(is_there).collect();
        // Of a process that ended meanwhile nothing can be read any more: that it is gone says more than what could not be.
        Self::start_in(options, progress).map_err(|error| or_ended(error, &living))
    }

    fn start_in(options: Options, progress: &mut dyn Progress) -> Result<Self, Error> {
        let wanted = options.specs.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let manner = Manner { follow: options.follow, inject_freely: options.inject_freely };
        let (client, taken) = match &options.target {
            Target::Attach(pids) => Self::attach(pids, &wanted, manner, progress)?,
            Target::Spawn(command) => Self::spawn(command, &wanted, manner, progress)?,
        };
        let common = Common {
            client,
            action: options.action,
            manner,
            max_rate: options.max_rate,
            wanted,
            clock: Clock::new(),
            warnings: Vec::new(),
            is_command: matches!(options.target, Target::Spawn(_)),
        };
        let mut session = Self::new(common);
        match session.begin(taken, progress) {
            Ok(()) => Ok(session),
            Err(error) => Err(session.give_up(error, progress)),
        }
    }

    /// Undoes what was done. A command that was started goes on without probes, and is waited for: it has our terminal,
    /// and nobody else waits.
    fn give_up(mut self, error: Error, progress: &mut dyn Progress) -> Error {
        let pids: Vec<i32> = self.traced.iter().map(|traced| traced.pid).collect();
        if self.common.is_command {
            progress.note(&format!("{error}; the command goes on without probes"));
        }
        if let (Error::Target(TargetError::Unsupported { .. }), true) = (&error, self.common.is_command) {
            // Nothing was done to it, and nothing can be: the kernel lets it go when the holder ends.
            self.common.client.quit();
            pids.first().map(|command| target::sys::ptrace::wait_for_end(*command));
            return error;
        }
        let _ = self.take_out();
        let restored = self.traced.iter().all(|traced| traced.is_restored());
        let outcome = if restored { "its text is restored" } else { "its text may not be restored" };
        let error = if self.holder_died { Error::HolderDied { outcome } } else { error };
        if self.common.is_command {
            let _ = self.wait();
            return error;
        }
        if !self.holder_died {
            // When we say that it failed nobody is traced any more.
            self.common.client.quit();
        }
        or_ended(error, &pids)
    }

    fn new(common: Common) -> Self {
        Self {
            common,
            traced: Vec::new(),
            sites: Vec::new(),
            armed_at: 0,
            next_look: Instant::now(),
            ended: None,
            removed: false,
            holder_died: false,
            watcher: Watcher::default(),
        }
    }

    fn begin(&mut self, taken: Vec<Taken>, progress: &mut dyn Progress) -> Result<(), Error> {
        self.warn_of_surroundings();
        let mut held = Vec::new();
        for one in taken {
            held.extend(one.held.map(|tid| (one.space, tid)));
            let of = if self.common.is_command { Traced::beginning } else { Traced::new };
            let mut traced = of(one.space, one.pid, one.learnt.rows);
            traced.modules = one.learnt.modules;
            traced.startup_events = if self.common.is_command { STARTUP_EVENTS } else { 0 };
            self.traced.push(traced);
            if self.common.is_command {
                check_class(one.pid)?;
            }
        }
        self.arm_all(true, progress)?;
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

    /// Learns all that is slow to learn about running processes from their files, and then attaches.
    fn attach(
        pids: &[u32],
        wanted: &[Wanted],
        manner: Manner,
        progress: &mut dyn Progress,
    ) -> Result<(Client, Vec<Taken>), Error> {
        let number = |pid: &u32| i32::try_from(*pid).map_err(|_| TargetError::NoSuchProcess { pid: -1 });
        let numbers = pids.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        numbers.iter().try_for_each(|pid| check_kind(*pid))?;
        let mut learn_and_attach = || {
            // The holder is forked before large files are read: it needs none of that memory.
            let mut client = Client::start()?;
            let learnt = numbers.iter().map(|pid| learn(*pid, wanted, progress));
            let learnt = learnt.collect::<Result<Vec<_>, _>>()?;
            note_plan(learnt.iter().map(|one| &one.rows), wanted, progress);
            numbers.iter().try_for_each(|pid| refuse_leftovers(*pid))?;
            let mut taken = Vec::new();
            for (pid, learnt) in numbers.iter().zip(learnt) {
                let Reply::Attached(Attached { space, pid, held, .. }) =
                    client.request(&Request::Attach { pid: *pid, manner })?
                else {
                    return Err(strange());
                };
                taken.push(Taken { space, pid, learnt, held });
            }
            Ok((client, taken))
        };
        learn_and_attach().map_err(|error| or_ended(error, &numbers))
    }

    /// Starts a command, held at its first instruction.
    fn spawn(
        command: &[std::ffi::OsString],
        wanted: &[Wanted],
        manner: Manner,
        progress: &mut dyn Progress,
    ) -> Result<(Client, Vec<Taken>), Error> {
        let name = command.first().map(|name| name.as_os_str()).unwrap_or_default();
        let failed = |source| Error::Command { command: name.to_string_lossy().into_owned(), source };
        let paths = candidates(name).ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let mut client = Client::start()?;
        let rows = expect(wanted, &System::here(), progress)?;
        note_plan([&rows].into_iter(), wanted, progress);
        let argv = command.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        match client.request(&Request::Spawn { paths, argv, manner }) {
            Ok(Reply::Attached(Attached { space, pid, held, .. })) => {
                let learnt = Learnt { rows, ..Learnt::default() };
                Ok((client, vec![Taken { space, pid, learnt, held }]))
            }
            Ok(_) => Err(strange()),
            Err(TargetError::Exec { source }) => Err(failed(std::io::Error::from_raw_os_error(source.0))),
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

    /// What the user should know, as far as it is known.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.common.warnings
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
fn expect(wanted: &[Wanted], system: &System, progress: &mut dyn Progress) -> Result<Rows, Error> {
    let mut rows = Rows::default();
    for (index, wanted) in wanted.iter().enumerate() {
        rows.expect(index, wanted, system, progress)?;
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
    }
    Ok(rows)
}

/// The long work: reads and decodes all that is to be probed in a process. It is only looked at.
fn learn(pid: i32, wanted: &[Wanted], progress: &mut dyn Progress) -> Result<Learnt, Error> {
    let mut rows = expect(wanted, &system(Some(pid.cast_unsigned()))?, progress)?;
    let mut modules = Vec::new();
    let view = View::of(pid)?;
    rows.refresh(wanted, &view, &mut modules)?;
    let shadow_stack = view.system.status().shadow_stack;
    for module in &mut modules {
        if rows.all.iter().any(|row| row.module == Some(module.key)) {
            module.analysis(shadow_stack, progress);
        }
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
    }
    Ok(Learnt { rows, modules })
}

/// Says how many places patterns mean: what was named exactly needs no counting.
fn note_plan<'r>(all: impl Iterator<Item = &'r Rows>, wanted: &[Wanted], progress: &mut dyn Progress) {
    let is_pattern = |row: &&Row| wanted.get(row.wanted).is_some_and(|wanted| !wanted.spec.is_exact());
    let rows: Vec<&Row> = all.flat_map(|rows| &rows.all).filter(is_pattern).collect();
    let files: BTreeSet<_> = rows.iter().map(|row| &row.path).collect();
    if !rows.is_empty() {
        progress.found(rows.len(), files.len());
    }
}

/// What is wrong if a process ended meanwhile is only that, whatever failed first.
fn or_ended(error: Error, pids: &[i32]) -> Error {
    let has_ended = |pid: &&i32| {
        // When all threads end, the first one may before the others.
        let deadline = Instant::now() + LAST_THREADS;
        while shown_by(**pid) != **pid && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        !is_alive(**pid)
    };
    match pids.iter().find(has_ended) {
        Some(pid) => Error::Ended { pid: *pid },
        None => error,
    }
}

/// A process of a kind that we can probe: with memory of its own, for an ISA that we know.
pub(crate) fn check_kind(pid: i32) -> Result<(), TargetError> {
    // Its first thread may have ended and left the others alone.
    let folder = shown(pid.cast_unsigned());
    let status = std::fs::read(folder.join("status")).map_err(|_| TargetError::NoSuchProcess { pid })?;
    let status = Status::parse(&status);
    let unsupported = |why: &str| Err(TargetError::Unsupported { pid, why: why.to_owned() });
    if matches!(status.state, Some('Z' | 'X')) {
        return Err(TargetError::NoSuchProcess { pid });
    }
    if let Some(tracer) = status.tracer.filter(|&tracer| tracer != 0) {
        return Err(TargetError::AlreadyTraced { pid, tracer });
    }
    let stat = std::fs::read(folder.join("stat")).unwrap_or_default();
    if Stat::parse(&stat).is_some_and(|stat| stat.is_kernel_thread()) {
        return unsupported("it is a thread of the kernel");
    }
    check_class(pid)
}

fn check_class(pid: i32) -> Result<(), TargetError> {
    let mut header = Vec::new();
    let read = File::open(shown(pid.cast_unsigned()).join("exe"))
        .and_then(|exe| exe.take(elf::HEADER_LEN as u64).read_to_end(&mut header));
    if read.is_err() {
        return Ok(()); // the holder's own attempt says what is wrong
    }
    let unsupported = |why: ElfError| TargetError::Unsupported { pid, why: format!("it is {why}") };
    elf::isa_of(&header).map(drop).map_err(unsupported)
}

/// What a killed xol left is offered for removal, not worked around: its patches are in the text that we would analyse.
fn refuse_leftovers(pid: i32) -> Result<(), Error> {
    let found = recover::find(pid).unwrap_or_default();
    let sites = found.iter().map(|(_, description)| description.entries.len()).sum();
    if sites > 0 { Err(Error::Leftovers { pid, sites }) } else { Ok(()) }
}

/// The files that a command's name may mean, in the order of execvp(3); `None` if there is none. Unlike that, a folder of
/// PATH that may not be searched does not make a command that is nowhere one that may not be executed: as in a shell.
fn candidates(name: &OsStr) -> Option<Vec<Vec<u8>>> {
    if name.as_bytes().contains(&b'/') {
        return Some(vec![name.as_bytes().to_vec()]);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let files = std::env::split_paths(&path).map(|folder| folder.join(name)).filter(|file| file.is_file());
    let files: Vec<_> = files.map(|file| file.as_os_str().as_bytes().to_vec()).collect();
    (!files.is_empty()).then_some(files)
}
