//! What xol asks of `/proc/PID/status`, and of `/proc/PID/task/TID/syscall` (proc_pid_status(5), proc_pid_syscall(5)).

use insn::Address;

/// A set of signals, bit N-1 for signal N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Signal `number` is in the set.
    #[must_use]
    pub fn contains(self, number: u32) -> bool {
        number.checked_sub(1).and_then(|bit| self.0.checked_shr(bit)).is_some_and(|bits| bits & 1 != 0)
    }
}

/// The fields, each as far as the kernel gives it: a field that is missing or not understood is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `State`: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, ...
    pub state: Option<char>,
    /// `Tgid`: the process.
    pub process: Option<i32>,
    /// `TracerPid`: 0 for none.
    pub tracer: Option<i32>,
    /// `Uid`: real, effective, saved, file system.
    pub uids: Option<[u32; 4]>,
    /// `Gid`, likewise.
    pub gids: Option<[u32; 4]>,
    /// `NSpid`: the number in each PID namespace, the reader's first.
    pub namespace_pids: Vec<i32>,
    /// `Threads`.
    pub threads: Option<u64>,
    /// `SigPnd`: pending for this thread.
    pub pending: Option<SignalSet>,
    /// `ShdPnd`: pending for the process.
    pub shared_pending: Option<SignalSet>,
    /// `SigBlk`.
    pub blocked: Option<SignalSet>,
    /// `SigIgn`.
    pub ignored: Option<SignalSet>,
    /// `SigCgt`: has a handler.
    pub caught: Option<SignalSet>,
    /// `NoNewPrivs`.
    pub no_new_privileges: Option<bool>,
    /// `Seccomp`: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// `CapPrm`.
    pub permitted: Option<u64>,
    /// `CapEff`.
    pub capabilities: Option<u64>,
    /// `x86_Thread_features` has `shstk`: a shadow stack is in use.
    pub shadow_stack: bool,
}

impl Status {
    /// Reads the file's text; lines that are not known are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut status = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            // `Name:` holds whatever the program put there, but no newline: the kernel escapes it.
            let Ok(line) = std::str::from_utf8(line) else { continue };
            if let Some((field, value)) = line.split_once(':') {
                status.field(field, value.trim());
            }
        }
        status
    }

    fn field(&mut self, field: &str, value: &str) {
        let set = || u64::from_str_radix(value, 16).ok().map(SignalSet);
        match field {
            "State" => self.state = value.chars().next(),
            "Tgid" => self.process = value.parse().ok(),
            "TracerPid" => self.tracer = value.parse().ok(),
            "Uid" => self.uids = four(value),
            "Gid" => self.gids = four(value),
            "NSpid" => {
                self.namespace_pids = value.split_whitespace().map_while(|pid| pid.parse().ok()).collect()
            }
            "Threads" => self.threads = value.parse().ok(),
            "SigPnd" => self.pending = set(),
            "ShdPnd" => self.shared_pending = set(),
            "SigBlk" => self.blocked = set(),
            "SigIgn" => self.ignored = set(),
            "SigCgt" => self.caught = set(),
            "NoNewPrivs" => self.no_new_privileges = value.parse().ok().map(|flag: u32| flag != 0),
            "Seccomp" => self.seccomp = value.parse().ok(),
            "CapPrm" => self.permitted = u64::from_str_radix(value, 16).ok(),
            "CapEff" => self.capabilities = u64::from_str_radix(value, 16).ok(),
            "x86_Thread_features" => {
                self.shadow_stack = value.split_whitespace().any(|feature| feature == "shstk");
            }
            _ => {}
        }
    }
}

fn four(value: &str) -> Option<[u32; 4]> {
    let mut ids = value.split_whitespace().map(|id| id.parse().ok());
    Some([ids.next()??, ids.next()??, ids.next()??, ids.next()??])
}

/// What a thread is doing in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InKernel {
    /// On a CPU, or about to be: nothing is known.
    Running,
    /// Blocked, but not in a system call (a page fault, say).
    Blocked {
        /// Stack pointer.
        sp: Address,
        /// Program counter.
        pc: Address,
    },
    /// Blocked in a system call.
    Syscall {
        /// Its number.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
        /// Stack pointer.
        sp: Address,
        /// Program counter: behind the system-call instruction.
        pc: Address,
    },
}

impl InKernel {
    /// Reads `/proc/PID/task/TID/syscall`; `None` for text of another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        let first = fields.next()?;
        if first == "running" {
            return Some(Self::Running);
        }
        let mut word = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
        if first == "-1" {
            return Some(Self::Blocked { sp: Address(word()?), pc: Address(word()?) });
        }
        let number = first.parse().ok()?;
        let arguments = [word()?, word()?, word()?, word()?, word()?, word()?];
        Some(Self::Syscall { number, arguments, sp: Address(word()?), pc: Address(word()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "Name:\ta: b\nState:\tS (sleeping)\nTgid:\t7\nTracerPid:\t0\nUid:\t1000\t1000\t1001\t1000\n\
        NSpid:\t40\t7\nThreads:\t3\nSigBlk:\t0000000000000010\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180004002\n\
        Seccomp:\t2\nx86_Thread_features:\tshstk wrss\n";

    #[test]
    fn the_fields_are_read() {
        let status = Status::parse(EXAMPLE.as_bytes());
        assert_eq!((status.state, status.process, status.tracer), (Some('S'), Some(7), Some(0)));
        assert_eq!(status.uids, Some([1000, 1000, 1001, 1000]));
        assert_eq!(status.namespace_pids, [40, 7]);
        assert_eq!((status.threads, status.seccomp), (Some(3), Some(2)));
        assert!(status.blocked.unwrap().contains(5));
        assert!(status.ignored.unwrap().contains(13));
        assert!(status.caught.unwrap().contains(2) && !status.caught.unwrap().contains(3));
        assert!(status.shadow_stack);
        assert_eq!(status.pending, None);
    }

    #[test]
    fn signal_numbers_out_of_range_are_in_no_set() {
        let full = SignalSet(u64::MAX);
        assert!(full.contains(1) && full.contains(64));
        assert!(!full.contains(0) && !full.contains(65) && !full.contains(u32::MAX));
    }

    #[test]
    fn our_own_status_names_us() {
        let status = Status::parse(&std::fs::read("/proc/self/status").unwrap());
        assert_eq!(status.process, i32::try_from(std::process::id()).ok());
        assert!(status.threads >= Some(1) && status.uids.is_some() && status.blocked.is_some());
    }

    #[test]
    fn system_calls_in_their_three_forms() {
        assert_eq!(InKernel::parse("running\n"), Some(InKernel::Running));
        let blocked = InKernel::Blocked { sp: Address(0x7ffc), pc: Address(0x7f01) };
        assert_eq!(InKernel::parse("-1 0x7ffc 0x7f01\n"), Some(blocked));
        let sleeping = InKernel::parse("35 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffc 0x7f01");
        let expected = InKernel::Syscall {
            number: 35,
            arguments: [1, 2, 3, 4, 5, 6],
            sp: Address(0x7ffc),
            pc: Address(0x7f01),
        };
        assert_eq!(sleeping, Some(expected));
        assert_eq!(InKernel::parse("35 0x1"), None);
        assert_eq!(InKernel::parse(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(bytes: Vec<u8>, text in "(SigBlk|Uid|State|NSpid):[\t 0-9a-fx]{0,40}", call in "[-0-9a-fx ]{0,60}") {
            let _ = Status::parse(&bytes);
            let _ = Status::parse(text.as_bytes());
            let _ = InKernel::parse(&call);
        }
    }
}
