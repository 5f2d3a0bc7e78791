//! Fields of the kernel's text files (proc(5)) that nothing else reads. A field that is not there is `None`.

use symbols::status::Status;

/// The value of `name:` in `/proc/cpuinfo`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// Whether effective capability number `capability` (linux/capability.h) is held.
pub(super) fn has_capability(status: &Status, capability: u32) -> bool {
    status.capabilities.is_some_and(|mask| mask >> capability & 1 == 1)
}

/// Whether the CPU (of this machine) has `flag`.
pub(super) fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|one| one == flag))
}

/// Major and minor number of a kernel release such as `6.1.0-13-amd64`.
pub(super) fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A setting of the kernel's command line.
pub(super) fn setting<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    // The last one counts.
    command_line.split_whitespace().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        let status = Status::parse(b"CapEff:\t0000000000080000\n");
        assert!(has_capability(&status, 19) && !has_capability(&status, 18));
        assert!(!has_capability(&Status::default(), 19));
    }

    #[test]
    fn cpu_flags_are_whole_words() {
        let text = "processor\t: 0\nflags\t\t: fpu rdpid_not tsc\n";
        assert!(has_flag(text, "tsc"));
        assert!(!has_flag(text, "rdpid"));
    }

    #[test]
    fn releases() {
        assert_eq!(release("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(release("7.3-rc1"), Some((7, 3)));
        assert_eq!(release("next"), None);
        assert_eq!(release("99999999999.1"), None);
    }

    #[test]
    fn settings() {
        let line = "quiet proc_mem.force_override=always proc_mem.force_override=never";
        assert_eq!(setting(line, "proc_mem.force_override"), Some("never"));
        assert_eq!(setting(line, "proc_mem"), None);
    }
}
