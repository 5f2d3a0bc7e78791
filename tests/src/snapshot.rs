//! What can be seen of a target from outside, without touching it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::process::{Process, wait_for};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Addresses.
    pub range: Range<u64>,
    /// `r-xp` and the like.
    pub permissions: String,
    /// Offset in the file.
    pub offset: u64,
    /// The rest of the line: a file, `[heap]`, or nothing.
    pub path: String,
}

impl Region {
    /// Whether it is one of xol's: stubs or shared state.
    #[must_use]
    pub fn is_xol(&self) -> bool {
        self.path.contains("memfd:xol")
    }

    /// Whether it is program text: executable and from a file that is still there.
    fn is_text(&self) -> bool {
        self.permissions.contains('x')
            && self.path.starts_with('/')
            && !self.is_xol()
            && !self.path.ends_with(" (deleted)")
    }
}

/// The mappings of a process.
///
/// # Panics
/// It is gone.
#[must_use]
pub fn maps(pid: u32) -> Vec<Region> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))
        .unwrap_or_else(|error| panic!("maps of {pid}: {error}"));
    text.lines().map(parse_region).collect()
}

fn parse_region(line: &str) -> Region {
    let mut fields = line.splitn(6, ' ');
    let mut field = || fields.next().unwrap_or_default();
    let (start, end) = field().split_once('-').expect("a range");
    let hex = |digits| u64::from_str_radix(digits, 16).expect("hexadecimal");
    let range = hex(start)..hex(end);
    let permissions = field().to_owned();
    let offset = hex(field());
    let path = fields.nth(2).unwrap_or_default().trim_start().to_owned();
    Region { range, permissions, offset, path }
}

/// Where a file is loaded: the lowest address of its first mapping (offset 0).
#[must_use]
pub fn base_of(pid: u32, path: &str) -> Option<u64> {
    maps(pid).iter().find(|region| region.path == path && region.offset == 0).map(|region| region.range.start)
}

/// Bytes of a process's memory.
///
/// # Errors
/// The process is gone, not ours, or has nothing there.
pub fn read_memory(pid: u32, address: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, address)?;
    Ok(bytes)
}

/// The addresses at which executable file mappings differ from their files.
///
/// # Panics
/// The process is gone.
#[must_use]
pub fn text_changes(pid: u32) -> Vec<u64> {
    let mut changes = Vec::new();
    for region in maps(pid).into_iter().filter(Region::is_text) {
        let len = usize::try_from(region.range.end - region.range.start).expect("a mapping fits");
        let live =
            read_memory(pid, region.range.start, len).unwrap_or_else(|error| panic!("{region:?}: {error}"));
        let mut file = vec![0; len];
        let Ok(stored) = File::open(&region.path).and_then(|f| f.read_at(&mut file, region.offset)) else {
            continue;
        };
        let differing = (0..stored).filter(|&at| live[at] != file[at]);
        changes.extend(differing.map(|at| region.range.start + at as u64));
    }
    changes
}

/// One field of `/proc/PID/status`.
#[must_use]
pub fn status_field(pid: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// Who traces a process.
#[must_use]
pub fn tracer_of(pid: u32) -> Option<u32> {
    status_field(pid, "TracerPid")?.parse().ok().filter(|&tracer| tracer != 0)
}

/// The children of a process.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Blocked, ignored and caught signals of one thread, as the kernel prints them.
pub type Masks = [String; 3];

/// The masks and dispositions of every thread.
///
/// # Panics
/// The process is gone.
#[must_use]
pub fn masks(pid: u32) -> BTreeMap<u32, Masks> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a live process").flatten();
    let tids = threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    tids.filter_map(|tid| Some((tid, masks_of(pid, tid)?))).collect()
}

fn masks_of(pid: u32, tid: u32) -> Option<Masks> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    Some([field("SigBlk:")?, field("SigIgn:")?, field("SigCgt:")?])
}

/// What a session must leave as it found it.
#[derive(Debug)]
pub struct Snapshot {
    /// Mappings, without xol's own.
    pub maps: Vec<Region>,
    /// Blocked, ignored and caught signals by thread.
    pub masks: BTreeMap<u32, Masks>,
    /// Open descriptors and what they are.
    pub descriptors: BTreeMap<String, String>,
    /// Addresses at which text differs from its file.
    pub changes: Vec<u64>,
    /// The tracer.
    pub tracer: Option<u32>,
}

impl Snapshot {
    /// Looks at a process.
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process of ours").flatten();
        let descriptors = folder.filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), target.to_string_lossy().into_owned()))
        });
        let own = maps(pid).into_iter().filter(|region| !region.is_xol());
        Self {
            maps: own.collect(),
            masks: masks(pid),
            descriptors: descriptors.collect(),
            changes: text_changes(pid),
            tracer: tracer_of(pid),
        }
    }

    /// Asserts that a process is as it was, and tells only what differs.
    ///
    /// # Panics
    /// Something differs.
    pub fn assert_unchanged(&self, pid: u32) {
        let now = Self::of(pid);
        let gone = self.maps.iter().filter(|region| !now.maps.contains(region));
        let new = now.maps.iter().filter(|region| !self.maps.contains(region));
        let (gone, new): (Vec<_>, Vec<_>) = (gone.collect(), new.collect());
        assert!(gone.is_empty() && new.is_empty(), "mappings: gone {gone:x?}, new {new:x?}");
        assert_eq!(now.masks, self.masks, "blocked, ignored and caught signals");
        assert_eq!(now.descriptors, self.descriptors, "open descriptors");
        assert_eq!(now.changes, self.changes, "text that differs from its file");
        assert_eq!(now.tracer, self.tracer, "the tracer");
    }
}

/// Addresses of a program, and the bytes that stood there before any probe.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    places: Vec<(u64, Vec<u8>)>,
}

impl Watch {
    /// Watches the functions with these names of the program's first line.
    #[must_use]
    pub fn on(target: &Process, names: &[&str]) -> Self {
        let addresses: Vec<_> = names.iter().map(|name| target.address(name)).collect();
        Self::at(target.pid(), &addresses)
    }

    /// Watches these addresses.
    ///
    /// # Panics
    /// There is no memory.
    #[must_use]
    pub fn at(pid: u32, addresses: &[u64]) -> Self {
        let original = |&address| {
            let bytes = read_memory(pid, address, 9).unwrap_or_else(|error| panic!("{address:#x}: {error}"));
            // Behind an `endbr64` (f3 0f 1e fa) the patch starts four bytes later.
            let len = if bytes.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) { 9 } else { 5 };
            (address, bytes[..len].to_vec())
        };
        Self { pid, places: addresses.iter().map(original).collect() }
    }

    fn is_changed(&self, (address, original): &(u64, Vec<u8>)) -> bool {
        read_memory(self.pid, *address, original.len()).is_ok_and(|live| live != *original)
    }

    /// The places where no probe is.
    #[must_use]
    pub fn unarmed(&self) -> Vec<u64> {
        self.places.iter().filter(|place| !self.is_changed(place)).map(|(address, _)| *address).collect()
    }

    /// Whether a probe is at every place.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.unarmed().is_empty()
    }

    /// Whether no probe is at any place.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        !self.places.iter().any(|place| self.is_changed(place))
    }

    /// Waits until no probe is at any place.
    pub fn wait_restored(&self) {
        wait_for("the original text", || self.is_restored().then_some(()));
    }
}
