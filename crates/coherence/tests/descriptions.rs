//! What must hold for the description of every architecture, and its text as a golden file.

use std::path::Path;

use coherence::cache::Effect;
use coherence::{
    Action, Architecture, Citation, Description, Part, Procedure, Runner, Situation, Step, Variant, Way,
    Writer,
};

fn all() -> impl Iterator<Item = &'static Description> {
    Architecture::ALL.iter().map(|architecture| coherence::description(*architecture))
}

fn variants() -> impl Iterator<Item = &'static Variant> {
    all().flat_map(|description| description.variants)
}

fn procedures(variant: &Variant) -> impl Iterator<Item = (Writer, Situation, &Procedure)> {
    Writer::ALL.into_iter().flat_map(move |writer| {
        Situation::ALL.into_iter().filter_map(move |situation| {
            variant.procedure(writer, situation).ok().map(|procedure| (writer, situation, procedure))
        })
    })
}

fn ways(variant: &Variant) -> impl Iterator<Item = (Writer, Situation, &Way)> {
    procedures(variant).flat_map(|(writer, situation, procedure)| {
        procedure.ways.iter().map(move |way| (writer, situation, way))
    })
}

fn position(way: &Way, wanted: impl Fn(&Step) -> bool) -> Option<usize> {
    way.steps.iter().position(wanted)
}

fn has_effect(variant: &Variant, step: &Step, effect: Effect) -> bool {
    match step.action {
        Action::Perform(means) => {
            variant.operation(means).is_some_and(|operation| operation.effects.contains(&effect))
        }
        _ => false,
    }
}

/// Threads that come back from the kernel may have dropped what was fetched ahead by that alone.
fn drops_prefetched(variant: &Variant, step: &Step) -> bool {
    let returns = step.action == Action::ResumeAllThreads && variant.caches.kernel_exit.always_synchronises;
    returns || has_effect(variant, step, Effect::DropPrefetched)
}

/// `BLESS=1` writes the files anew.
#[test]
fn text_is_as_in_the_golden_files() {
    for description in all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(format!("{}.txt", description.name));
        let text = description.to_string();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, golden, "{} differs; BLESS=1 writes it anew", path.display());
    }
}

#[test]
fn caches_have_names_of_their_own() {
    for description in all() {
        for (index, variant) in description.variants.iter().enumerate() {
            let again = description.variants[index + 1..].iter().any(|other| other.name == variant.name);
            assert!(!again, "{} {}", description.name, variant.name);
        }
    }
}

#[test]
fn names_find_their_architecture() {
    for name in ["x86", "x86-64", "i386"] {
        assert_eq!(Architecture::named(name), Some(Architecture::X86));
    }
    assert_eq!(Architecture::named("aarch64"), Some(Architecture::Arm64));
    assert_eq!(Architecture::named("pdp11"), None);
    assert_eq!(Architecture::X86.to_string(), "x86");
}

#[test]
fn every_statement_is_cited() {
    fn cited(citations: &[Citation], what: &str) {
        assert!(!citations.is_empty(), "no source for: {what}");
    }
    for variant in variants() {
        let caches = &variant.caches;
        cited(caches.instruction.citations, "instruction cache");
        cited(caches.data.citations, "data cache");
        cited(caches.prefetch.citations, "prefetch");
        cited(caches.context_switch.citations, "context switch");
        cited(caches.kernel_exit.citations, caches.kernel_exit.note);
        cited(caches.mapping.citations, "mapping");
        for care in caches.debugger_write {
            cited(care.citations, care.note);
            for operation in care.before.iter().chain(care.steps) {
                cited(operation.citations, &operation.means.to_string());
            }
        }
        for operation in variant.operations {
            cited(operation.citations, &operation.means.to_string());
        }
        for (_, _, way) in ways(variant) {
            for step in way.steps {
                cited(step.citations, &step.to_string());
                assert!(!step.why.is_empty(), "no reason for: {step}");
            }
        }
    }
}

