//! The whole state of a probed program against that of a plain one, instruction by instruction.
//!
//! Two processes start alike and stand at the program's entry. In one of them xol arms every probe and is then killed with all
//! its processes: jumps go on leading to stubs, and what xol's tracer does for a breakpoint (move the PC to its stub) is
//! done here. In the other its mappings are taken by empty ones, so that the kernel places what the program maps later
//! alike. Then both go on by single steps: whenever the probed one stands outside a stub, the plain one is stepped to the
//! same address, and registers, flags, vector registers and the stack around the stack pointer must be equal.
//!
//! A stub does not restore what the program overwrites before it reads it. A general register or arithmetic flag may therefore
//! differ for some instructions, as long as it is equal again by itself soon, and nothing else ever differs: a value that was
//! read would stay, in another register, in memory or in the way that the program takes.
//!
//! At the entry all memory is made alike, before a probe is hit; later only what is free, below the red zone. Where a window
//! begins, what the program can write must be equal, but for the stack: a stub saves registers below the red zone, where a frame
//! may come to be whose program reads a byte that it has not written. It does so with padding, in copies of whole structures. Such
//! bytes may go on differing, and be copied, as long as nothing else differs ([`Stale`]).
//!
//! So it shows that the stubs a program runs leave its state as its own instructions do, in windows of steps at the entry
//! and behind system calls that are chosen at random once for all. It does not show what the tracer does with signals and
//! stray PCs: other tests do.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use symbols::Class;
use symbols::auxv::Auxv;
use target::area::Entry;
use target::recover;

use super::memory::{self, Stale};
use super::run::{Runs, attach, every_instruction};
use super::tracee::{Registers, Stop, Tracee};
use crate::process::{wait_for, wait_within};
use crate::{Handle, Random, Signal, maps, send, tracer_of};

/// Bytes compared below and above the stack pointer: the red zone (System V x86-64 ABI, 3.2.2) and as much above it.
const AROUND_SP: u64 = RED_ZONE as u64;
const RED_ZONE: usize = 128;
/// Steps of one instruction of the other process that may pass until it is where the first one is: repeated string
/// instructions take one step an iteration.
const FURTHEST: u64 = 5_000_000;
/// Instructions that the plain program may be behind when the probed one ends in a stub: what a stub displaces.
const LAST: u64 = 100;
/// How long xol may take to arm the probes.
const ARMING: Duration = Duration::from_secs(900);
/// `int3`.
const BREAKPOINT: u8 = 0xcc;
/// CF, PF, AF, ZF, SF and OF.
const ARITHMETIC: u64 = 0x8d5;
/// A register is overwritten at the latest so many instructions behind a stub that did not restore it: twice as many as are
/// looked at for that.
const PASSING: u64 = 32;
/// The entry of the auxiliary vector that leads to 16 random bytes (getauxval(3)).
const AT_RANDOM: u8 = 25;
/// In place of what is random.
const CONSTANT: u8 = 0x5a;
/// In place of the numbers of processes and threads: more than any has (`PID_MAX_LIMIT` of include/linux/threads.h), since it may
/// be sent a signal.
const NOBODY: u32 = 0x5a_5a5a;
/// `jmp rel8`.
const SHORT_JUMP: u8 = 0xeb;
/// Resume flag (Intel SDM vol. 3, 18.3.1.1): a step may leave it set.
const RESUME_FLAG: u64 = 1 << 16;

/// How much is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// Instructions of the probed program per window, those of stubs included.
    pub(super) steps: u64,
    /// Windows, the one at the entry included.
    pub(super) count: u64,
    /// At most so many system calls lie between a window and the next.
    pub(super) apart: u64,
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    pub(super) windows: u64,
    /// States that were equal.
    pub(super) states: u64,
    /// Differences that passed by themselves.
    pub(super) passing: u64,
    /// At so many different addresses.
    pub(super) places: u64,
    /// Bytes that differed where windows began (see [`Stale`]).
    pub(super) stale: usize,
    /// Where the two differ: nothing is compared behind it.
    pub(super) difference: Option<String>,
}

/// A process of the pair.
struct Side {
    tracee: Tracee,
    /// Signal to be delivered with the next step or continuation.
    signal: i32,
}

