//! The two clocks of an event: the stub's time stamp and the user's.
//!
//! # Safety
//! `clock_gettime` writes one timespec on this frame; `rdtsc` reads a counter.
#![allow(unsafe_code, reason = "clock_gettime(2) takes a raw pointer")]

/// `CLOCK_MONOTONIC`, nanoseconds.
#[must_use]
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let (seconds, nanoseconds) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// The counter that stubs on this machine read, and `CLOCK_MONOTONIC` at the same moment: the reading of several whose
/// counter was read in the shortest time.
#[must_use]
pub fn pair() -> (u64, u64) {
    (0..3)
        .map(|_| {
            let before = stamp();
            let time = monotonic();
            let after = stamp();
            (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), time)
        })
        .min()
        .map_or((0, 0), |(_, stamp, time)| (stamp, time))
}

/// The native time stamp: a traced task's stubs run on the CPUs that we run on.
#[cfg(target_arch = "x86_64")]
fn stamp() -> u64 {
    // SAFETY: rdtsc has no precondition (CR4.TSD is never set on Linux for ordinary tasks).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// No native stubs yet.
#[cfg(not(target_arch = "x86_64"))]
fn stamp() -> u64 {
    monotonic()
}
