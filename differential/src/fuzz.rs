//! Batches of cases, and what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use iced_x86::Code;
use insn::plan::hex;
use insn::{Address, Isa, disassemble};

use crate::case::{self, Made};
use crate::compare::differences;
use crate::encode;
use crate::executor::{self, Machine};
use crate::random::Random;
use crate::sys::{Area, Child, End};
use crate::world::{CASES, Difference, SLOT, WORLDS, World};

/// How much, and from which seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Cases to run, each once in place and once displaced; rounded up to whole batches.
    pub executions: u64,
    /// Equal seeds make equal cases.
    pub seed: u64,
    /// Executing processes; each has cases of its own.
    pub jobs: u64,
    /// After so many findings a job ends.
    pub patience: usize,
}

/// What one code has been through.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Runs that ended in no fault: went on, or branched to where a breakpoint was.
    pub completed: u64,
    /// Runs that ended as an instruction does that the processor lacks.
    pub illegal: u64,
    /// Reasons for which it was not displaced.
    pub refused: BTreeMap<String, u64>,
}

/// What was done and found.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases run.
    pub executions: u64,
    /// How long it took.
    pub took: Duration,
    /// By code, in iced's order.
    pub codes: BTreeMap<u16, Tally>,
    /// How the runs in place ended: by signal, 0 where they went on.
    pub outcomes: BTreeMap<u8, u64>,
    /// Cases that differed once and not again.
    pub unsteady: u64,
    /// Each in words.
    pub findings: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.executions += other.executions;
        self.unsteady += other.unsteady;
        self.findings.extend(other.findings);
        for (signal, count) in other.outcomes {
            *self.outcomes.entry(signal).or_default() += count;
        }
        for (code, tally) in other.codes {
            let mine = self.codes.entry(code).or_default();
            mine.runs += tally.runs;
            mine.completed += tally.completed;
            mine.illegal += tally.illegal;
            for (why, count) in tally.refused {
                *mine.refused.entry(why).or_default() += count;
            }
        }
    }

    /// Codes that were neither run nor refused.
    #[must_use]
    pub fn missed(&self) -> Vec<Code> {
        self.codes_with(|tally| tally.runs == 0 && tally.refused.is_empty())
    }

    /// Codes that never ran to their end, though they are none that the processor lacks.
    #[must_use]
    pub fn always_faulted(&self) -> Vec<Code> {
        self.codes_with(|tally| tally.completed == 0 && tally.illegal < tally.runs)
    }

    fn codes_with(&self, is: impl Fn(&Tally) -> bool) -> Vec<Code> {
        let none = Tally::default();
        let is = |code: &Code| is(self.codes.get(&(*code as u16)).unwrap_or(&none));
        encode::codes().into_iter().filter(is).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let seconds = self.took.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.executions as f64 / seconds.max(f64::MIN_POSITIVE);
        writeln!(f, "{} cases in {seconds:.1} s, {rate:.0} a second", self.executions)?;
        let outcomes = self.outcomes.iter().map(|(signal, count)| match signal {
            0 => format!("{count} went on"),
            signal => format!("{count} by signal {signal}"),
        });
        writeln!(f, "in place: {}", outcomes.collect::<Vec<_>>().join(", "))?;
        let of = |is: &dyn Fn(&Tally) -> bool| self.codes.values().filter(|tally| is(tally)).count();
        let (run, completed) = (of(&|tally| tally.runs > 0), of(&|tally| tally.completed > 0));
        let refused = of(&|tally| tally.runs == 0 && !tally.refused.is_empty());
        writeln!(
            f,
            "{} codes: {run} run, {completed} of them to their end at least once; {refused} refused",
            encode::codes().len()
        )?;
        let lacking = of(&|tally| tally.runs > 0 && tally.illegal == tally.runs);
        writeln!(f, "the processor lacks {lacking} of those run")?;
        writeln!(f, "always faulted otherwise: {:?}", self.always_faulted())?;
        writeln!(f, "neither run nor refused: {:?}", self.missed())?;
        writeln!(f, "differed once and not again: {}", self.unsteady)?;
        writeln!(f, "findings: {}", self.findings.len())
    }
}

