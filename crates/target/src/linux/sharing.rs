//! Whether two tasks share their memory. The kernel answers that (kcmp(2)) to whom it lets: Docker's default profile, for one,
//! allows the call only with CAP_SYS_PTRACE, and some kernels have none. To take a vfork child for one with a memory of its own
//! would be to take the probes out of its parent, under the threads that run through them.

use std::fs;

use insn::Isa;

use super::Process;
use super::living::has_memory;
use crate::seam::{Target, Tid};
use crate::sys::process;

/// A bit of /proc/PID/coredump_filter, which belongs to the memory and not to the process: whether shared pages of DAX files
/// are in a core dump (core(5)). It is turned over and back.
const FLAG: u32 = 1 << 8;

/// How a call makes tasks.
enum Maker {
    /// A new memory.
    Apart,
    /// The same one.
    Sharing,
    /// As its first argument says.
    Flags,
    /// As the first word says to which its first argument points.
    Described,
}

/// What makes tasks, by the number of the call.
fn maker(isa: Isa, number: u64) -> Option<Maker> {
    // fork, vfork, clone, clone3.
    let numbers = match isa {
        Isa::X86_64 => [57, 58, 56, 435],
        Isa::I386 => [2, 190, 120, 435],
        _ => return None,
    };
    let position = numbers.iter().position(|known| *known == number)?;
    [Maker::Apart, Maker::Sharing, Maker::Flags, Maker::Described].into_iter().nth(position)
}

impl Process {
    /// Whether a task shares our memory; `None` where nobody tells. `maker` is who just made it, and stands at the event of that.
    pub(super) fn shares(&self, maker: Option<Tid>, tid: Tid) -> Option<bool> {
        let Some(witness) = self.witness().filter(|_| has_memory(tid.0)) else { return Some(false) };
        let told = process::same_address_space(witness.0, tid.0).ok();
        told.or_else(|| self.made_sharing(maker?)).or_else(|| Some(!flagged(witness, vec![tid])?.is_empty()))
    }

    /// Whether the call in which a task stands makes tasks that share the memory.
    fn made_sharing(&self, maker: Tid) -> Option<bool> {
        let registers = self.registers(maker).ok()?;
        let abi = &self.isa.abi().syscall;
        let first = registers.get(*abi.arguments.first()?);
        let shares = |flags: u64| flags & u64::from(libc::CLONE_VM.cast_unsigned()) != 0;
        match self::maker(self.isa, registers.get(abi.original_number?))? {
            Maker::Apart => Some(false),
            Maker::Sharing => Some(true),
            Maker::Flags => Some(shares(first)),
            Maker::Described => {
                let mut flags = [0; 8];
                self.read(insn::Address(first), &mut flags).ok()?;
                Some(shares(u64::from_le_bytes(flags)))
            }
        }
    }

    /// Those of `others` that share our memory, or probably do; `None` where nobody tells.
    pub(super) fn sharing(&self, others: Vec<Tid>) -> Option<Vec<Tid>> {
        let Some(witness) = self.witness() else { return Some(Vec::new()) };
        let own = process::own_pid();
        if process::same_address_space(own, own).is_err() {
            return flagged(witness, others);
        }
        // What may not be compared belongs to somebody else.
        let shares = |tid: &Tid| process::same_address_space(witness.0, tid.0).unwrap_or(false);
        Some(others.into_iter().filter(shares).collect())
    }
}

/// Those of `others` in which a flag of `with`'s memory is seen to change; `None` where it cannot be changed.
fn flagged(with: Tid, others: Vec<Tid>) -> Option<Vec<Tid>> {
    let first = filter_of(with)?;
    let mut before: Vec<(Tid, Option<u32>)> = others.into_iter().map(|tid| (tid, filter_of(tid))).collect();
    before.retain(|(_, filter)| *filter == Some(first));
    set_filter(with, first ^ FLAG)?;
    let now = filter_of(with);
    before.retain(|(tid, _)| filter_of(*tid) == Some(first ^ FLAG));
    // The other bits as they are by now: they are the program's.
    set_filter(with, now.unwrap_or(first ^ FLAG) ^ FLAG);
    (now == Some(first ^ FLAG)).then(|| before.into_iter().map(|(tid, _)| tid).collect())
}

fn filter_of(tid: Tid) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{tid}/coredump_filter")).ok()?;
    u32::from_str_radix(text.trim(), 16).ok()
}

fn set_filter(tid: Tid, filter: u32) -> Option<()> {
    fs::write(format!("/proc/{tid}/coredump_filter"), format!("{filter:#x}")).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_flag_is_seen_by_who_shares_the_memory_and_is_as_it_was() {
        let own = Tid(process::own_pid());
        let Some(first) = filter_of(own).filter(|first| set_filter(own, *first).is_some()) else {
            eprintln!("skipped: /proc/PID/coredump_filter cannot be written");
            return;
        };
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let other = Tid(i32::try_from(child.id()).unwrap());
        // A thread shares it; another process, with the same filter, does not.
        let thread = std::thread::spawn(|| {
            let thread = fs::read_link("/proc/thread-self").unwrap();
            let thread = Tid(thread.file_name().unwrap().to_str().unwrap().parse().unwrap());
            flagged(Tid(process::own_pid()), vec![thread]).map(|found| found == [thread])
        });
        assert_eq!(thread.join().unwrap(), Some(true));
        assert_eq!(flagged(own, vec![other]), Some(vec![]));
        assert_eq!(filter_of(own), Some(first));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
