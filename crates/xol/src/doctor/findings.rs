//! What the facts mean.

use super::facts::{Facts, ProcessFacts};
use super::parse::{has_capability, has_flag, release, setting};

/// `CAP_SYS_PTRACE` of linux/capability.h.
pub(super) const CAP_SYS_PTRACE: u32 = 19;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name: one word, stable for scripts.
    pub check: &'static str,
    /// Whether it is as xol wants it.
    pub ok: bool,
    /// What was found, and what follows.
    pub detail: String,
    /// What would make it better.
    pub fix: Option<String>,
}

/// Judges all facts: the machine's first, then the process's.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let machine = [kernel, yama, selinux, forced_write, memfd, clock, cpu, shadow_stack];
    let mut findings: Vec<Finding> = machine.iter().filter_map(|check| check(facts)).collect();
    if let Some(process) = &facts.process {
        let checks = [
            permission,
            user,
            dumpable,
            tracer,
            word_size,
            seccomp,
            namespaces,
            mappings,
            threads_shadow_stack,
            leftovers,
        ];
        findings.extend(checks.iter().filter_map(|check| check(facts, process)));
    }
    findings
}

fn good(check: &'static str, detail: impl Into<String>) -> Option<Finding> {
    Some(Finding { check, ok: true, detail: detail.into(), fix: None })
}

fn bad(check: &'static str, detail: impl Into<String>, fix: &str) -> Option<Finding> {
    Some(Finding { check, ok: false, detail: detail.into(), fix: Some(fix.into()) })
}

/// membarrier's SYNC_CORE came in 4.16, `pidfd_getfd` in 5.6 (their manual pages).
fn kernel(facts: &Facts) -> Option<Finding> {
    let text = facts.kernel.trim();
    match release(text) {
        Some(version) if version >= (5, 6) => {
            good("kernel", format!("{text}: has pidfd_getfd and membarrier SYNC_CORE"))
        }
        Some(_) => bad("kernel", format!("{text}: pidfd_getfd is missing"), "use Linux 5.6 or later"),
        None => bad("kernel", "the release is unknown".to_string(), "mount /proc"),
    }
}

fn yama(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "yama";
    let Some(scope) = facts.ptrace_scope.as_deref().map(str::trim) else {
        return good(CHECK, "not built in: processes of the same user may be traced");
    };
    let privileged = has_capability(&facts.own_status, CAP_SYS_PTRACE);
    match scope {
        "0" => good(CHECK, "ptrace_scope 0: processes of the same user may be traced"),
        "1" if privileged => good(CHECK, "ptrace_scope 1, which CAP_SYS_PTRACE overrides"),
        "2" if privileged => good(CHECK, "ptrace_scope 2, and CAP_SYS_PTRACE is held"),
        "1" => bad(
            CHECK,
            "ptrace_scope 1: only commands that xol starts may be traced (and processes that allow it)",
            "start the program with `xol ... -- CMD`, or as root: sysctl kernel.yama.ptrace_scope=0",
        ),
        "2" => bad(
            CHECK,
            "ptrace_scope 2: tracing needs CAP_SYS_PTRACE",
            "as root: sysctl kernel.yama.ptrace_scope=1, or run xol with CAP_SYS_PTRACE",
        ),
        _ => bad(
            CHECK,
            format!("ptrace_scope {scope}: nobody may trace"),
            "reboot with another kernel.yama.ptrace_scope",
        ),
    }
}

fn selinux(facts: &Facts) -> Option<Finding> {
    // The file holds the present and the pending value.
    match facts.deny_ptrace.as_deref()?.split_whitespace().next() {
        Some("1") => {
            bad("selinux", "deny_ptrace is on: tracing is forbidden", "as root: setsebool deny_ptrace off")
        }
        _ => good("selinux", "deny_ptrace is off"),
    }
}

