//! What the kernel says, as it says it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use insn::Address;
use symbols::status::Status;
use target::area::Description;
use target::recover;

use crate::files::shown;

/// How an attempt went: `None` if it worked, else the error's text.
pub type Attempt = Option<String>;

/// Texts and answers that the findings are made from. A file that cannot be read is empty.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// `/proc/cmdline`.
    pub command_line: String,
    /// `/proc/cpuinfo`.
    pub cpuinfo: String,
    /// The clock source in use.
    pub clocksource: String,
    /// `/proc/sys/kernel/yama/ptrace_scope`; `None` where Yama is not built in.
    pub ptrace_scope: Option<String>,
    /// SELinux's boolean `deny_ptrace`; `None` without SELinux.
    pub deny_ptrace: Option<String>,
    /// `/proc/sys/vm/max_map_count`.
    pub max_map_count: String,
    /// `/proc/sys/vm/memfd_noexec`; `None` before Linux 6.3.
    pub memfd_noexec: Option<String>,
    /// `/proc/self/status`.
    pub own_status: Status,
    /// Where `/proc/self/ns/user` points.
    pub own_user_namespace: String,
    /// Writing to our own read-only memory through `/proc/self/mem`.
    pub forced_write: Attempt,
    /// The process asked about.
    pub process: Option<ProcessFacts>,
}

/// What the kernel says of a process.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// Its number.
    pub pid: u32,
    /// `/proc/PID/status`.
    pub status: Status,
    /// `/proc/PID/maps`; empty if it may not be read.
    pub maps: String,
    /// Where `/proc/PID/ns/user` points; empty if it may not be read.
    pub user_namespace: String,
    /// Kinds of namespaces (`mnt`, `pid`, `user`) in which it is not with us.
    pub foreign: Vec<&'static str>,
    /// Its root directory as we see it; empty if it may not be read.
    pub root: String,
    /// The owner of `/proc/PID/mem`: root for a process that is not dumpable (fs/proc/base.c, `task_dump_owner`, which makes
    /// an exception of the folder itself).
    pub owner: u32,
    /// The first bytes of its executable; empty if it may not be read.
    pub executable: Vec<u8>,
    /// What an xol has, or had, in it.
    pub areas: Vec<AreaFacts>,
    /// Opening `/proc/PID/mem` for writing, which asks the kernel the same question as attaching
    /// (`PTRACE_MODE_ATTACH_FSCREDS`, ptrace(2)) and changes nothing.
    pub open_memory: Attempt,
}

/// An area that an xol made, as it describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaFacts {
    /// Where it is.
    pub address: Address,
    /// Changes of the text that it lists.
    pub patches: usize,
    /// The tracer's process number.
    pub owner: i32,
    /// Whether that process still lives.
    pub is_owner_alive: bool,
}

impl Facts {
    /// Reads all there is to read on this machine and, if asked for, of process `pid`.
    ///
    /// # Errors
    /// The path and error, where there is no such process.
    pub fn gather(pid: Option<u32>) -> Result<Self, (PathBuf, io::Error)> {
        let process = pid.map(ProcessFacts::gather).transpose()?;
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            command_line: read("/proc/cmdline"),
            cpuinfo: read("/proc/cpuinfo"),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            ptrace_scope: fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok(),
            deny_ptrace: fs::read_to_string("/sys/fs/selinux/booleans/deny_ptrace").ok(),
            max_map_count: read("/proc/sys/vm/max_map_count"),
            memfd_noexec: fs::read_to_string("/proc/sys/vm/memfd_noexec").ok(),
            own_status: Status::parse(read("/proc/self/status").as_bytes()),
            own_user_namespace: link("/proc/self/ns/user"),
            forced_write: attempt(write_own_constant()),
            process,
        })
    }
}

impl ProcessFacts {
    fn gather(pid: u32) -> Result<Self, (PathBuf, io::Error)> {
        // A thread's number has a folder too (proc(5)), but it is not a process.
        let status = PathBuf::from(format!("/proc/{pid}/status"));
        let status = fs::read(&status).map_err(|error| (status, error))?;
        let folder = shown(pid);
        let path = |name| folder.join(name);
        let owner = fs::metadata(path("mem")).map_err(|error| (path("mem"), error))?.uid();
        let memory = OpenOptions::new().write(true).open(path("mem"));
        Ok(Self {
            pid,
            status: Status::parse(&status),
            maps: read(path("maps")),
            user_namespace: link(path("ns/user")),
            foreign: foreign(&folder),
            root: link(path("root")),
            owner,
            areas: areas(pid),
            executable: start_of(&path("exe")).unwrap_or_default(),
            open_memory: attempt(memory.map(drop)),
        })
    }
}

/// What may not be looked at counts as ours: the finding on permission says more.
fn foreign(folder: &Path) -> Vec<&'static str> {
    let is_other = |kind: &&str| {
        let theirs = link(folder.join("ns").join(kind));
        !theirs.is_empty() && theirs != link(Path::new("/proc/self/ns").join(kind))
    };
    ["mnt", "pid", "user"].into_iter().filter(is_other).collect()
}

fn areas(pid: u32) -> Vec<AreaFacts> {
    let found = i32::try_from(pid).ok().and_then(|pid| recover::find(pid).ok());
    let facts = |(address, area): &(Address, Description)| AreaFacts {
        address: *address,
        patches: area.entries.len(),
        owner: area.owner,
        is_owner_alive: recover::is_owner_alive(area),
    };
    found.unwrap_or_default().iter().map(facts).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn link(path: impl AsRef<Path>) -> String {
    fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default()
}

fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 20];
    File::open(path)?.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn attempt(result: io::Result<()>) -> Attempt {
    result.err().map(|error| error.to_string())
}

/// Writes a byte of a constant of ours over itself through `/proc/self/mem`: possible exactly where the kernel lets
/// that file override page protection (`proc_mem.force_override`, Linux 6.12), as patching text needs.
fn write_own_constant() -> io::Result<()> {
    static CONSTANT: [u8; 1] = *b"x";
    let address = std::ptr::from_ref(&CONSTANT).addr() as u64;
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&CONSTANT, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_very_process() {
        let facts = Facts::gather(Some(std::process::id())).unwrap();
        assert!(!facts.kernel.is_empty() && facts.own_status.uids.is_some());
        let process = facts.process.unwrap();
        assert_eq!(process.open_memory, None, "a process may write to itself");
        assert!(process.maps.contains("[stack]"));
        assert_eq!(process.executable[..4], *b"\x7fELF");
        assert_eq!(process.user_namespace, facts.own_user_namespace);
        assert_eq!(process.foreign, [""; 0]);
    }

    #[test]
    fn of_no_process() {
        let (path, error) = Facts::gather(Some(1 << 22)).unwrap_err();
        assert_eq!(path, Path::new("/proc/4194304/status"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
