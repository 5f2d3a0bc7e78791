//! Which CPUs the calling thread runs on.
//!
//! # Safety
//! Plain system calls that read or write one `cpu_set_t` of ours, whose size is passed with it.
#![allow(unsafe_code, reason = "sched_getaffinity(2) and sched_setaffinity(2) have no safe wrapper in std")]

use std::{io, thread};

use libc::cpu_set_t;

/// How much stack a thread needs that only moves itself (the least that pthread_attr_setstacksize(3) takes, and room).
const STACK: usize = 64 << 10;

/// CPUs that a set has room for.
const BITS: usize = 8 * size_of::<cpu_set_t>();

/// Has this process run on every CPU that its cpuset lets it run on, even if the calling thread is confined to fewer: those it
/// visits for may not be. Each CPU switches to its address space on the way, if it had another's.
///
/// The target stands still meanwhile, and to get a turn on a busy CPU may take as long as a time slice: so the CPUs are visited
/// at once, by a thread each, and one after the other only where there can be no more threads.
///
/// # Errors
/// EINVAL: the machine has more CPUs than a `cpu_set_t` holds.
pub fn visit_every_cpu() -> io::Result<()> {
    let before = affinity()?;
    let within_reach = widen().unwrap_or(before);
    let mut unvisited = Vec::new();
    thread::scope(|scope| {
        for cpu in cpus(&within_reach) {
            let visit = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || visit(cpu));
            unvisited.extend(visit.is_err().then_some(cpu));
        }
    });
    unvisited.into_iter().for_each(visit);
    set_affinity(&before)
}

/// Lets the calling thread run wherever it may; where that is. The kernel takes from a set what is there and allowed.
fn widen() -> io::Result<cpu_set_t> {
    let mut all = empty();
    // SAFETY: the index is below the set's size.
    (0..BITS).for_each(|cpu| unsafe { libc::CPU_SET(cpu, &mut all) });
    set_affinity(&all)?;
    affinity()
}

fn cpus(set: &cpu_set_t) -> impl Iterator<Item = usize> {
    // SAFETY: the index is below the set's size.
    (0..BITS).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, set) })
}

/// Moves the calling thread. A CPU that goes offline meanwhile has nothing fetched ahead.
fn visit(cpu: usize) {
    let mut one = empty();
    // SAFETY: the index is below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut one) };
    let _ = set_affinity(&one);
}

fn empty() -> cpu_set_t {
    // SAFETY: a set of bits, for which all zeroes means none.
    unsafe { std::mem::zeroed() }
}

fn affinity() -> io::Result<cpu_set_t> {
    let mut set = empty();
    // SAFETY: the kernel writes at most the size given.
    match unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), &raw mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_affinity(set: &cpu_set_t) -> io::Result<()> {
    // SAFETY: the kernel reads the size given.
    match unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_is_as_before() {
        let before = affinity().unwrap();
        visit_every_cpu().unwrap();
        // SAFETY: two sets of the same size.
        assert!(unsafe { libc::CPU_EQUAL(&before, &affinity().unwrap()) });
    }

    #[test]
    fn a_confined_thread_reaches_the_other_cpus() {
        let before = affinity().unwrap();
        let first = cpus(&before).next().unwrap();
        visit(first);
        assert_eq!(cpus(&affinity().unwrap()).collect::<Vec<_>>(), [first]);
        let wide: Vec<usize> = cpus(&widen().unwrap()).collect();
        assert!(cpus(&before).all(|cpu| wide.contains(&cpu)), "{wide:?}");
        set_affinity(&before).unwrap();
    }
}
