//! The answer in one sentence.

use super::facts::{Facts, ProcessFacts};
use super::findings::{CAP_SYS_PTRACE, obstacle};
use super::parse::has_capability;

/// What can be traced, and what would permit more.
#[must_use]
pub fn verdict(facts: &Facts) -> String {
    match &facts.process {
        Some(process) => of_process(facts, process),
        None => of_machine(facts),
    }
}

fn of_process(facts: &Facts, process: &ProcessFacts) -> String {
    let pid = process.pid;
    if let Some(tracer) = process.status.tracer.filter(|tracer| *tracer != 0) {
        return format!("You cannot trace process {pid} while process {tracer} does; end that one first.");
    }
    match process.open_memory {
        None => format!("You can trace process {pid}."),
        Some(_) => {
            format!("You cannot trace process {pid}; what would permit it: {}.", obstacle(facts, process))
        }
    }
}

fn of_machine(facts: &Facts) -> String {
    let privileged = has_capability(&facts.own_status, CAP_SYS_PTRACE);
    let denied = facts.deny_ptrace.as_deref().is_some_and(|text| text.starts_with('1'));
    let scope = facts.ptrace_scope.as_deref().map_or("0", str::trim);
    match scope {
        _ if denied => {
            "You cannot trace anything: SELinux's deny_ptrace is on, and turning it off would permit it."
                .into()
        }
        "0" | "1" | "2" if privileged => "You can trace every process that this user namespace owns.".into(),
        "0" => "You can trace your own processes; those of other users need CAP_SYS_PTRACE.".into(),
        "1" => "You can trace commands that xol starts (`-- CMD`); running processes of yours need \
                kernel.yama.ptrace_scope=0, and those of others CAP_SYS_PTRACE."
            .into(),
        "2" => {
            "You cannot trace anything; CAP_SYS_PTRACE, or kernel.yama.ptrace_scope below 2, would permit it."
                .into()
        }
        _ => "You cannot trace anything: kernel.yama.ptrace_scope forbids it until the next boot.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbols::status::Status;

    fn machine(scope: Option<&str>, capabilities: &str) -> String {
        verdict(&Facts {
            ptrace_scope: scope.map(Into::into),
            own_status: Status::parse(format!("CapEff:\t{capabilities}\n").as_bytes()),
            ..Facts::default()
        })
    }

    #[test]
    fn one_sentence_each() {
        for scope in [None, Some("0\n"), Some("1\n"), Some("2\n"), Some("3\n"), Some("what\n")] {
            for capabilities in ["0", "80000"] {
                let text = machine(scope, capabilities);
                assert!(text.starts_with("You can") && text.ends_with('.'), "{text}");
                assert_eq!(text.matches(". ").count(), 0, "{text}");
            }
        }
    }

    #[test]
    fn they_differ_where_it_matters() {
        assert!(machine(Some("1"), "0").contains("-- CMD"));
        assert!(machine(Some("1"), "80000").contains("every process"));
        assert!(machine(Some("3"), "80000").contains("cannot trace anything"));
    }

    #[test]
    fn of_a_process() {
        let mut process =
            ProcessFacts { pid: 7, status: Status::parse(b"TracerPid:\t9\n"), ..ProcessFacts::default() };
        let of =
            |process: &ProcessFacts| verdict(&Facts { process: Some(process.clone()), ..Facts::default() });
        assert!(of(&process).contains("while process 9 does"));
        process.status = Status::default();
        assert_eq!(of(&process), "You can trace process 7.");
        process.open_memory = Some("Permission denied".into());
        assert!(of(&process).starts_with("You cannot trace process 7; what would permit it: "));
    }
}
