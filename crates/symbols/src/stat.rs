//! What xol asks of `/proc/PID/stat` (proc_pid_stat(5)).

use insn::Address;

/// The fields, by the names of the manual page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 1.
    pub pid: i32,
    /// Field 2: the name of the program, at most 15 bytes; it may hold anything, parentheses too.
    pub comm: String,
    /// Field 3: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, ...
    pub state: char,
    /// Field 4: the parent.
    pub ppid: i32,
    /// Field 9: the kernel's `PF_` flags.
    pub flags: u64,
    /// Field 22: clock ticks between boot and start: with the pid it identifies a process.
    pub start_time: u64,
    /// Field 28: the bottom of the main stack; 0 where reading it is not permitted.
    pub start_stack: Address,
    /// Field 47: where the heap begins; 0 where reading it is not permitted (and on kernels before 3.3).
    pub start_brk: Address,
}

/// `PF_KTHREAD` (include/linux/sched.h): a thread of the kernel, without memory of its own.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Workers that the kernel makes as threads of a process: `PF_IO_WORKER` (io_uring, since Linux 5.12), `PF_USER_WORKER` (all of
/// them, since 6.4), and how it names them (io_uring/io-wq.c, io_uring/sqpoll.c, drivers/vhost/vhost.c). Older kernels use the
/// bits for something else, and names are free to all: only both together say so.
const WORKER: u64 = 0x10 | 0x4000;
const WORKERS: [&str; 2] = ["iou-", "vhost-"];

impl Stat {
    /// Whether it is a thread of the kernel.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether it is a task that the kernel made for itself in a process: it shares all with the process's threads, and never
    /// runs the process's code.
    #[must_use]
    pub fn is_kernels_worker(&self) -> bool {
        self.flags & WORKER != 0 && WORKERS.iter().any(|name| self.comm.starts_with(name))
    }

    /// Reads the file's text; `None` for text of another form.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        // The name ends at the last parenthesis: the program chose it, the rest is numbers.
        let (pid, rest) = text.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            state: field(3)?.chars().next()?,
            ppid: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
            start_stack: Address(field(28)?.parse().ok()?),
            start_brk: Address(field(47).and_then(|text| text.parse().ok()).unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_may_hold_anything() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        for name in ["sleep", "a b", "x) S 1 (y", ")", "("] {
            let stat = Stat::parse(format!("42 ({name}) t {}\n", numbers.join(" ")).as_bytes()).unwrap();
            assert_eq!((stat.pid, stat.comm.as_str(), stat.state, stat.ppid), (42, name, 't', 4), "{name}");
            assert_eq!((stat.flags, stat.is_kernel_thread()), (9, false));
            assert_eq!((stat.start_time, stat.start_stack, stat.start_brk), (22, Address(28), Address(47)));
        }
    }

    #[test]
    fn a_worker_of_the_kernel_has_its_flag_and_its_name() {
        let numbers: Vec<String> = (10..=52).map(|field| field.to_string()).collect();
        let is_one = |comm: &str, flags: u64| {
            let text = format!("42 ({comm}) S 1 1 1 0 -1 {flags} {}", numbers.join(" "));
            Stat::parse(text.as_bytes()).unwrap().is_kernels_worker()
        };
        // As Linux 5.15 and 6.18 show them.
        assert!(is_one("iou-wrk-41", 0x40_4050) && is_one("iou-sqp-41", 0x10) && is_one("vhost-41", 0x4000));
        assert!(!is_one("iou-wrk-41", 0x40_0040), "a program's own thread of that name");
        assert!(!is_one("CPU 0/KVM", 0x40_0050), "a virtual CPU, on old kernels");
    }

    #[test]
    fn our_own_stat_names_us_and_our_heap() {
        let stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(u32::try_from(stat.pid), Ok(std::process::id()));
        assert!(stat.start_time > 0 && stat.start_brk.0 > 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read(bytes: Vec<u8>, text in "[0-9]{1,4} \\(.{0,8}\\) [RS] [-0-9 ]{0,120}") {
            let _ = Stat::parse(&bytes);
            let _ = Stat::parse(text.as_bytes());
        }
    }
}
