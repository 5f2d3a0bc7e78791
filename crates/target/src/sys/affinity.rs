//! Which CPUs the calling thread runs on.
//!
//! # Safety
//! Plain system calls that read or write one `cpu_set_t` of ours, whose size is passed with it.
#![allow(unsafe_code, reason = "sched_getaffinity(2) and sched_setaffinity(2) have no safe wrapper in std")]

use std::io;

use libc::cpu_set_t;

/// Runs the calling thread on every CPU that it may run on, one after the other, and leaves its affinity as it was.
/// Each CPU switches to this process's address space on the way, if it had another's.
///
/// # Errors
/// EINVAL: the machine has more CPUs than a `cpu_set_t` holds.
pub fn visit_every_cpu() -> io::Result<()> {
    let before = affinity()?;
    let bits = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: the index is below the set's size.
    let allowed = (0..bits).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &before) });
    for cpu in allowed.collect::<Vec<_>>() {
        let mut one = empty();
        // SAFETY: the index is below the set's size.
        unsafe { libc::CPU_SET(cpu, &mut one) };
        // A CPU that goes offline meanwhile has nothing fetched ahead.
        let _ = set_affinity(&one);
    }
    set_affinity(&before)
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
}
