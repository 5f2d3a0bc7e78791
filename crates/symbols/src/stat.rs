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

impl Stat {
    /// Whether it is a thread of the kernel.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
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
