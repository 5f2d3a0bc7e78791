//! `xol --version`: what a bug report needs to say of the machine.

use std::fs;

/// CPU features that decide what xol generates or how it times: shard choice, thread lookup, clocks, shadow stacks.
const FEATURES: [&str; 9] = [
    "constant_tsc",
    "nonstop_tsc",
    "rdpid",
    "fsgsbase",
    "lahf_lm",
    "serialize",
    "ibt",
    "user_shstk",
    "hypervisor",
];

/// The lines of `--version` for this machine.
pub(crate) fn lines() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    render(&read("/proc/sys/kernel/osrelease"), &read("/proc/cpuinfo"))
}

fn render(kernel: &str, cpuinfo: &str) -> String {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let flags: Vec<&str> = field("flags").unwrap_or_default().split_whitespace().collect();
    let (have, lack): (Vec<&str>, Vec<&str>) = FEATURES.iter().partition(|feature| flags.contains(feature));
    format!(
        "xol {}\nkernel: {} ({})\ncpu: {}\nfeatures: {}\nwithout: {}\n",
        env!("CARGO_PKG_VERSION"),
        or_unknown(kernel.trim()),
        std::env::consts::ARCH,
        or_unknown(field("model name").unwrap_or_default()),
        or_none(&have),
        or_none(&lack),
    )
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_is_name_and_version_then_the_machine() {
        let text = render(
            "6.1.0-13-amd64\n",
            "processor\t: 0\nmodel name\t: Foo CPU\nflags\t\t: fpu rdpid lahf_lm\n",
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], concat!("xol ", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("kernel: 6.1.0-13-amd64 ("));
        assert_eq!(lines[2], "cpu: Foo CPU");
        assert_eq!(lines[3], "features: rdpid lahf_lm");
        assert_eq!(
            lines[4],
            "without: constant_tsc nonstop_tsc fsgsbase serialize ibt user_shstk hypervisor"
        );
    }

    #[test]
    fn a_machine_that_says_nothing() {
        let text = render("", "");
        assert!(text.contains("cpu: unknown\nfeatures: none\n"), "{text}");
    }
}
