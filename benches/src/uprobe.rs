//! The kernel's uprobe on a function of the measured program, by `perf_event_open`: what xol is compared with.
//!
//! There is no other way in through tracefs to try when the PMU is missing: both come with `CONFIG_UPROBE_EVENTS`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys;

const PMU: &str = "/sys/bus/event_source/devices/uprobe/type";

/// An armed kernel uprobe; removed when dropped.
pub(crate) struct Uprobe {
    event: File,
    ring: Option<sys::Ring>,
}

impl Uprobe {
    /// Arms it at the run-time `address`, where `pid` has mapped `program`, to count.
    ///
    /// # Errors
    /// Why not, for the user: most often that only root may.
    pub(crate) fn arm(program: &Path, pid: u32, address: u64) -> Result<Self, String> {
        Ok(Self { event: open(program, pid, address, false)?, ring: None })
    }

    /// The same with a sample of each hit, in a ring.
    pub(crate) fn arm_with_samples(program: &Path, pid: u32, address: u64) -> Result<Self, String> {
        let event = open(program, pid, address, true)?;
        let ring = sys::Ring::map(&event).map_err(|error| format!("mapping the event's ring: {error}"))?;
        Ok(Self { event, ring: Some(ring) })
    }

    /// Samples since the last time; none of an uprobe that only counts.
    pub(crate) fn take_samples(&mut self) -> u64 {
        self.ring.as_mut().map_or(0, |ring| ring.take() / sys::SAMPLE_BYTES)
    }

    /// Hits so far.
    pub(crate) fn hits(&mut self) -> Result<u64, String> {
        let mut word = [0; 8];
        self.event.read_exact(&mut word).map_err(|error| format!("reading the event: {error}"))?;
        Ok(u64::from_ne_bytes(word))
    }
}

fn open(program: &Path, pid: u32, address: u64, samples: bool) -> Result<File, String> {
    let pmu = fs::read_to_string(PMU).map_err(|error| format!("{PMU}: {error}"))?;
    let pmu = pmu.trim().parse().map_err(|error| format!("{PMU}: {error}"))?;
    let maps = format!("/proc/{pid}/maps");
    let text = fs::read_to_string(&maps).map_err(|error| format!("{maps}: {error}"))?;
    let offset = file_offset(&text, address).ok_or_else(|| format!("{maps}: nothing at {address:#x}"))?;
    let path = CString::new(program.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let event = sys::open_uprobe(pmu, &path, offset, pid, samples);
    event.map(File::from).map_err(|error| format!("perf_event_open: {error}"))
}

/// The offset in the mapped file of a run-time address, from the text of `/proc/PID/maps`.
fn file_offset(maps: &str, address: u64) -> Option<u64> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (hex(start)?, hex(end)?);
        let offset = hex(fields.nth(1)?)?;
        if (start..end).contains(&address) { (address - start).checked_add(offset) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::file_offset;

    const MAPS: &str = "\
55d0c8a00000-55d0c8a01000 r--p 00000000 fe:00 1234  /tmp/target
55d0c8a01000-55d0c8a03000 r-xp 00001000 fe:00 1234  /tmp/target
not a mapping
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0     [stack]
";

    #[test]
    fn addresses_become_file_offsets() {
        assert_eq!(file_offset(MAPS, 0x55d0_c8a0_1000), Some(0x1000));
        assert_eq!(file_offset(MAPS, 0x55d0_c8a0_2fff), Some(0x2fff));
        assert_eq!(file_offset(MAPS, 0x55d0_c8a0_3000), None);
        assert_eq!(file_offset("", 1), None);
        assert_eq!(file_offset("0-ffffffffffffffff r-xp ffffffffffffffff 0:0 0", 1), None);
    }
}