impl Side {
    /// A process at the program's entry.
    fn at_entry(runs: &Runs<'_>) -> Result<Self, String> {
        let mut command = runs.plain_command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let tracee = Tracee::start(&mut command, &runs.program()?).map_err(wrong)?;
        let mut side = Self { tracee, signal: 0 };
        side.hide_vdso()?;
        let auxv = fs::read(format!("/proc/{}/auxv", side.tracee.pid())).map_err(wrong)?;
        // Stack protectors and mangled pointers come from there.
        let random =
            auxv.as_chunks::<16>().0.iter().find(|pair| pair[0] == AT_RANDOM && pair[1..8] == [0; 7]);
        if let Some(address) = random.and_then(|pair| pair[8..].try_into().ok()).map(u64::from_le_bytes) {
            side.tracee.write(address, &[CONSTANT; 16]).map_err(wrong)?;
        }
        let entry = Auxv::parse(Class::Elf64, &auxv).entry.ok_or("no entry point in the auxiliary vector")?.0;
        side.run_to(entry)?;
        Ok(side)
    }

    /// The kernel's own code reads the clock without a system call, and no two processes read the same: where the auxiliary vector
    /// does not tell of it, libc makes a call. (The stack of a program that begins: System V x86-64 ABI, 3.4.1.)
    fn hide_vdso(&self) -> Result<(), String> {
        let mut at = self.registers()?.rsp;
        let word = |at: u64| {
            let mut bytes = [0; 8];
            self.tracee.read(at, &mut bytes).map_err(wrong).map(|()| u64::from_le_bytes(bytes))
        };
        // The number of arguments, they and a zero, the environment and a zero.
        at += 8 * (word(at)? + 2);
        while word(at)? != 0 {
            at += 8;
        }
        at += 8;
        loop {
            match word(at)? {
                0 => return Ok(()),
                libc::AT_SYSINFO_EHDR => {
                    self.tracee.write(at, &libc::AT_IGNORE.to_le_bytes()).map_err(wrong)?;
                }
                _ => {}
            }
            at += 16;
        }
    }

    fn run_to(&mut self, at: u64) -> Result<(), String> {
        let mut original = [0];
        self.tracee.read(at, &mut original).map_err(wrong)?;
        self.tracee.write(at, &[BREAKPOINT]).map_err(wrong)?;
        self.tracee.resume(0).map_err(wrong)?;
        let stop = self.tracee.wait().map_err(wrong)?;
        self.tracee.write(at, &original).map_err(wrong)?;
        let mut registers = self.registers()?;
        if stop != Stop::Signal(libc::SIGTRAP) || registers.rip != at + 1 {
            return Err(format!("{stop:?} at {:#x} instead of the entry point", registers.rip));
        }
        registers.rip = at;
        self.tracee.set_registers(&registers).map_err(wrong)
    }

    fn registers(&self) -> Result<Registers, String> {
        self.tracee.registers().map_err(wrong)
    }

    /// Overwrites what the kernel has filled, if it has.
    fn fill(&self, at: u64, result: u64) -> Result<(), String> {
        const MOST: u64 = 4096;
        let len = if result <= MOST { usize::try_from(result).unwrap_or(0) } else { 0 };
        self.tracee.write(at, &vec![CONSTANT; len]).map_err(wrong)
    }

    /// A time that the kernel has written: seconds, and parts of a second.
    fn set_clock(&self, at: u64) -> Result<(), String> {
        self.tracee.write(at, &[u64::from(CONSTANT).to_le_bytes(), [0; 8]].concat()).map_err(wrong)
    }

    fn is_random(&self, descriptor: u64) -> bool {
        let file = fs::read_link(format!("/proc/{}/fd/{descriptor}", self.tracee.pid())).unwrap_or_default();
        matches!(file.to_str(), Some("/dev/urandom" | "/dev/random"))
    }

    /// Behind a system call: what the kernel makes different for every process becomes the same.
    fn settle_call(&self) -> Result<Registers, String> {
        let mut registers = self.registers()?;
        match registers.orig_rax.cast_signed() {
            libc::SYS_getrandom => self.fill(registers.rdi, registers.rax)?,
            libc::SYS_read if self.is_random(registers.rdi) => self.fill(registers.rsi, registers.rax)?,
            libc::SYS_clock_gettime if registers.rax == 0 => self.set_clock(registers.rsi)?,
            libc::SYS_gettimeofday if registers.rax == 0 => self.set_clock(registers.rdi)?,
            libc::SYS_getpid | libc::SYS_getppid | libc::SYS_gettid if registers.rax != u64::from(NOBODY) => {
                registers.rax = u64::from(NOBODY);
                self.tracee.set_registers(&registers).map_err(wrong)?;
            }
            _ => {}
        }
        Ok(registers)
    }