fn forced_write(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "text-write";
    let policy = setting(&facts.command_line, "proc_mem.force_override");
    match &facts.forced_write {
        None => good(CHECK, "/proc/PID/mem can write to text"),
        Some(error) => good(
            CHECK,
            format!(
                "/proc/PID/mem cannot write to text here ({error}{}): PTRACE_POKETEXT will be used, a word at a time",
                policy.map(|policy| format!(", proc_mem.force_override={policy}")).unwrap_or_default()
            ),
        ),
    }
}

/// 0: executable unless asked otherwise; 1: not executable unless asked otherwise; 2: never executable.
fn memfd(facts: &Facts) -> Option<Finding> {
    match facts.memfd_noexec.as_deref().map(str::trim) {
        Some("2") => bad(
            "memfd",
            "vm.memfd_noexec is 2: stubs cannot live in a memfd",
            "as root: sysctl vm.memfd_noexec=1 in the target's pid namespace",
        ),
        _ => good("memfd", "executable memfds are allowed"),
    }
}

fn clock(facts: &Facts) -> Option<Finding> {
    let source = facts.clocksource.trim();
    let is_steady = ["constant_tsc", "nonstop_tsc"].iter().all(|flag| has_flag(&facts.cpuinfo, flag));
    match source {
        "tsc" | "kvm-clock" if is_steady => {
            good("clock", format!("{source} with a constant, never stopping TSC"))
        }
        _ => bad(
            "clock",
            format!(
                "clock source `{source}`{}",
                if is_steady { "" } else { ", TSC not constant or stops in idle" }
            ),
            "times between CPUs are not to be trusted; those of one thread on one CPU are",
        ),
    }
}

fn cpu(facts: &Facts) -> Option<Finding> {
    let lacks: Vec<&str> =
        ["rdpid", "fsgsbase", "lahf_lm"].into_iter().filter(|f| !has_flag(&facts.cpuinfo, f)).collect();
    match lacks[..] {
        [] => good("cpu", "has rdpid, fsgsbase and lahf"),
        _ if lacks.contains(&"lahf_lm") => {
            bad("cpu", "has no lahf in 64-bit mode, which stubs save flags with", "use a CPU made after 2006")
        }
        _ => good(
            "cpu",
            format!(
                "without {}: other, slower ways are used where no thread pointer is",
                lacks.join(" and ")
            ),
        ),
    }
}

fn shadow_stack(facts: &Facts) -> Option<Finding> {
    match has_flag(&facts.cpuinfo, "user_shstk") {
        true => good("shadow-stack", "supported: in programs that use it, probes on calls are refused"),
        false => good("shadow-stack", "not supported by this machine, so never in the way"),
    }
}

fn permission(facts: &Facts, process: &ProcessFacts) -> Option<Finding> {
    const CHECK: &str = "permission";
    let Some(error) = &process.open_memory else {
        return good(CHECK, format!("process {} may be traced", process.pid));
    };
    let detail = format!("process {} may not be traced: {error}", process.pid);
    bad(CHECK, detail, obstacle(facts, process))
}

/// What stands in the way, the most certain first.
pub(super) fn obstacle(facts: &Facts, process: &ProcessFacts) -> &'static str {
    let (own, theirs) = (facts.own_status.uids, process.status.uids);
    let scope = facts.ptrace_scope.as_deref().map(str::trim);
    if facts.deny_ptrace.as_deref().is_some_and(|text| text.starts_with('1')) {
        "as root: setsebool deny_ptrace off"
    } else if scope == Some("3") {
        "reboot with another kernel.yama.ptrace_scope"
    } else if !is_same_user(own, theirs) {
        "run xol as the process's user, or with CAP_SYS_PTRACE"
    } else if is_undumpable(process) {
        "the process has made itself untraceable (prctl PR_SET_DUMPABLE, or more privileges than its user): \
         run xol with CAP_SYS_PTRACE"
    } else if scope == Some("1") {
        "start the program with `xol ... -- CMD`, or as root: sysctl kernel.yama.ptrace_scope=0"
    } else {
        "run xol with CAP_SYS_PTRACE, outside the container if the process is in another one"
    }
}

