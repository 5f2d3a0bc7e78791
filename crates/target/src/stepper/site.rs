//! Sites: what is planned for one, and its breakpoint in and out.

use insn::plan::Reason;
use insn::xol::{How, OutOfLine, out_of_line};
use insn::{Address, Flow, Isa, inspect};

use super::Stepper;
use crate::error::TargetError;
use crate::tracee::Tracee;

/// Bytes of the longest instruction of any ISA.
const LONGEST: usize = 16;

/// A place to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub at: Address,
    /// The ISA of the code there.
    pub isa: Isa,
    /// What the program's file has there: at least the instruction, of a branch its delay slot too.
    pub expected: Vec<u8>,
    /// The branch in whose delay slot it is, and what the file has there. The breakpoint stands on the branch, since a thread that
    /// stops between the two has forgotten the branch on most processors.
    pub branch: Option<(Address, Vec<u8>)>,
}

impl Wanted {
    /// Where the breakpoint is to stand.
    fn site(&self) -> Address {
        self.branch.as_ref().map_or(self.at, |(branch, _)| *branch)
    }
}

/// Why a place is not probed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The instruction cannot be carried out elsewhere.
    #[error(transparent)]
    Reason(#[from] Reason),
    /// Its bytes are not those of the file, or it cannot be reached.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// One armed place.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) isa: Isa,
    /// The instruction.
    pub(super) original: Vec<u8>,
    pub(super) how: How,
    /// Its slot, if it has one.
    pub(super) slot: Option<Address>,
    pub(super) breakpoint: Breakpoint,
    pub(super) hits: u64,
}

/// A probed instruction in a branch's delay slot.
#[derive(Clone, Debug)]
pub(super) struct DelaySlot {
    pub(super) at: Address,
    pub(super) hits: u64,
}

/// How a breakpoint stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakpoint {
    /// Not at all.
    Out,
    /// Set by the tracee.
    Inserted,
    /// Written by us.
    Written,
}

impl Site {
    /// The bytes that a breakpoint of ours over it has.
    pub(super) fn trap(&self) -> &'static [u8] {
        self.isa.breakpoint(self.original.len())
    }

    /// Whether the displaced instruction calls the kernel, where a thread may sleep.
    pub(super) fn calls_the_kernel(&self) -> bool {
        let calls = |code| inspect(self.isa, Address(0), code).is_some_and(|insn| insn.flow == Flow::Syscall);
        matches!(&self.how, How::Slot(slot) if calls(&slot.code))
    }

    /// Where the slot's code ends: its breakpoint.
    pub(super) fn slot_end(&self) -> Option<Address> {
        Some(self.slot? + self.how.slot()?.code.len() as u64)
    }
}

impl<T: Tracee> Stepper<T> {
    /// Probes places; the tracee stands still. What is probed already stays so. One answer for each, in order.
    ///
    /// # Errors
    /// What concerns all of them: the slots could not be mapped or written. No breakpoint was set then.
    pub fn install(&mut self, wanted: &[Wanted]) -> Result<Vec<Result<(), Refusal>>, TargetError> {
        let mut live = Live::default();
        let mut planned: Vec<Result<Option<Site>, Refusal>> = Vec::new();
        for place in wanted {
            planned.push(match self.sites.contains_key(&place.site()) {
                true => Ok(None),
                false => self.plan(place, &mut live).map(Some),
            });
        }
        let mut new: Vec<&mut Site> = planned.iter_mut().flatten().flatten().collect();
        self.write_slots(&mut new)?;
        let mut answers = Vec::new();
        for (place, site) in wanted.iter().zip(planned) {
            answers.push(match site {
                Ok(Some(site)) if !self.sites.contains_key(&place.site()) => {
                    self.arm(place.site(), site).map_err(Refusal::from)
                }
                Ok(_) => Ok(()),
                Err(refusal) => Err(refusal),
            });
            if let (Some((branch, _)), Some(Ok(()))) = (&place.branch, answers.last()) {
                self.delay_slots.entry(*branch).or_insert(DelaySlot { at: place.at, hits: 0 });
            }
        }
        Ok(answers)
    }