/// Why there was nothing to compare.
#[derive(Debug)]
pub enum Error {
    /// The processor cannot do what the executor needs.
    Unsupported,
    /// A system call failed.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => write!(f, "the processor has no XSAVE"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Runs cases and says what differed.
///
/// # Errors
/// Where this machine cannot run them.
pub fn fuzz(options: Options) -> Result<Report, Error> {
    let machine = Machine::new().ok_or(Error::Unsupported)?;
    let started = Instant::now();
    let batches = options.executions.div_ceil(CASES as u64);
    let first = CENSUS.min(batches);
    let mut report = work(machine, options, &Choice::all(), (0..first).step_by(1))?;
    let choice = Choice::after(&report);
    let jobs = usize::try_from(options.jobs.max(1)).unwrap_or(1);
    let results: Vec<io::Result<Report>> = std::thread::scope(|scope| {
        let choice = &choice;
        let job = |number| {
            let numbers = (first + number..batches).step_by(jobs);
            scope.spawn(move || work(machine, options, choice, numbers))
        };
        let jobs: Vec<_> = (0..jobs as u64).map(job).collect();
        jobs.into_iter()
            .map(|job| job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    for result in results {
        report.add(result?);
    }
    report.took = started.elapsed();
    Ok(report)
}

/// Batches in which all codes get the same share: about eight cases each.
const CENSUS: u64 = 18;

/// How often an encoding of a code is tried: not all that random fields make decodes.
const ATTEMPTS: usize = 64;

/// How rarely a code is taken that is privileged, or that the processor lacks by the census: a signal costs more than
/// all the rest.
const RARELY: u64 = 50;

/// Which codes are taken how often.
#[derive(Debug)]
struct Choice {
    is_census: bool,
    codes: Vec<Code>,
    /// Those that may run to their end, at the same places.
    is_frequent: Vec<bool>,
}

impl Choice {
    fn all() -> Self {
        let codes = encode::codes();
        Self { is_census: true, is_frequent: vec![true; codes.len()], codes }
    }

    fn after(census: &Report) -> Self {
        let codes = encode::codes();
        let may_complete = |code: &Code| {
            let tally = census.codes.get(&(*code as u16));
            tally.is_some_and(|tally| tally.illegal < tally.runs) && !code.op_code().is_privileged()
        };
        Self { is_census: false, is_frequent: codes.iter().map(may_complete).collect(), codes }
    }

    /// The next code from `position` on.
    fn next(&self, position: &mut usize, random: &mut Random) -> Code {
        loop {
            *position = (*position + 1) % self.codes.len();
            if self.is_frequent[*position] || random.below(RARELY) == 0 {
                return self.codes[*position];
            }
        }
    }
}

/// One job's share: every batch has its own random numbers, so that it can be made again alone.
fn work(
    machine: Machine,
    options: Options,
    choice: &Choice,
    numbers: impl Iterator<Item = u64>,
) -> io::Result<Report> {
    let mut area = Area::new()?;
    let mut child = None;
    let mut report = Report::default();
    for number in numbers {
        let ran = fill(machine, options.seed, number, choice, &mut area, &mut report);
        if child.is_none() {
            child = Some(Child::start(machine, &area)?);
        }
        let Some(running) = child.as_mut() else { continue };
        let result = running.run();
        let batch = area.batch();
        if let Err(end) = result {
            child = None;
            let index = batch.progress as usize;
            report.findings.push(lost(&end, number, index, &area_code(&mut area, index)));
        } else {
            report.executions += CASES as u64;
            report.unsteady += u64::from(batch.unsteady);
            for (code, signal) in ran.iter().zip(batch.outcomes) {
                *report.outcomes.entry(signal).or_default() += 1;
                let tally = report.codes.entry(*code as u16).or_default();
                tally.runs += 1;
                tally.completed += u64::from(signal == 0 || i32::from(signal) == libc::SIGTRAP);
                tally.illegal += u64::from(i32::from(signal) == libc::SIGILL);
            }
            let found = (batch.found as usize).min(batch.differences.len());
            let kept: Vec<Difference> = batch.differences[..found].to_vec();
            report.findings.extend(kept.iter().map(|difference| describe(number, difference, &mut area)));
        }
        if report.findings.len() >= options.patience {
            break;
        }
    }
    Ok(report)
}

/// Makes the batch with this number; the code of each case.
fn fill(
    machine: Machine,
    seed: u64,
    number: u64,
    choice: &Choice,
    area: &mut Area,
    report: &mut Report,
) -> Vec<Code> {
    let mut random = Random::new(seed, number);
    let batch = area.batch();
    batch.world = random.choose(&WORLDS).0;
    case::furnish(batch, machine.parts, executor::landing(), &mut random);
    let distance = usize::try_from(random.below(3)).unwrap_or(0);
    let mut ran = Vec::with_capacity(CASES);
    // From batch to batch on, so that all codes get their turn.
    let mut position = usize::try_from(number).unwrap_or(0).wrapping_mul(CASES) % choice.codes.len();
    // In the census every code is to be met itself.
    let (patience, exact) = if choice.is_census { (ATTEMPTS, 100) } else { (ATTEMPTS / 4, 75) };
    while ran.len() < CASES {
        let code = choice.next(&mut position, &mut random);
        for attempt in 0..ATTEMPTS {
            match case::make(code, ran.len(), distance, &mut random, batch) {
                // Rather another try than another code, but for some: prefixes make one of the other.
                Made::Case(made) if made != code && attempt + 1 < patience && random.percent(exact) => {}
                Made::Case(code) => {
                    ran.push(code);
                    break;
                }
                Made::Refused(code, why) => {
                    let tally = report.codes.entry(code as u16).or_default();
                    *tally.refused.entry(why.into_owned()).or_default() += 1;
                    break;
                }
                Made::LeftOut => break,
                Made::Undecodable => {}
            }
        }
    }
    ran
}

/// The code of a case in place and displaced, with its addresses.
fn area_code(area: &mut Area, index: usize) -> String {
    let batch = area.batch();
    let case = batch.cases[index];
    let slot = (index * SLOT) as u64;
    let lead = usize::try_from(case.original - World(batch.world).originals() - slot).unwrap_or(0);
    let mut text = String::new();
    // What is behind the code is the jump to the way out.
    for (name, at, bytes) in [
        ("in place", case.original, &batch.originals[index][lead..lead + 20]),
        ("displaced", case.copy, &batch.copies[index][..case.copy_len as usize]),
    ] {
        for (at, bytes, line) in disassemble(Isa::X86_64, Address(at), bytes) {
            if bytes == [0xcc] {
                break;
            }
            text.push_str(&format!("    {name:<9} {at}  {:<46} {line}\n", hex(&bytes)));
            if name == "in place" {
                break;
            }
        }
    }
    text
}

fn lost(end: &End, batch: u64, index: usize, code: &str) -> String {
    format!("batch {batch}, case {index}: the child did not come back: {end:?}\n{code}")
}

fn describe(number: u64, difference: &Difference, area: &mut Area) -> String {
    let index = difference.index as usize;
    let case = area.batch().cases[index];
    let mut text = format!("batch {number}, case {index}: a difference\n{}", area_code(area, index));
    text.push_str(&format!("    before: {:x?}, flags {:#x}\n", case.general, case.flags));
    let (one, other) = (&difference.original, &difference.displaced);
    text.push_str(&format!("    in place it ended at {:#x} by signal {}\n", one.pc, one.signal));
    for line in differences(one, other) {
        text.push_str(&format!("    {line}\n"));
    }
    text
}