/// The kernel compares the tracer's user with all three of the target's (ptrace(2), "Ptrace access mode checking").
fn is_same_user(own: Option<[u32; 4]>, theirs: Option<[u32; 4]>) -> bool {
    match (own, theirs) {
        (Some([_, effective, ..]), Some(theirs)) => theirs[..3].iter().all(|user| *user == effective),
        _ => true,
    }
}

fn is_undumpable(process: &ProcessFacts) -> bool {
    process.status.uids.is_some_and(|[_, effective, ..]| process.owner != effective)
}

fn user(facts: &Facts, process: &ProcessFacts) -> Option<Finding> {
    let (own, theirs) = (facts.own_status.uids, process.status.uids);
    let same_namespace =
        process.user_namespace == facts.own_user_namespace || process.user_namespace.is_empty();
    let names =
        theirs.map_or("unknown".into(), |[real, effective, ..]| format!("{real} (effective {effective})"));
    if is_same_user(own, theirs) && same_namespace {
        return good("user", format!("same user: {names}"));
    }
    let detail = match same_namespace {
        true => format!("another user: {names}"),
        false => format!("user {names}, in another user namespace"),
    };
    match has_capability(&facts.own_status, CAP_SYS_PTRACE) {
        true => good("user", format!("{detail}; CAP_SYS_PTRACE is held")),
        false => bad("user", detail, "run xol as the process's user, or with CAP_SYS_PTRACE"),
    }
}

fn dumpable(facts: &Facts, process: &ProcessFacts) -> Option<Finding> {
    match is_undumpable(process) {
        false => good("dumpable", "yes"),
        true if has_capability(&facts.own_status, CAP_SYS_PTRACE) => {
            good("dumpable", "no; CAP_SYS_PTRACE is held")
        }
        true => bad("dumpable", "no: the kernel protects this process", "run xol with CAP_SYS_PTRACE"),
    }
}

fn tracer(_: &Facts, process: &ProcessFacts) -> Option<Finding> {
    match process.status.tracer {
        Some(0) | None => good("tracer", "none"),
        Some(tracer) => bad(
            "tracer",
            format!("already traced by process {tracer}"),
            "a process has one tracer: end the other (gdb, strace, another xol) first",
        ),
    }
}

/// Byte 4 of an ELF file is its class, bytes 18 and 19 its machine (elf(5)); 62 is x86-64.
fn word_size(_: &Facts, process: &ProcessFacts) -> Option<Finding> {
    match process.executable[..] {
        [0x7f, b'E', b'L', b'F', 2, .., 62, 0] => good("program", "64-bit x86"),
        [0x7f, b'E', b'L', b'F', ..] => {
            bad("program", "neither 64-bit nor x86: not supported yet", "trace a 64-bit x86 build of it")
        }
        _ => None,
    }
}

fn seccomp(_: &Facts, process: &ProcessFacts) -> Option<Finding> {
    match process.status.seccomp {
        Some(0) | None => good("seccomp", "no filter"),
        Some(1) => bad(
            "seccomp",
            "strict mode: no system call can be made for xol",
            "trace it before it locks itself in",
        ),
        Some(_) => good(
            "seccomp",
            "a filter: only mmap, munmap and rt_sigaction are used in the process; its area has no name then \
             (--inject-freely uses more, for which the filter may kill it)",
        ),
    }
}

/// Nothing of this prevents anything: it says how names and numbers are to be read.
fn namespaces(_: &Facts, process: &ProcessFacts) -> Option<Finding> {
    const CHECK: &str = "namespaces";
    let has_root = !matches!(process.root.as_str(), "" | "/");
    if process.foreign.is_empty() && !has_root {
        return good(CHECK, "the same as yours");
    }
    let mut parts = Vec::new();
    if !process.foreign.is_empty() {
        parts.push(format!("others than yours: {}", process.foreign.join(", ")));
    }
    if has_root {
        parts.push(format!("its root directory is {}", process.root));
    }
    if has_root || process.foreign.contains(&"mnt") {
        parts.push("a PATH is meant as the process sees it".to_owned());
    }
    if process.foreign.contains(&"pid") {
        parts.push("pids and tids are given as you see them".to_owned());
    }
    good(CHECK, parts.join("; "))
}