    /// One instruction, with the signal that the last stop brought. False if it ended.
    fn step(&mut self) -> Result<bool, String> {
        loop {
            let signal = std::mem::take(&mut self.signal);
            match self.tracee.step(signal).map_err(wrong)? {
                Stop::Ended => return Ok(false),
                // Nothing was carried out: the end of a stop is reported too, and so is its signal.
                Stop::JobControl | Stop::Signal(libc::SIGCONT) => {}
                Stop::Signal(signal) => {
                    self.signal = own(signal);
                    return Ok(true);
                }
            }
        }
    }

    /// Makes a system call between two instructions.
    fn call(&mut self, number: u64, arguments: [u64; 6]) -> Result<u64, String> {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        let before = self.registers()?;
        let mut original = [0; 2];
        self.tracee.read(before.rip, &mut original).map_err(wrong)?;
        self.tracee.write(before.rip, &SYSCALL).map_err(wrong)?;
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let call = Registers { rax: number, rdi, rsi, rdx, r10, r8, r9, ..before };
        self.tracee.set_registers(&call).map_err(wrong)?;
        self.step()?;
        let result = self.registers()?.rax;
        self.tracee.write(before.rip, &original).map_err(wrong)?;
        self.tracee.set_registers(&before).map_err(wrong)?;
        Ok(result)
    }

    /// The state, with the stack from the red zone on up to `top`, or as many bytes above the stack pointer.
    fn state(&self, top: u64) -> Result<State, String> {
        let mut registers = self.registers()?;
        registers.eflags &= !RESUME_FLAG;
        let above = top.saturating_sub(registers.rsp).clamp(AROUND_SP, Stack::BELOW as u64);
        let mut stack = vec![0; usize::try_from(AROUND_SP + above).unwrap_or(0)];
        // Near an end of the stack there may be less.
        let _ = self.tracee.read(registers.rsp.wrapping_sub(AROUND_SP), &mut stack);
        Ok(State { registers: named(&registers), vectors: self.tracee.vectors().map_err(wrong)?, stack })
    }
}

/// A signal that is the program's own, else 0: those that steps, breakpoints and stopping bring are ours.
fn own(signal: i32) -> i32 {
    let is_ours = matches!(signal & 0x7f, libc::SIGTRAP | libc::SIGSTOP | libc::SIGCONT);
    if is_ours { 0 } else { signal }
}