    fn plan(&mut self, place: &Wanted, live: &mut Live) -> Result<Site, Refusal> {
        let (at, in_file) =
            place.branch.as_ref().map_or((place.at, &place.expected), |(at, file)| (*at, file));
        let planned = out_of_line(place.isa, at, in_file)?;
        if place.branch.is_some() && matches!(planned.how, How::Slot(_)) {
            return Err(Reason::DelaySlot { branch: at }.into());
        }
        let first = |len: usize| in_file.get(..len).unwrap_or(in_file);
        let expected = first(planned.depends_on(place.isa, at, in_file));
        let found = live.read(&mut self.tracee, at, expected.len())?;
        if found != expected {
            return Err(changed(at, &found, expected).into());
        }
        let OutOfLine { len, how } = planned;
        let original = first(len).to_vec();
        Ok(Site { isa: place.isa, original, how, slot: None, breakpoint: Breakpoint::Out, hits: 0 })
    }

    fn arm(&mut self, at: Address, mut site: Site) -> Result<(), TargetError> {
        if self.insert(site.isa, at, &site.original)? {
            site.breakpoint = Breakpoint::Inserted;
        } else {
            self.tracee.write(at, site.trap())?;
            site.breakpoint = Breakpoint::Written;
            self.publish(at, site.trap().len())?;
        }
        self.slots.extend(site.slot.map(|slot| (slot, at)));
        self.sites.insert(at, site);
        Ok(())
    }

    /// Whether the tracee set a breakpoint over these bytes; where it turns out that it sets none we write them.
    pub(super) fn insert(&mut self, isa: Isa, at: Address, original: &[u8]) -> Result<bool, TargetError> {
        if !self.tracee.abilities().breakpoints {
            return Ok(false);
        }
        match self.tracee.insert_breakpoint(isa, at, original) {
            Err(_) if !self.tracee.abilities().breakpoints => Ok(false),
            inserted => inserted.map(|()| true),
        }
    }

    /// Takes a site's breakpoint out; the site stays known, with its hits.
    pub(super) fn disarm(&mut self, at: Address) -> Result<(), TargetError> {
        let Some(site) = self.sites.get_mut(&at) else { return Ok(()) };
        match std::mem::replace(&mut site.breakpoint, Breakpoint::Out) {
            Breakpoint::Out => Ok(()),
            Breakpoint::Inserted => self.tracee.remove_breakpoint(site.isa, at, &site.original),
            Breakpoint::Written => {
                let trap = site.trap();
                let original = site.original.get(..trap.len()).unwrap_or_default().to_vec();
                let mut found = vec![0; trap.len()];
                self.tracee.read(at, &mut found)?;
                if found != trap {
                    return Err(changed(at, &found, trap));
                }
                self.tracee.write(at, &original)?;
                self.publish(at, original.len())
            }
        }
    }

    /// Sets a known site's breakpoint again.
    pub(super) fn rearm(&mut self, at: Address) -> Result<(), TargetError> {
        match self.sites.get(&at).cloned() {
            Some(site) => self.arm(at, site),
            None => Ok(()),
        }
    }

    /// Whether the memory at a site is the program's own.
    pub(super) fn is_restored(&mut self, at: Address) -> bool {
        let Some(site) = self.sites.get(&at) else { return true };
        let mut found = vec![0; site.original.len()];
        self.tracee.read(at, &mut found).is_ok() && found == site.original
    }
}

fn changed(at: Address, found: &[u8], expected: &[u8]) -> TargetError {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    TargetError::Changed { address: at, found: hex(found), expected: hex(expected) }
}

/// Memory of the tracee, read in larger pieces: sites lie close together, and each question takes its time.
#[derive(Debug, Default)]
struct Live {
    start: Address,
    bytes: Vec<u8>,
}

impl Live {
    const PIECE: u64 = 1024;

    fn read<T: Tracee>(&mut self, tracee: &mut T, at: Address, len: usize) -> Result<Vec<u8>, TargetError> {
        if let Some(found) = self.known(at, len) {
            return Ok(found);
        }
        // The piece may end where nothing is mapped any more.
        let mut bytes = vec![0; usize::try_from(Self::PIECE).unwrap_or_default()];
        let start = Address(at.0 & !(Self::PIECE - 1));
        if len <= LONGEST && tracee.read(start, &mut bytes).is_ok() {
            *self = Self { start, bytes };
            if let Some(found) = self.known(at, len) {
                return Ok(found);
            }
        }
        let mut found = vec![0; len];
        tracee.read(at, &mut found)?;
        Ok(found)
    }

    fn known(&self, at: Address, len: usize) -> Option<Vec<u8>> {
        let from = usize::try_from(at.0.checked_sub(self.start.0)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?).map(<[u8]>::to_vec)
    }
}