fn mappings(facts: &Facts, process: &ProcessFacts) -> Option<Finding> {
    // A session of 10,000 sites makes a few dozen mappings and splits some of the program's.
    const NEEDED: usize = 256;
    let used = Some(process.maps.lines().count()).filter(|used| *used > 0)?;
    let limit: usize = facts.max_map_count.trim().parse().ok()?;
    match limit.saturating_sub(used) {
        room if room >= NEEDED => good("mappings", format!("{used} of {limit}")),
        _ => bad(
            "mappings",
            format!("{used} of {limit}: little room for stubs"),
            "as root: raise sysctl vm.max_map_count",
        ),
    }
}

fn threads_shadow_stack(_: &Facts, process: &ProcessFacts) -> Option<Finding> {
    let in_use =
        process.status.shadow_stack.then_some("shadow stack in use: probes on call instructions are refused");
    in_use.and_then(|detail| good("calls", detail))
}

fn leftovers(_: &Facts, process: &ProcessFacts) -> Option<Finding> {
    const CHECK: &str = "leftovers";
    let dead = process.areas.iter().filter(|area| !area.is_owner_alive);
    let patches: usize = dead.clone().map(|area| area.patches).sum();
    match (dead.clone().next(), process.areas.first()) {
        // What may not be looked at may hold anything.
        (_, None) if process.open_memory.is_some() => None,
        (_, None) => good(CHECK, "none"),
        (None, Some(area)) => good(CHECK, format!("an xol (process {}) is at work here", area.owner)),
        (Some(area), _) => bad(
            CHECK,
            format!("{patches} patched places, and an area at {}, of an xol that is gone", area.address),
            "xol detach -p PID removes them",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::AreaFacts;
    use super::*;
    use insn::Address;
    use symbols::status::Status;

    fn status(text: &str) -> Status {
        Status::parse(text.as_bytes())
    }

    /// An ordinary user on an ordinary machine.
    fn facts() -> Facts {
        Facts {
            kernel: "6.1.0-13-amd64\n".into(),
            cpuinfo: "flags\t: tsc constant_tsc nonstop_tsc rdpid fsgsbase lahf_lm\n".into(),
            clocksource: "tsc\n".into(),
            ptrace_scope: Some("0\n".into()),
            max_map_count: "65530\n".into(),
            own_status: status("Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n"),
            own_user_namespace: "user:[1]".into(),
            process: Some(ProcessFacts {
                pid: 7,
                status: status("Uid:\t1000\t1000\t1000\t1000\nTracerPid:\t0\nSeccomp:\t0\n"),
                maps: "1-2 r-xp 0 0:0 0\n".into(),
                user_namespace: "user:[1]".into(),
                foreign: Vec::new(),
                root: "/".into(),
                owner: 1000,
                areas: Vec::new(),
                executable: vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 62, 0],
                open_memory: None,
            }),
            ..Facts::default()
        }
    }

    fn finding(facts: &Facts, check: &str) -> Finding {
        let mut findings = examine(facts).into_iter().filter(|finding| finding.check == check);
        let only = findings.next().unwrap_or_else(|| panic!("no finding {check}"));
        assert!(findings.next().is_none(), "{check} twice");
        only
    }

    fn process(facts: &mut Facts) -> &mut ProcessFacts {
        facts.process.as_mut().unwrap()
    }

    #[test]
    fn nothing_to_complain_about() {
        let bad: Vec<Finding> = examine(&facts()).into_iter().filter(|finding| !finding.ok).collect();
        assert_eq!(bad, []);
    }

    #[test]
    fn what_is_not_ok_has_a_fix() {
        let mut facts = Facts { clocksource: "hpet".into(), ptrace_scope: Some("3".into()), ..facts() };
        facts.kernel = "4.4.0".into();
        facts.memfd_noexec = Some("2".into());
        process(&mut facts).open_memory = Some("Permission denied".into());
        process(&mut facts).status = status("Uid:\t0\t0\t0\t0\nTracerPid:\t9\nSeccomp:\t1\n");
        let findings = examine(&facts);
        let bad: Vec<&str> =
            findings.iter().filter(|finding| !finding.ok).map(|finding| finding.check).collect();
        assert_eq!(
            bad,
            ["kernel", "yama", "memfd", "clock", "permission", "user", "dumpable", "tracer", "seccomp"]
        );
        assert!(findings.iter().all(|finding| finding.ok != finding.fix.is_some()));
    }

    #[test]
    fn yama_scopes() {
        let with = |scope: Option<&str>, capabilities: &str| {
            let own_status = status(&format!("Uid:\t1000\t1000\t1000\t1000\nCapEff:\t{capabilities}\n"));
            finding(&Facts { ptrace_scope: scope.map(Into::into), own_status, ..facts() }, "yama").ok
        };
        let (none, ptrace) = ("0", "80000");
        assert!(with(None, none) && with(Some("0\n"), none));
        assert!(!with(Some("1\n"), none) && !with(Some("2\n"), none) && !with(Some("3\n"), none));
        assert!(with(Some("1\n"), ptrace) && with(Some("2\n"), ptrace) && !with(Some("3\n"), ptrace));
    }

    #[test]
    fn obstacles_are_told_apart() {
        let mut facts = facts();
        process(&mut facts).open_memory = Some("Permission denied".into());
        facts.ptrace_scope = Some("1".into());
        assert!(finding(&facts, "permission").fix.unwrap().contains("-- CMD"));
        process(&mut facts).owner = 0;
        assert!(finding(&facts, "permission").fix.unwrap().contains("PR_SET_DUMPABLE"));
        process(&mut facts).status = status("Uid:\t0\t0\t0\t0\n");
        assert!(finding(&facts, "permission").fix.unwrap().contains("as the process's user"));
    }

    #[test]
    fn leftovers_and_a_session_at_work() {
        let mut facts = facts();
        let area = AreaFacts { address: Address(0x7f00), patches: 2, owner: 9, is_owner_alive: false };
        process(&mut facts).areas = vec![area];
        let left = finding(&facts, "leftovers");
        assert!(!left.ok && left.detail.starts_with("2 patched places, and an area at 0x7f00"), "{left:?}");
        process(&mut facts).areas = vec![AreaFacts { is_owner_alive: true, ..area }];
        assert!(finding(&facts, "leftovers").ok);
    }

    #[test]
    fn a_32_bit_program_is_not_supported_yet() {
        let mut facts = facts();
        process(&mut facts).executable[4] = 1;
        assert!(finding(&facts, "program").detail.contains("not supported yet"));
        process(&mut facts).executable.clear();
        assert!(examine(&facts).iter().all(|finding| finding.check != "program"));
    }

    #[test]
    fn names_and_numbers_of_other_namespaces() {
        let mut facts = facts();
        let detail = |facts: &Facts| finding(facts, "namespaces").detail;
        assert_eq!(detail(&facts), "the same as yours");
        process(&mut facts).foreign = vec!["mnt", "pid"];
        let both = detail(&facts);
        assert!(both.contains("mnt, pid") && both.contains("PATH") && both.contains("tids"), "{both}");
        process(&mut facts).foreign = vec!["user"];
        assert!(!detail(&facts).contains("PATH"));
        process(&mut facts).root = "/jail".into();
        assert!(detail(&facts).contains("/jail") && detail(&facts).contains("PATH"));
    }

    #[test]
    fn shadow_stacks() {
        let mut facts = facts();
        process(&mut facts).status = status("x86_Thread_features:\tshstk wrss \n");
        assert!(finding(&facts, "calls").detail.contains("refused"));
    }
}