#[test]
fn every_lookup_has_steps_or_a_reason() {
    for variant in variants() {
        for writer in Writer::ALL {
            for situation in Situation::ALL {
                match variant.procedure(writer, situation) {
                    Ok(procedure) => {
                        assert!(!procedure.ways.is_empty(), "{writer}, {situation}: no way");
                        let best = procedure.way(|_| true).unwrap();
                        assert_eq!(best.requires, procedure.ways[0].requires, "the best way comes first");
                    }
                    Err(unfit) => {
                        assert!(!unfit.to_string().is_empty(), "{writer}, {situation}: no reason");
                        assert!(!unfit.citations.is_empty(), "{writer}, {situation}: no source");
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_is_performed_is_described() {
    for variant in variants() {
        for (writer, situation, way) in ways(variant) {
            for step in way.steps {
                if let Action::Perform(means) = step.action {
                    assert!(
                        variant.operation(means).is_some(),
                        "{writer}, {situation}: {means} is not described"
                    );
                }
            }
        }
    }
}

#[test]
fn operations_are_described_once() {
    for variant in variants() {
        for (index, operation) in variant.operations.iter().enumerate() {
            let again = variant.operations[index + 1..].iter().any(|other| other.means == operation.means);
            assert!(!again, "{} is described twice", operation.means);
        }
    }
}

/// A stop is always ended, and nothing is written between its end and the way's end.
#[test]
fn stops_are_balanced_and_enclose_the_writes() {
    for variant in variants() {
        for (writer, situation, way) in ways(variant) {
            let stop = position(way, |step| step.action == Action::StopAllThreads);
            let resume = position(way, |step| step.action == Action::ResumeAllThreads);
            let Some(stop) = stop else {
                assert_eq!(resume, None, "{writer}, {situation}: goes on without a stop");
                continue;
            };
            assert_eq!(
                resume,
                Some(way.steps.len() - 1),
                "{writer}, {situation}: the stop does not end last"
            );
            let write = position(way, |step| matches!(step.action, Action::Write(_))).unwrap();
            assert!(stop < write, "{writer}, {situation}: writes before the stop");
        }
    }
}

/// Where prefetched bytes may be stale and the kernel does nothing about it, each write to code that is in use is followed by a synchronisation, and fresh
/// code is published by a procedure that has one.
#[test]
fn every_write_is_followed_by_a_synchronisation() {
    for variant in variants().filter(|variant| variant.caches.debugger_write[0].steps.is_empty()) {
        for (writer, situation, way) in ways(variant) {
            for (index, _) in
                way.steps.iter().enumerate().filter(|(_, step)| matches!(step.action, Action::Write(_)))
            {
                let follows = way.steps[index + 1..]
                    .iter()
                    .take_while(|step| !matches!(step.action, Action::Write(_)))
                    .any(|step| {
                        drops_prefetched(variant, step) || matches!(step.action, Action::PublishBy(_))
                    });
                assert!(follows, "{writer}, {situation}: step {} is not synchronised", index + 1);
            }
        }
        for (writer, situation, way) in ways(variant) {
            for step in way.steps {
                if let Action::PublishBy(later) = step.action {
                    let publishing = variant.procedure(Writer::DebuggerWrite, later).unwrap();
                    assert!(
                        publishing
                            .ways
                            .iter()
                            .all(|way| way.steps.iter().any(|step| drops_prefetched(variant, step))),
                        "{writer}, {situation}: published without a synchronisation"
                    );
                }
            }
        }
    }
}

/// The registration waits for milliseconds: it must not lie inside a stop, and must come before what needs it.
#[test]
fn slow_preparation_is_outside_the_stop_and_before_its_use() {
    for variant in variants() {
        for (writer, situation, way) in ways(variant) {
            let prepares = |step: &Step| has_effect(variant, step, Effect::Prepare);
            let needs_it = !way.requires.is_empty();
            assert_eq!(position(way, prepares).is_some(), needs_it, "{writer}, {situation}");
            if needs_it {
                assert_eq!(position(way, prepares), Some(0), "{writer}, {situation}: prepared too late");
            }
        }
    }
}

#[test]
fn x86_writes_live_text_without_membarrier_by_iret() {
    let x86 = coherence::description(Architecture::X86);
    let procedure = x86.procedure(Writer::DebuggerWrite, Situation::LiveTextStopped).unwrap();
    let way = procedure.way(|_| false).unwrap();
    let actions: Vec<_> = way.steps.iter().map(|step| (step.by, step.action)).collect();
    assert_eq!(
        actions,
        [
            (Runner::Writer, Action::StopAllThreads),
            (Runner::Writer, Action::EmptySpan),
            (Runner::Writer, Action::Write(Part::All)),
            (Runner::WriterOnEveryCpu, Action::Perform(coherence::Means::Visit)),
            (Runner::EveryThread, Action::Perform(coherence::Means::ResumeByIret)),
            (Runner::Writer, Action::ResumeAllThreads),
        ]
    );
}

#[test]
fn x86_running_text_changes_breakpoint_tail_first_byte() {
    let x86 = coherence::description(Architecture::X86);
    let procedure = x86.procedure(Writer::DebuggerWrite, Situation::LiveTextRunning).unwrap();
    assert!(procedure.way(|_| false).is_none(), "without a barrier running text must not be changed");
    let written: Vec<_> = procedure.ways[0]
        .steps
        .iter()
        .filter_map(|step| match step.action {
            Action::Write(part) => Some(part),
            _ => None,
        })
        .collect();
    assert_eq!(written, [Part::Breakpoint, Part::Tail, Part::FirstUnit]);
}

#[test]
fn membarrier_commands_are_the_kernels() {
    use coherence::SystemCall;
    let command =
        |call: SystemCall| call.membarrier_command().and_then(|command| i32::try_from(command).ok());
    assert_eq!(
        command(SystemCall::MembarrierRegisterSyncCore),
        Some(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)
    );
    assert_eq!(
        command(SystemCall::MembarrierSyncCore),
        Some(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)
    );
    assert_eq!(command(SystemCall::MprotectReadExecute), None);
}

#[test]
fn running_text_fits_the_width() {
    for variant in variants() {
        for line in variant.to_string().lines().filter(|line| line.starts_with("       because")) {
            assert!(line.chars().count() <= 110, "{line}");
        }
    }
}