/// What the program could see at an instruction.
#[derive(PartialEq, Eq)]
struct State {
    registers: [(&'static str, u64); 24],
    vectors: Vec<u8>,
    stack: Vec<u8>,
}

impl State {
    /// Whether the two differ in nothing but what the program may be about to overwrite.
    fn may_become(&self, plain: &Self) -> bool {
        let is_fixed = |name: &str| !name.starts_with('r') || matches!(name, "rip" | "rsp");
        let same =
            self.registers.iter().zip(&plain.registers).all(|((name, ours), (_, theirs))| match *name {
                "flags" => (ours ^ theirs) & !ARITHMETIC == 0,
                name => ours == theirs || !is_fixed(name),
            });
        same && (&self.vectors, &self.stack) == (&plain.vectors, &plain.stack)
    }

    fn difference(&self, plain: &Self) -> String {
        let mut found = Vec::new();
        for ((name, probed), (_, plain)) in self.registers.iter().zip(&plain.registers) {
            if probed != plain {
                found.push(format!("{name} {probed:#x} instead of {plain:#x}"));
            }
        }
        let first = |a: &[u8], b: &[u8]| a.iter().zip(b).position(|(a, b)| a != b);
        if let Some(at) = first(&self.vectors, &plain.vectors) {
            let part =
                |bytes: &[u8]| bytes.get(at / 16 * 16..).and_then(|rest| rest.get(..16)).map(insn::plan::hex);
            let (probed, plain) =
                (part(&self.vectors).unwrap_or_default(), part(&plain.vectors).unwrap_or_default());
            found.push(format!("byte {at} of the vector registers' save area, {probed} instead of {plain}"));
        }
        if let Some(at) = first(&self.stack, &plain.stack) {
            let offset = i64::try_from(at).unwrap_or(0) - AROUND_SP.cast_signed();
            let word = |bytes: &[u8]| {
                bytes.as_chunks::<8>().0.get(at / 8).map_or(0, |word| u64::from_le_bytes(*word))
            };
            let (probed, plain) = (word(&self.stack), word(&plain.stack));
            found.push(format!("the stack at {offset} from its pointer: {probed:#x} instead of {plain:#x}"));
        }
        found.join(", ")
    }
}

/// All but `orig_rax`, which is the kernel's.
fn named(registers: &Registers) -> [(&'static str, u64); 24] {
    let r = registers;
    [
        ("rip", r.rip),
        ("rax", r.rax),
        ("rcx", r.rcx),
        ("rdx", r.rdx),
        ("rbx", r.rbx),
        ("rsp", r.rsp),
        ("rbp", r.rbp),
        ("rsi", r.rsi),
        ("rdi", r.rdi),
        ("r8", r.r8),
        ("r9", r.r9),
        ("r10", r.r10),
        ("r11", r.r11),
        ("r12", r.r12),
        ("r13", r.r13),
        ("r14", r.r14),
        ("r15", r.r15),
        ("flags", r.eflags),
        ("fs_base", r.fs_base),
        ("gs_base", r.gs_base),
        ("cs", r.cs),
        ("ss", r.ss),
        ("ds", r.ds),
        ("es", r.es),
    ]
}

/// What was around the stack pointer.
#[derive(Default)]
struct Stack {
    sp: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Stack {
    /// More than most frames.
    const BELOW: usize = 16 * 1024;

    fn of(side: &Side) -> Result<Self, String> {
        const ABOVE: usize = 256;
        let sp = side.registers()?.rsp;
        let start = sp.wrapping_sub(Self::BELOW as u64);
        let mut bytes = vec![0; Self::BELOW + ABOVE];
        if side.tracee.read(start, &mut bytes).is_err() {
            bytes = Vec::new();
        }
        Ok(Self { sp, start, bytes })
    }

    fn byte(&self, at: u64) -> Option<u8> {
        self.bytes.get(usize::try_from(at.checked_sub(self.start)?).ok()?).copied()
    }
}

/// The two processes.
struct Pair {
    plain: Side,
    probed: Side,
    /// Where xol's code and state are, islands included.
    areas: Vec<Range<u64>>,
    /// xol's mappings.
    mappings: Vec<Range<u64>>,
    /// The stub of each breakpoint.
    traps: HashMap<u64, u64>,
    places: BTreeSet<u64>,
    compared: Compared,
    stale: Stale,
    /// Of the plain one, when the two were compared last.
    before: Stack,
    /// The highest stack pointer of the plain one since.
    highest: u64,
    /// Instructions of the plain one so far.
    instructions: u64,
    /// How many there were when a register began to differ.
    differs_since: Option<u64>,
}

/// Compares the two in all windows, or until one ends or they differ.
pub(super) fn lockstep(runs: &Runs<'_>, windows: Windows) -> Result<Compared, String> {
    let mut pair = Pair::new(runs)?;
    // The same windows on every run.
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for window in 0..windows.count {
        if window > 0 {
            let calls = 1 + u64::from(random.upper()) % windows.apart;
            if !pair.pass_calls(calls)? {
                break;
            }
        }
        pair.compared.windows += 1;
        if !pair.window(windows.steps)? || pair.compared.difference.is_some() {
            break;
        }
    }
    pair.compared.places = pair.places.len() as u64;
    Ok(pair.compared)
}

impl Pair {
    fn new(runs: &Runs<'_>) -> Result<Self, String> {
        let mut plain = Side::at_entry(runs)?;
        let mut probed = Side::at_entry(runs)?;
        let probes: Vec<_> = runs.case.modules.iter().map(|module| every_instruction(module)).collect();
        let entries = arm_and_abandon(&mut probed, &probes, &runs.result("armed"))?;
        let traps = entries.iter().filter(|entry| entry.patched == [BREAKPOINT]);
        let traps: HashMap<_, _> = traps.map(|entry| (entry.start.0, entry.stub.0)).collect();
        let areas: Vec<_> = maps(probed.tracee.pid())
            .into_iter()
            .filter(crate::Region::is_xol)
            .map(|area| area.range)
            .collect();
        for area in &areas {
            take(&mut plain, area)?;
        }
        // No probe was hit before: all that differs is what the kernel told the loader, and what xol's calls left on the stack.
        memory::copy(&plain.tracee, &probed.tracee, &areas, NOBODY).map_err(wrong)?;
        let mappings = areas.clone();
        let areas = areas.into_iter().chain(entries.iter().filter_map(island)).collect();
        let (places, compared) = (BTreeSet::new(), Compared::default());
        let before = Stack::of(&plain)?;
        let highest = before.sp;
        let (instructions, differs_since) = (0, None);
        Ok(Self {
            plain,
            probed,
            areas,
            mappings,
            traps,
            places,
            compared,
            stale: Stale::default(),
            before,
            highest,
            instructions,
            differs_since,
        })
    }

    fn is_in_stub(&self, at: u64) -> bool {
        self.areas.iter().any(|area| area.contains(&at))
    }

    /// Steps both for so many instructions of the probed one. False if they ended.
    fn window(&mut self, steps: u64) -> Result<bool, String> {
        let mut left = steps;
        let mut is_first = true;
        while left > 0 {
            let Some(at) = self.probed_outside(&mut left)? else {
                let mut steps = LAST;
                while steps > 0 && self.plain.step()? {
                    steps -= 1;
                }
                return self.go_on(false, steps == 0);
            };
            if !self.plain_to(at)? {
                return Ok(false);
            }
            if std::mem::take(&mut is_first) {
                self.begin_window()?;
            }
            self.compare(at)?;
            if self.compared.difference.is_some() {
                return Ok(false);
            }
            self.redirect(at)?;
            // The same instruction, or the first iteration of a repeated one.
            let (probed, plain) = (self.probed.step()?, self.plain.step()?);
            if !self.go_on(probed, plain)? {
                return Ok(false);
            }
            self.instructions += 1;
            left = left.saturating_sub(1);
        }
        Ok(true)
    }

    /// Whether both go on. That one ends where the other does not is a difference.
    fn go_on(&mut self, probed: bool, plain: bool) -> Result<bool, String> {
        if probed != plain {
            let ended = if plain { "probed" } else { "plain" };
            self.compared.difference =
                Some(format!("the {ended} program has ended, and the other one has not"));
        }
        Ok(probed && plain)
    }

    /// Steps the probed one until it is outside every stub; `None` if it ended.
    fn probed_outside(&mut self, left: &mut u64) -> Result<Option<u64>, String> {
        loop {
            let at = self.probed.settle_call()?.rip;
            if !self.is_in_stub(at) {
                return Ok(Some(at));
            }
            if !self.probed.step()? {
                return Ok(None);
            }
            *left = left.saturating_sub(1);
        }
    }

    /// What the tracer does at a breakpoint.
    fn redirect(&mut self, at: u64) -> Result<(), String> {
        let Some(stub) = self.traps.get(&at) else { return Ok(()) };
        let mut registers = self.probed.registers()?;
        registers.rip = *stub;
        self.probed.tracee.set_registers(&registers).map_err(wrong)
    }

    /// Steps the plain one to where the probed one is. False if it does not come there.
    fn plain_to(&mut self, to: u64) -> Result<bool, String> {
        let mut last = 0;
        for _ in 0..FURTHEST {
            let registers = self.plain.settle_call()?;
            self.highest = self.highest.max(registers.rsp);
            if registers.rip == to {
                return Ok(true);
            }
            self.instructions += u64::from(registers.rip != last);
            last = registers.rip;
            if !self.plain.step()? {
                break;
            }
        }
        self.compared.difference = Some(format!("the plain program never comes to {to:#x}"));
        Ok(false)
    }

    /// All memory must be the same, but for what is stale in the stack.
    fn begin_window(&mut self) -> Result<(), String> {
        let sp = self.plain.registers()?.rsp;
        let (probed, plain) = (&self.probed.tracee, &self.plain.tracee);
        if let Some(difference) = memory::difference(probed, plain, &self.mappings, sp).map_err(wrong)? {
            self.compared.difference =
                Some(format!("where window {} begins {difference}", self.compared.windows));
        }
        self.stale = Stale::of(probed, plain, sp.wrapping_sub(AROUND_SP)).map_err(wrong)?;
        self.compared.stale += self.stale.len();
        self.before = Stack::of(&self.plain)?;
        self.highest = sp;
        self.differs_since = None;
        Ok(())
    }

    fn compare(&mut self, at: u64) -> Result<(), String> {
        let (mut probed, plain) = (self.probed.state(self.highest)?, self.plain.state(self.highest)?);
        self.forgive_scratch(&mut probed, &plain)?;
        let low = self.plain.registers()?.rsp.wrapping_sub(AROUND_SP);
        if (&probed.vectors, &probed.stack) != (&plain.vectors, &plain.stack) {
            let ours = [probed.vectors.as_mut_slice(), probed.stack.as_mut_slice()];
            self.stale.forgive(low, ours, [&plain.vectors, &plain.stack]);
        }
        self.before = Stack::of(&self.plain)?;
        self.highest = self.before.sp;
        // So that what the program may read there without having written it is the same.
        let free = self.before.bytes.get(..Stack::BELOW - RED_ZONE).unwrap_or_default();
        self.probed.tracee.write(self.before.start, free).map_err(wrong)?;
        if self.compared.difference.is_some() {
            return Ok(());
        }
        if probed == plain {
            self.compared.states += 1;
            self.compared.passing += u64::from(self.differs_since.take().is_some());
            self.places.insert(at);
            return Ok(());
        }
        let since = *self.differs_since.get_or_insert(self.instructions);
        if !probed.may_become(&plain) || self.instructions - since > PASSING {
            self.compared.difference = Some(format!("at {at:#x}: {}", probed.difference(&plain)));
        }
        Ok(())
    }

    /// Stubs save registers below the red zone. Where the stack pointer then moves down, that becomes part of it: memory that the
    /// program has not written since, and which a signal's frame could have overwritten as well. It becomes as in the plain one.
    fn forgive_scratch(&self, probed: &mut State, plain: &State) -> Result<(), String> {
        let low = self.plain.registers()?.rsp.wrapping_sub(AROUND_SP);
        for (at, (ours, theirs)) in (low..).zip(probed.stack.iter_mut().zip(&plain.stack)) {
            let was_free = at < self.highest.wrapping_sub(AROUND_SP);
            if ours != theirs && was_free && self.before.byte(at) == Some(*theirs) {
                *ours = *theirs;
                self.probed.tracee.write(at, &[*theirs]).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Lets both run until each has begun so many further system calls. False if they ended before.
    fn pass_calls(&mut self, calls: u64) -> Result<bool, String> {
        let traps = self.traps.clone();
        let plain = pass(&mut self.plain, calls, &HashMap::new())?;
        let probed = pass(&mut self.probed, calls, &traps)?;
        // From the entry of the call to its end: both stand behind it then, or in its stub.
        if !self.go_on(probed, plain)? {
            return Ok(false);
        }
        let (plain, probed) = (self.plain.step()?, self.probed.step()?);
        self.go_on(probed, plain)
    }
}

/// Runs to the entry of a system call, the `calls`th from here.
fn pass(side: &mut Side, calls: u64, traps: &HashMap<u64, u64>) -> Result<bool, String> {
    // Each call stops at its entry and at its end.
    let mut stops = 2 * calls - 1;
    while stops > 0 {
        let signal = std::mem::take(&mut side.signal);
        match side.tracee.resume_to_call(signal).map_err(wrong)? {
            Stop::Ended => return Ok(false),
            Stop::Signal(signal) if signal == libc::SIGTRAP | 0x80 => {
                stops -= 1;
                if stops % 2 == 1 {
                    side.settle_call()?;
                }
            }
            Stop::Signal(libc::SIGTRAP) => {
                let mut registers = side.registers()?;
                if let Some(stub) = traps.get(&registers.rip.wrapping_sub(1)) {
                    registers.rip = *stub;
                    side.tracee.set_registers(&registers).map_err(wrong)?;
                }
            }
            Stop::Signal(signal) => side.signal = own(signal),
            Stop::JobControl => {}
        }
    }
    Ok(true)
}

/// Takes a range of addresses, as xol has it in the other process.
fn take(side: &mut Side, range: &Range<u64>) -> Result<(), String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let flags = u64::from(flags.cast_unsigned());
    let mmap = libc::SYS_mmap.cast_unsigned();
    let got = side.call(mmap, [range.start, range.end - range.start, 0, flags, u64::MAX, 0])?;
    if got == range.start { Ok(()) } else { Err(format!("mmap at {:#x} gives {got:#x}", range.start)) }
}

/// Where a short jump leads: the jump between functions that goes on to the stub.
fn island(entry: &Entry) -> Option<Range<u64>> {
    let [SHORT_JUMP, distance] = entry.patched[..] else { return None };
    let at = (entry.start + 2).offset(i64::from(distance.cast_signed())).0;
    Some(at..at + 1)
}

/// Arms the probes with xol, and kills it. Gives what it changed.
fn arm_and_abandon(side: &mut Side, probes: &[String], said: &Path) -> Result<Vec<Entry>, String> {
    let pid = side.tracee.pid();
    // Stopped as by job control: it must not move while nobody traces it.
    side.tracee.detach(libc::SIGSTOP).map_err(wrong)?;
    let mut xol = attach(probes, pid, said);
    let is_armed = || fs::metadata(said).is_ok_and(|file| file.len() > 0);
    let armed = wait_within(ARMING, || (is_armed() || xol.ended().is_some()).then(&is_armed));
    if armed != Some(true) {
        return Err("lock-step: xol did not arm the probes".to_owned());
    }
    let holder = tracer_of(pid).ok_or("xol does not trace the program")?;
    send(xol.child_id(), Signal::Stop);
    let handle = Handle::of(holder, || tracer_of(pid) == Some(holder)).ok_or("the holder is gone")?;
    handle.send(Signal::Kill);
    wait_for("the holder's end", || tracer_of(pid).is_none().then_some(()));
    drop(xol);
    side.tracee.seize().map_err(wrong)?;
    side.tracee.wait().map_err(wrong)?;
    send(pid, Signal::Continue);
    let areas = recover::find(pid.cast_signed()).map_err(wrong)?;
    Ok(areas.into_iter().flat_map(|(_, area)| area.entries).collect())
}

fn wrong(error: impl std::fmt::Display) -> String {
    format!("lock-step: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::every::{Size, all_cases};

    /// gzip and gzip, probed; or what is missing.
    fn pair(folder: &Path) -> Result<Pair, String> {
        let (_, make) = all_cases().into_iter().find(|(name, _)| *name == "gzip").unwrap();
        let case = make(folder, Size::Short)?;
        Ok(Pair::new(&Runs::new(&case, folder).unwrap()).unwrap())
    }

    /// A byte of the heap that something wrote between two windows.
    #[test]
    fn memory_that_changes_between_windows_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = match pair(folder.path()) {
            Ok(pair) => pair,
            Err(reason) => return println!("skipped: {reason}"),
        };
        assert!(pair.window(1000).unwrap() && pair.pass_calls(1).unwrap());
        assert_eq!(pair.compared.difference, None);
        let writable = |region: &crate::Region| region.path.ends_with("gzip") && region.permissions == "rw-p";
        let data = maps(pair.probed.tracee.pid()).into_iter().find(writable).unwrap().range;
        let mut byte = [0];
        pair.probed.tracee.read(data.end - 1, &mut byte).unwrap();
        pair.probed.tracee.write(data.end - 1, &[!byte[0]]).unwrap();
        pair.window(1000).unwrap();
        let difference = pair.compared.difference.unwrap();
        assert!(difference.contains(&format!("at {:#x}", data.end - 8)), "{difference}");
    }

    #[test]
    fn a_probed_program_that_dies_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = match pair(folder.path()) {
            Ok(pair) => pair,
            Err(reason) => return println!("skipped: {reason}"),
        };
        assert!(pair.window(1000).unwrap());
        let mut registers = pair.probed.registers().unwrap();
        registers.rip = pair.areas[0].end - 1;
        pair.probed.tracee.set_registers(&registers).unwrap();
        assert!(!pair.window(1000).unwrap());
        let difference = pair.compared.difference.unwrap();
        assert!(difference.contains("probed program has ended"), "{difference}");
    }
}
